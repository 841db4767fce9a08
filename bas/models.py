"""The builder of BAS's networks, by the name that scripts import it by; `bas.backbones` holds it."""

from bas.backbones import build

__all__ = ["build"]
