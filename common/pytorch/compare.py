"""Differences of two checkpoints of this project, as a JSON list of lines; what `common.repeat` asks of PyTorch.

python -m common.pytorch.compare runs/a/final.pth runs/b/final.pth
"""

import json
from dataclasses import dataclass
from pathlib import Path

import tyro

from common.pytorch import checkpoints
from common.repeat import differing_arrays
from common.system.errors import run_command
from common.system.options import parse


@dataclass(frozen=True)
class Compare:
    """Name the tensors of two checkpoints that differ."""

    one: tyro.conf.Positional[Path]
    """A checkpoint."""
    other: tyro.conf.Positional[Path]
    """Another."""


def main() -> None:
    """Run the command line."""
    options = parse(Compare, prog="python -m common.pytorch.compare", description=__doc__)
    states = [checkpoints.read_state_dict(path) for path in (options.one, options.other)]
    print(json.dumps(differing_arrays(*({name: value.numpy() for name, value in state.items()} for state in states))))


if __name__ == "__main__":
    run_command(main)
