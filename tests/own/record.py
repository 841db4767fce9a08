"""The figures as they are written down in `figures.json`, beside CHANGES.md, which says why they are what they are."""

import hashlib
import json
from pathlib import Path

import numpy as np

from tests.own import figures

FILE = Path(__file__).with_name("figures.json")
CHANGES = Path(__file__).resolve().parents[2] / "CHANGES.md"
TOLERANCE = 2e-4
"""Of a list's greatest magnitude: what thread counts, oneDNN and processors were seen to move."""


def read() -> dict[str, figures.Figures]:
    """The figures that are written down, by group."""
    return json.loads(FILE.read_text()) if FILE.is_file() else {}


def write(found: dict[str, figures.Figures]) -> None:
    """Write figures down, with seven digits."""
    short = {group: {name: _rounded(value) for name, value in each.items()} for group, each in found.items()}
    lines = json.dumps(short, indent=1).replace("\n   ", " ").replace("\n  ]", "]")
    FILE.write_text(lines + "\n")


def _rounded(value):
    if isinstance(value, list):
        return [_rounded(item) for item in value]
    return value if isinstance(value, int) else None if np.isnan(value) else float(f"{value:.7g}")


def fingerprint() -> str:
    """The first twelve digits of the file's SHA-256."""
    return hashlib.sha256(FILE.read_bytes()).hexdigest()[:12]


def differences(stored: dict[str, figures.Figures], found: dict[str, figures.Figures]) -> list[str]:
    """A line for each figure that is new, gone, or another; groups that this environment can't compute are left out."""
    lines = []
    for group, each in found.items():
        theirs = stored.get(group, {})
        for name in sorted(each.keys() | theirs.keys()):
            if name not in theirs:
                lines.append(f"new: {name}: {each[name]}")
            elif name not in each:
                lines.append(f"gone: {name}: {theirs[name]}")
            elif not _same(theirs[name], each[name]):
                lines.append(f"changed: {name}: {theirs[name]} is now {_rounded(each[name])}")
    return lines


def _same(one, other) -> bool:
    one, other = (np.atleast_1d(np.array(value, dtype=np.float64)) for value in (one, other))
    if one.shape != other.shape:
        return False
    greatest = np.nanmax(np.abs(one), initial=0.0)
    return np.allclose(one, other, rtol=0, atol=TOLERANCE * greatest, equal_nan=True)
