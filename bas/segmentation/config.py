"""Hyper-parameters of the segmentation pipeline, as frozen records: the authors' on ResNet50, ours on MobileNetV1."""

from dataclasses import dataclass, fields

from bas.segmentation.images import Augmentation
from common.system.options import grouped

SEED_FOREGROUND, SEED_BACKGROUND = 0.30, 0.17
"""Thresholds of the two passes that make IR labels; IRN's own second one is 0.05."""
MASK_THRESHOLD, MASK_POWER = 0.22, 1.5
"""Value of the constant background plane after the walk (IRN: 0.25), and power of the maps before it (IRN: 1)."""
WALK_RADIUS, WALK_BETA, WALK_EXPONENT = 5, 10.0, 8
IRN_RADIUS = 10


@dataclass(frozen=True)
class Recipe:
    """Hyper-parameters of one training.

    Attributes:
        epochs: passes over the images, the last, incomplete batch of each left out.
        batch_size: images a step, over all processes.
        lr: of the backbone, or IRN's edge branch.
        head_factor: times `lr`, of the heads, or IRN's displacement branch.
        momentum: of SGD. The release passes its weight decay in momentum's place, so 1e-4.
        weight_decay: on every parameter that is trained.
        poly_world: how many processes' batches the decay of the rates is reckoned for. The released BAS training counts
            one process's batches for all steps, so on four GPUs the rates end at 0.772 of where they began.
        augmentation: of the images.
        labels_only_epochs: epochs at the beginning of BAS's training that minimize the classification loss alone.
    """

    epochs: int
    batch_size: int
    lr: float
    augmentation: Augmentation
    head_factor: float = 10.0
    momentum: float = 1e-4
    weight_decay: float = 1e-4
    poly_world: int = 1
    labels_only_epochs: int = 0


RECIPES: dict[tuple[str, str], Recipe] = {
    ("bas", "resnet50"): Recipe(10, 16, 0.005, Augmentation(448, resize=512), poly_world=4),
    ("cam", "resnet50"): Recipe(5, 16, 0.1, Augmentation(512, long_side=(320, 640))),
    ("irn", "resnet50"): Recipe(3, 32, 0.1, Augmentation(512, factor=(0.5, 1.5))),
    ("bas", "mobilenet_v1"): Recipe(14, 8, 0.0004, Augmentation(160, resize=176), momentum=0.9, labels_only_epochs=5),
    ("cam", "mobilenet_v1"): Recipe(14, 8, 0.002, Augmentation(160, long_side=(144, 240)), momentum=0.9),
    ("irn", "mobilenet_v1"): Recipe(3, 8, 0.05, Augmentation(256, factor=(0.5, 1.5)), momentum=0.9),
}
"""Recipes by network and backbone."""


def released_values() -> dict[str, str]:
    """Each hyper-parameter's values in words, for `--help`: "10 (bas resnet50), 5 (cam resnet50), ..."."""
    by_name = {f"{network} {backbone}": recipe for (network, backbone), recipe in RECIPES.items()}
    words = {
        field.name: grouped({name: getattr(recipe, field.name) for name, recipe in by_name.items()})
        for field in fields(Recipe)
    }
    labels_only = {name: recipe.labels_only_epochs for name, recipe in by_name.items() if name.startswith("bas ")}
    crops = {name: recipe.augmentation.crop for name, recipe in by_name.items()}
    return {**words, "labels_only_epochs": grouped(labels_only), "crop": grouped(crops), "tap": "7 (mobilenet_v1)"}


ALPHA, BETA = 0.2, 1.2
"""Weights of L_FRG and L_AC."""
