"""Localize objects with any of the five methods here, in a few lines.

    import wsol
    localize = wsol.load("runs/bas/final.pth")     # or an authors' file, or "imagenet:mobilenet_v1" with method="dgl"
    found = localize("bird.jpg")                   # a path, a Pillow image, or (H, W, 3) uint8 RGB
    found.box, found.map, found.class_name, found.score, found.top5

Nothing of a framework is imported before a checkpoint is loaded, so that each method needs its own framework only.
"""

from importlib import import_module
from typing import Any

__version__ = "0.1.0"
__all__ = ["Found", "Localizer", "cam", "load", "score"]

_HOMES = {"Found": "found", "Localizer": "localizer", "cam": "loading", "load": "loading", "score": "scoring"}


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module 'wsol' has no attribute {name!r}")
    return getattr(import_module(f"wsol.{_HOMES[name]}"), name)


def __dir__() -> list[str]:
    return [*__all__, "__version__"]
