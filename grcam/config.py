"""GRCAM's released numbers, and where its images come from."""

from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from common.datasets import DataSource
from common.system.errors import UserError

THRESHOLDS = (0.85, 0.86, 0.87, 0.88, 0.89, 0.9, 0.91, 0.92, 0.93)
"""The release's `th`; a map is cut at the fraction 1 - th of its greatest value. Its files are named after them."""
SIDE = 224
"""Side of the frame that all boxes are in, and of the network's input, whole images squashed."""
LABEL_FACTOR = 10.0
"""The loss is the cross-entropy with this many times the one-hot label."""
REVISION_FACTOR = 2.0
"""Step 4 subtracts this many times the revised gradient, once."""

CLASS_FILE, BOXES_PREFIX, PSEUDO_FILE = "class.txt", "boxes/", "pseudo.txt"
"""The hand-over files' places below the folder that `run_test.sh` fills."""

MODES = ("resnet50se", "vgg", "inceptionv3", "mobilenetv1")
"""Classifiers of step 1; the release has the first three."""
Mode = Literal["resnet50se", "vgg", "inceptionv3", "mobilenetv1"]


@dataclass(frozen=True, kw_only=True)
class Images:
    """Choice of images, which steps 1 and 4 share."""

    data: DataSource = DataSource("cub", Path("CUB_200_2011"))  # noqa: RUF009, it is frozen
    """A data set; as the release has it, --image-path, --annotation-path and --synset name ILSVRC's validation set."""
    image_path: Path | None = None
    """The release's option: a flat folder of ILSVRC2012_val_*.JPEG."""
    annotation_path: Path | None = None
    """The release's option: a flat folder of their XML files."""
    synset: Path = Path("synset1.txt")
    """The release's list of classes, `wnid words`, one a line in the labels' order; read with --image-path."""

    def source(self, folder: Path) -> DataSource:
        """The data set, which for --image-path is described by three links made in `folder`.

        Raises:
            UserError: only one of the two paths is given, one is not there, or other links are.
        """
        if self.image_path is None and self.annotation_path is None:
            return self.data
        if self.image_path is None or self.annotation_path is None:
            raise UserError("--image-path and --annotation-path go together", do="give both, or --data.name and .root")
        for name, target in (("val", self.image_path), ("val_xml", self.annotation_path), ("synset1.txt", self.synset)):
            _link(folder / name, target)
        return DataSource("ilsvrc", folder, split="val")


def _link(place: Path, target: Path) -> None:
    if not target.exists():
        raise UserError("no such file or folder", where=target)
    if not place.is_symlink():
        place.parent.mkdir(parents=True, exist_ok=True)
        place.symlink_to(target.resolve())
    elif place.resolve() != target.resolve():
        raise UserError(f"the link leads to {place.resolve()}", where=place, expected=str(target), do="delete it")


Gradient = Literal["released", "true", "tf", "exact"]
GRADIENTS: tuple[Gradient, ...] = ("released", "true")
"""Forms of the loss's gradient by the scores, as DGL's; see `grcam.graph`, quirk Q1."""
OLDER_GRADIENTS: dict[Gradient, Gradient] = {"released": "tf", "true": "exact"}
"""Older names of the same, which the command still takes, and stores, so that earlier predictions go on."""

TINY = 1e-12
"""The least squared norm that something is divided by, TensorFlow's."""
