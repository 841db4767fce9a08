"""DGL's released hyper-parameters as frozen records: the recipes, the schedule, the gradient multipliers.

The training scripts share one recipe; architectures differ in epochs, weight decay and multipliers, data sets in how
many steps make an epoch.
"""

from dataclasses import dataclass, fields

from common.system.options import grouped


@dataclass(frozen=True)
class Recipe:
    """Recipe by which one architecture is trained.

    Attributes:
        epochs: how many; see `steps_per_epoch`.
        batch_size: images a step, over all towers.
        base_lr: learning rate of the first ten epochs.
        weight_decay: factor of half the kernels' squared norm in the loss. VGG alone has one in the release.
    """

    epochs: int = 30
    batch_size: int = 32
    base_lr: float = 0.002
    weight_decay: float = 0.0


RECIPES = {
    "vgg": Recipe(weight_decay=5e-4),
    "resnet50": Recipe(),
    "resnet50se": Recipe(epochs=2),
    "inceptionv3": Recipe(),
    "mobilenetv1": Recipe(),  # ours: no released recipe
}
"""Those of the release's run_train.sh, for ILSVRC. None was released for CUB; these are taken there too. The parser's
own defaults, 105 epochs of batch 256 at 0.01, belong to no published number."""


def released_values() -> dict[str, str]:
    """Each hyper-parameter's released values in words, for `--help`: "2 (resnet50se), 30 (vgg, ...)"."""
    return {
        field.name: grouped({arch: getattr(each, field.name) for arch, each in RECIPES.items()})
        for field in fields(Recipe)
    }


FINAL_SIZE, MARGIN = 224, 32
"""Side of the crop; images are resized to both together, without keeping their shape."""
MOMENTUM = 0.9
"""Momentum of tf.train.MomentumOptimizer with Nesterov's rule."""
DROPS = (10, 20, 30, 40)
"""Epochs after each of which the learning rate is divided by ten."""
VALIDATE_EVERY = 5
"""Epochs between two measurements of the validation error."""
PRETRAINED_FOLDER = "pretrain_model"
PRETRAINED = {
    "vgg": f"{PRETRAINED_FOLDER}/vgg16.npz",
    "resnet50": f"{PRETRAINED_FOLDER}/ImageNet-ResNet50.npz",
    "resnet50se": f"{PRETRAINED_FOLDER}/ImageNet-ResNet50-SE.npz",
    "inceptionv3": f"{PRETRAINED_FOLDER}/inception_v3.ckpt",
    "mobilenetv1": "imagenet:mobilenetv1",
}
"""Start files under the names that the release looks for; tensorpack's model zoo and TF-Slim have them."""
FRESH = {
    "vgg": ("add", "linear"),
    "resnet50": ("linear",),
    "resnet50se": ("linear",),
    "inceptionv3": ("InceptionV3/Logits",),
    "mobilenetv1": ("MobilenetV1/Logits",),
}
"""Scopes that a start file may lack, or have for another number of classes; they start as they were drawn."""

MULTIPLIERS: dict[str, tuple[tuple[str, float], ...]] = {
    "vgg": ((r"conv.*/b", 2), (r"(add|linear)/W", 10), (r"(add|linear)/b", 20)),
    "resnet50": ((r"(conv0|group[0-2])/.*/beta", 2), (r"linear/b", 2)),
    "inceptionv3": (
        # The released pattern says Conv2d_3b_3x3, so the layer of that place, Conv2d_3b_1x1, keeps a factor of one.
        (r"InceptionV3/(?!Conv2d_3b_1x1/)(?!Logits/).*/BatchNorm/beta", 2),
        (r"InceptionV3/Logits/.*/weights", 10),
        (r"InceptionV3/Logits/.*/biases", 20),
    ),
    "mobilenetv1": (
        (r"MobilenetV1/.*/BatchNorm/beta", 2),
        (r"MobilenetV1/Logits/.*/weights", 10),
        (r"MobilenetV1/Logits/.*/biases", 20),
    ),
}
"""Factors on the gradients, weight decay included, where training starts from a file: the first pattern that matches a
variable's whole name; none is a factor of one. In the ResNets group3 matches nothing, its biases included."""
MULTIPLIERS["resnet50se"] = MULTIPLIERS["resnet50"]


def recipe(arch: str) -> Recipe:
    """The released recipe.

    Raises:
        ValueError: an unknown architecture.
    """
    if arch not in RECIPES:
        raise ValueError(f"unknown architecture {arch!r}, expected one of {', '.join(RECIPES)}")
    return RECIPES[arch]


def steps_per_epoch(dataset: str, images: int, batch_size: int) -> int:
    """Steps of what the release calls an epoch: a fifth of a pass over ILSVRC, and about five passes over CUB.

    Args:
        dataset: `ilsvrc` and `cub` are the release's; for any other an epoch is one pass, its last part batch included.
        images: how many the data set has.
        batch_size: over all towers.
    """
    if dataset == "ilsvrc":
        return int(5000 * (256 / batch_size) * 0.2)
    if dataset == "cub":
        return int(25 * (256 / batch_size) * 5.0)
    return -(-images // batch_size)


def learning_rate(epoch: int, base: float, drops: tuple[int, ...] = DROPS) -> float:
    """The rate in force in an epoch, counted from 1."""
    return base * 0.1 ** sum(epoch > drop for drop in drops)
