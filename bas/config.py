"""The three released variants of BAS, and every backbone's hyper-parameters, as frozen records.

`CUB` and `ILSVRC` are the two halves of the CVPR 2022 release, `EXT` is the authors' re-release of 2023 for the journal
version. They are one code here; what differs stands in these records.
"""

from dataclasses import dataclass, fields, replace
from typing import Any

from common.system.options import grouped

ARCHITECTURES = ("vgg", "mobilenet", "resnet", "inception")


@dataclass(frozen=True)
class Variant:
    """Differences of the releases, in the network and the loss.

    Attributes:
        name: `CUB`, `ILSVRC` or `EXT`.
        head_relu: the head ends in a ReLU, so scores are never negative (EXT dropped it).
        rectified: S and S_bg pass a ReLU before the suppression loss (EXT).
        masked_from: where S_bg reaches S, `>=`, or only where it exceeds S, `>`, the ratio becomes a constant.
        masked_value: that constant; no gradient flows either way.
        epsilon: added to the map's range when it is normalized for inference.
        classes: of the released networks.
    """

    name: str
    head_relu: bool
    rectified: bool
    masked_from: str
    masked_value: float
    epsilon: float
    classes: int

    def masked_ratio(self, arch: str) -> float:
        """`masked_value`, but EXT's VGG writes 0 like the others; it moves the printed loss and no gradient."""
        return 0.0 if arch == "vgg" else self.masked_value


VARIANTS = {
    "CUB": Variant("CUB", True, False, ">=", 0.0, 0.0, 200),
    "ILSVRC": Variant("ILSVRC", True, False, ">", 0.0, 0.0, 1000),
    "EXT": Variant("EXT", False, True, ">", 1.0, 1e-5, 200),
}


@dataclass(frozen=True)
class Recipe:
    """Released hyper-parameters of one backbone on one data set.

    Attributes:
        alpha: weight of the foreground region guidance.
        beta: weight of the area constraint.
        top_k: how many of the best-scoring classes' maps are averaged at inference; None is the true class's map.
        threshold: on the normalized map.
        epochs: passes over the training images.
        decay_epochs: after each that many epochs every learning rate is divided by ten.
        batch_size: images a step, over all devices.
        bn_chunks: parts of a batch that batch norm looks at one by one; the release ran on four GPUs.
        seed: of numpy, torch and Python.
    """

    alpha: float
    beta: float
    top_k: int | None
    threshold: float
    epochs: int
    decay_epochs: int
    batch_size: int
    bn_chunks: int
    seed: int


def _recipes(*shared: int, **by_arch: tuple) -> dict[str, Recipe]:
    """`shared` holds the last five attributes of every `Recipe`, `by_arch` the first four of each."""
    return {arch: Recipe(*own, *shared) for arch, own in by_arch.items()}


RECIPES: dict[tuple[str, str], dict[str, Recipe]] = {
    ("CUB", "cub"): _recipes(
        100, 80, 32, 1, 6,
        vgg=(0.0, 0.7, 80, 0.15), mobilenet=(0.5, 1.5, 200, 0.15),
        resnet=(0.5, 1.2, 200, 0.15), inception=(0.5, 1.0, 200, 0.10),
    ),
    ("ILSVRC", "ilsvrc"): _recipes(
        9, 3, 128, 4, 2,
        vgg=(0.05, 1.0, None, 0.5), mobilenet=(0.5, 1.5, None, 0.5),
        resnet=(1.0, 2.0, None, 0.45), inception=(1.0, 2.5, None, 0.30),
    ),
    ("EXT", "cub"): _recipes(
        120, 80, 32, 1, 6,
        vgg=(0.0, 0.9, 80, 0.1), mobilenet=(0.5, 1.9, 80, 0.1),
        resnet=(0.5, 1.5, 200, 0.1), inception=(0.5, 1.0, 200, 0.1),
    ),
    ("EXT", "ilsvrc"): _recipes(
        9, 3, 128, 1, 0,
        vgg=(0.05, 1.0, None, 0.45), mobilenet=(0.5, 1.5, None, 0.5),
        resnet=(1.0, 2.0, None, 0.25), inception=(1.0, 2.5, None, 0.25),
    ),
    ("EXT", "openimages"): _recipes(120, 20, 64, 1, 6, resnet=(0.5, 1.5, None, 0.1)),
}  # fmt: skip
"""Recipes by variant and data set.

EXT's OpenImages table says 50 epochs, and its loop reads another name, so 120 ran; no threshold was released for it.
"""
RECIPES["EXT", "ilsvrc"]["vgg"] = replace(RECIPES["EXT", "ilsvrc"]["vgg"], batch_size=256)

LEARNING_RATE, MOMENTUM, WEIGHT_DECAY = 0.001, 0.9, 5e-4
"""Optimizer settings of every variant; SGD with Nesterov's momentum, decay on every parameter."""
RATE_FACTORS = (1, 2, 10, 20)
"""Factors of the rates of backbone weights and biases, then of weights and biases of head and generator."""


def released_values() -> dict[str, str]:
    """Each hyper-parameter's released values in words, for `--help`: "9 (ILSVRC, EXT ilsvrc), 100 (CUB), ..."."""
    tables = {variant if variant.lower() == dataset else f"{variant} {dataset}": table
              for (variant, dataset), table in RECIPES.items()}  # fmt: skip
    words = {}
    for field in fields(Recipe):
        values: dict[str, Any] = {}
        for name, table in tables.items():
            found = {arch: getattr(recipe, field.name) for arch, recipe in table.items()}
            found = {arch: "gt" if value is None else value for arch, value in found.items()}
            alike = len(set(found.values())) == 1
            values |= {name if alike else f"{name} {arch}": value for arch, value in found.items()}
        words[field.name] = grouped(values)
    return words


def recipe(variant: str, dataset: str, arch: str) -> Recipe:
    """The released hyper-parameters; for a data set that the variant was not released for, those it has for another.

    Raises:
        ValueError: an unknown variant or architecture, or one that was not released for this data set.
    """
    tables = {name: table for (owner, name), table in RECIPES.items() if owner == variant}
    if not tables:
        raise ValueError(f"unknown variant {variant!r}, expected one of {', '.join(VARIANTS)}")
    table = tables.get(dataset, next(iter(tables.values())))
    if arch not in table:
        raise ValueError(f"no {variant} recipe for {arch!r} on {dataset}, expected one of {', '.join(table)}")
    return table[arch]
