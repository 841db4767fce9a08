"""Check, before hours are spent, that a split can be read and scored, and that files which later steps need are there.

    python -m common.ready --data.name cub --data.root CUB_200_2011 --data.split test --needs runs/spol/seg/final.pth

The papers' `run_test.sh` begin with it.
"""

from dataclasses import dataclass, replace
from pathlib import Path

from common.datasets import DataSource
from common.system.errors import UserError, run_command
from common.system.options import parse


@dataclass(frozen=True)
class Ready:
    """Check that a split can be read and scored."""

    data: DataSource
    """The images."""
    needs: tuple[Path, ...] = ()
    """Files and folders that must be there."""
    boxes: bool = True
    """Whether the split must hold ground-truth boxes or masks, without which nothing can be scored."""


def check(options: Ready) -> None:
    """Read the annotations, and look for the files; no image is opened.

    Raises:
        UserError: a file is missing, the split can't be read, or it has nothing to score.
    """
    for path in options.needs:
        if not path.exists():
            raise UserError("no such file or folder, and a later step needs it", where=path)
    # SPOL's commands, whose script passes theirs on, read a list file in the layout of CUB's or ILSVRC's folder as well
    data = options.data if options.data.name == "list" else replace(options.data, list_file=None)
    dataset = data.load()
    if options.boxes and not any(len(sample.boxes) or sample.masks for sample in dataset):
        raise UserError(
            f"none of the {len(dataset)} images of {options.data.split!r} has a ground-truth box",
            where=options.data.root,
            do="name boxes with --data.boxes, or say SCORE=no before the script to localize without scoring",
        )


def main() -> None:
    """Run the command line."""
    check(parse(Ready, prog="python -m common.ready", description=__doc__))


if __name__ == "__main__":
    run_command(main)
