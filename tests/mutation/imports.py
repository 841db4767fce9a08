"""The modules that a command reaches, by what their sources import."""

import ast
import functools
from pathlib import Path

from tests.mutation.campaign import PACKAGES, ROOT


def source_of(module: str) -> str:
    """A module's source."""
    return _place(module).read_text()


def _place(module: str) -> Path:
    path = ROOT / f"{module.replace('.', '/')}.py"
    return path if path.is_file() else path.with_suffix("") / "__init__.py"


def imported(module: str) -> set[str]:
    """The project's modules that a module's source imports, inside functions too."""
    found = set()
    for node in ast.walk(ast.parse(source_of(module))):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            found |= {node.module, *(f"{node.module}.{alias.name}" for alias in node.names)}
    places = (ROOT / name.replace(".", "/") for name in found)
    return {
        name
        for name, place in zip(found, places, strict=True)
        if name.split(".")[0] in PACKAGES and (place.is_dir() or place.with_suffix(".py").is_file())
    }


@functools.cache
def reached_by(command: str) -> frozenset[str]:
    """All modules that a command imports, directly or through others."""
    reached: set[str] = set()
    new = {command}
    while new:
        reached |= new
        new = {name for one in new for name in imported(one)} - reached
    return frozenset(reached)
