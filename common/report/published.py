"""Figures that the papers and their READMEs report, in percent, to stand beside measured figures on the same data."""

from dataclasses import dataclass


@dataclass(frozen=True)
class Published:
    """A published localization accuracy.

    Attributes:
        method: the paper's name for it.
        architecture: the localizing network; a separate classifier behind a plus.
        dataset: `cub` (200 classes) or `ilsvrc` (validation, 1,000 classes).
        top1, top5, gt_known: in percent, None where the source gives none.
        source: where it is printed.
    """

    method: str
    architecture: str
    dataset: str
    top1: float
    top5: float | None
    gt_known: float | None
    source: str


_BAS, _EXT, _SPOL = "README of BAS", "README of BAS-Extension", "README of SPOL"

PUBLISHED = (
    Published("SPOL", "ResNet50 + DenseNet161", "cub", 79.74, 93.69, 96.46, _SPOL),
    Published("SPOL", "ResNet50 + EfficientNet-B7", "cub", 80.12, 93.44, 96.46, _SPOL),
    Published("SPOL", "ResNet50 + DenseNet161", "ilsvrc", 56.40, 66.48, 69.02, _SPOL),
    Published("SPOL", "ResNet50 + EfficientNet-B7", "ilsvrc", 59.14, 67.15, 69.02, _SPOL),
    Published("BAS", "VGG16", "cub", 71.33, 85.33, 91.07, _BAS),
    Published("BAS", "MobileNetV1", "cub", 69.77, 86.00, 92.35, _BAS),
    Published("BAS", "ResNet50", "cub", 77.25, 90.08, 95.13, _BAS),
    Published("BAS", "InceptionV3", "cub", 73.29, 86.31, 92.24, _BAS),
    Published("BAS", "VGG16", "ilsvrc", 52.96, 65.41, 69.64, _BAS),
    Published("BAS", "MobileNetV1", "ilsvrc", 52.97, 66.59, 72.00, _BAS),
    Published("BAS", "ResNet50", "ilsvrc", 57.18, 68.44, 71.77, _BAS),
    Published("BAS", "InceptionV3", "ilsvrc", 58.51, 69.00, 71.93, _BAS),
    Published("BAS", "VGG16", "cub", 70.90, 85.36, 91.04, _EXT),
    Published("BAS", "MobileNetV1", "cub", 70.54, 86.71, 93.04, _EXT),
    Published("BAS", "ResNet50", "cub", 76.75, 90.04, 95.41, _EXT),
    Published("BAS", "InceptionV3", "cub", 72.09, 88.11, 94.63, _EXT),
    Published("BAS", "VGG16", "ilsvrc", 52.94, 65.38, 69.66, _EXT),
    Published("BAS", "MobileNetV1", "ilsvrc", 53.05, 66.68, 72.03, _EXT),
    Published("BAS", "ResNet50", "ilsvrc", 57.46, 68.57, 72.00, _EXT),
    Published("BAS", "InceptionV3", "ilsvrc", 58.50, 69.03, 72.07, _EXT),
    Published("GRCAM", "not named", "ilsvrc", 57.06, None, None, "README of GRCAM, as an error of 42.94"),
)

WHOLE = {"cub": (200, 5794), "ilsvrc": (1000, 50000)}
"""Classes and images of the data sets that the figures were measured on; figures on fewer can't be compared."""
MOST_OF_THEM = 0.95
"""Share of the images that has to be there, since lists of images to leave out are in use."""


def published(dataset: str | None, classes: int, images: int) -> list[Published]:
    """The figures for a data set, none where it is cut to fewer classes or images, or is another split."""
    return [row for row in PUBLISHED if row.dataset == dataset and _whole(row.dataset, classes, images)]


def _whole(dataset: str, classes: int, images: int) -> bool:
    every = WHOLE[dataset]
    return classes == every[0] and MOST_OF_THEM * every[1] <= images <= every[1]
