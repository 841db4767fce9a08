"""One table of architectures: the field's name of each, and every spelling that papers and users have of it."""

from collections.abc import Sequence

from common.system.errors import UserError

SPELLINGS: dict[str, tuple[str, ...]] = {
    "mobilenet_v1": ("mobilenet", "mobilenetv1", "mobilenet-v1"),
    "vgg16": ("vgg", "vgg-16", "vgg_16"),
    "resnet50": ("resnet", "resnet-50", "resnet_50"),
    "resnet50se": ("resnet50_se", "resnet50-se", "se_resnet50", "seresnet50"),
    "inception_v3": ("inception", "inceptionv3", "inception-v3"),
    "efficientnet_lite0": ("efficientnet-lite0",),
    "efficientnet_b7": ("efficientnet-b7",),
    "densenet161": ("densenet-161", "densenet_161"),
}
_NAMES = {spelling: name for name, spellings in SPELLINGS.items() for spelling in (name, *spellings)}


def canonical(spelling: str) -> str:
    """Return the one name of an architecture; what the table has not, such as `timm:<name>`, stays as it is."""
    return _NAMES.get(spelling.lower(), spelling)


def title(architecture: str) -> str:
    """Name an architecture as tables do: by its one name, and the layer of its map where that follows it."""
    name, space, layer = architecture.partition(" ")
    return f"{canonical(name)}{space}{layer}"


def spelled_for(known: Sequence[str], spelling: str) -> str:
    """Return an architecture as a command spells it.

    Args:
        known: the command's own spellings.
        spelling: any.

    Raises:
        UserError: an architecture of the table that the command has not.
    """
    if spelling in known:
        return spelling
    name = canonical(spelling)
    for own in known:
        if canonical(own) == name:
            return own
    if name in SPELLINGS:
        raise UserError(f"no {spelling} here", expected=f"one of {', '.join(known)}")
    return spelling
