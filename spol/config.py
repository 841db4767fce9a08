"""Released hyper-parameters of SPOL's three stages on its two data sets, as frozen records.

The original keeps a folder for each stage and data set; here a stage is one code, what differs stands in these records.
"""

from dataclasses import dataclass, fields

from common.system.options import grouped

STAGES = ("cls", "cam", "seg")


@dataclass(frozen=True)
class Recipe:
    """One stage on one data set.

    Attributes:
        epochs: passes over the training images.
        batch_size: images a step.
        lr: of the head group.
        base_factor: the trunk's rate as a share of `lr`.
        linear_decay: the rates of epoch e are multiplied by 1 - e / epochs; otherwise they are constant.
        save_epochs_over: `model-<epoch>` is written after each epoch whose number (from 1) exceeds this; None never.
            With another number of epochs it is half of that and one; see `spol.training.saved_epochs`.
        save_steps: `model-<step>` is written after each that many steps; 0 never.
        tested: the number of the released or tested `model-<number>`.
        resize, crop: sides of the squash and of the random crop in training.
        two_branches: cam's loss with a deep branch that teaches the fused one.
        frozen_stem: cam's optimizer leaves out the trunk's first convolution and batch norm.
        threshold: of seg's probability at test.
    """

    epochs: int
    batch_size: int
    lr: float
    base_factor: float
    linear_decay: bool = False
    save_epochs_over: int | None = None
    save_steps: int = 0
    tested: int = 0
    resize: int = 256
    crop: int = 224
    two_branches: bool = False
    frozen_stem: bool = False
    threshold: float = 0.2


RECIPES: dict[tuple[str, str], Recipe] = {
    ("cls", "cub"): Recipe(20, 16, 0.05, 0.1, linear_decay=True, save_epochs_over=11, tested=20, resize=685, crop=600),
    ("cam", "cub"): Recipe(32, 64, 0.02, 0.1, save_epochs_over=17, tested=32, two_branches=True),
    ("seg", "cub"): Recipe(8, 128, 0.02, 1.0, save_epochs_over=0, tested=8, threshold=0.2),
    ("cam", "imagenet"): Recipe(1, 128, 0.02, 0.1, save_steps=2000, tested=6000, frozen_stem=True),
    ("seg", "imagenet"): Recipe(1, 128, 0.02, 1.0, save_steps=2000, tested=6000, threshold=0.8),
}
"""Recipes by stage and data set. ImageNet's classifier is the stock one and was not trained.

The seg script on CUB trains 2 epochs by default while its test script wants, and the authors released, epoch 8: 8 here,
`--epochs 2` there.
"""

MOMENTUM, WEIGHT_DECAY, DROPOUT = 0.9, 1e-4, 0.5
"""SGD of every stage: Nesterov's momentum, decay on every parameter; dropout before the last convolution."""


def released_values(stage: str) -> dict[str, str]:
    """Each hyper-parameter of a stage in words, for `--help`: "32 (cub), 1 (imagenet)"."""
    recipes = {dataset: each for (name, dataset), each in RECIPES.items() if name == stage}
    return {
        field.name: grouped({dataset: getattr(each, field.name) for dataset, each in recipes.items()})
        for field in fields(Recipe)
    }


def recipe(stage: str, dataset: str) -> Recipe:
    """The released hyper-parameters.

    Args:
        stage: one of `STAGES`.
        dataset: `cub` or `imagenet`.

    Raises:
        ValueError: nothing was released for it.
    """
    if (stage, dataset) not in RECIPES:
        known = ", ".join(" ".join(pair) for pair in RECIPES)
        raise ValueError(f"no recipe for {stage} {dataset}, expected one of {known}")
    return RECIPES[stage, dataset]


def recipe_name(data_name: str, asked: str | None = None) -> str:
    """`cub` or `imagenet`: what was asked for, or by default the data set's own, `cub` for any that is not ILSVRC."""
    return asked or ("imagenet" if data_name == "ilsvrc" else "cub")
