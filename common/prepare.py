"""Check a data set before hours are spent on it, and write the list files that each paper's code reads.

    python -m common.prepare cub --root /data/CUB_200_2011
    python -m common.prepare demo --root data/demo          renders the embedded data set first
    python -m common.prepare demo-scenes --root data/scenes    renders the one for segmentation first
    python -m common.prepare photographs --root data/photographs    copies five that installed packages ship first

Every image is decoded. Problems are printed one to a line and the exit status is then 2; notes are not problems.
"""

import sys
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from itertools import pairwise
from pathlib import Path

from common.datasets import Dataset
from common.datasets.checking import HEADER, Checking, check
from common.datasets.layouts import LAYOUTS, demo, demo_scenes, shipped, written_lists, wsoleval
from common.datasets.layouts.ilsvrc_classes import class_words
from common.results.tables import render
from common.system.errors import UserError, run_command
from common.system.options import parse

RENDERED = {"recipe": "demo", "scenes": "demo-scenes"}
"""Options that say what is rendered, and the data set that each is for."""


@dataclass(frozen=True)
class Prepare(Checking):
    """Check a data set, print what is in it, write list files."""

    lists: Path | None = None
    """Write the papers' list files, and wsolevaluation's metadata, below this folder."""
    recipe: demo.Recipe = field(default_factory=demo.Recipe)
    """demo: what is rendered where the folder isn't there."""
    scenes: demo_scenes.SceneRecipe = field(default_factory=demo_scenes.SceneRecipe)
    """demo-scenes: what is rendered where the folder isn't there."""


def write_lists(options: Prepare, splits: dict[str, Dataset], folder: Path) -> list[Path]:
    """Write the papers' list files and wsolevaluation's metadata below a folder, and return their paths.

    Raises:
        UserError: a CUB-like list needs exactly one box an image, and a split has another number.
    """
    tested = "test" if "test" in splits else "val"
    named = {"test" if split == tested else split: dataset for split, dataset in splits.items()}
    style = "ilsvrc" if options.name == "ilsvrc" else "cub"
    for dataset in named.values():
        odd = next((sample for sample in dataset if style == "cub" and len(sample.boxes) != 1), None)
        if odd is not None:
            raise UserError(
                f"{odd.image_id} has {len(odd.boxes)} boxes", expected="one: the papers' CUB lists hold one"
            )
    words = class_words(options.root) if style == "ilsvrc" else None
    for split, dataset in named.items():  # before anything is written
        wsoleval.texts(replace(dataset, split=split))
    written = written_lists.write_all(named, folder, style, words)
    for split, dataset in named.items():
        written.append(wsoleval.write(replace(dataset, split=split), folder / "wsoleval"))
    return written


def _without_effect(arguments: Sequence[str]) -> set[str]:
    """The options that the data set on the command line doesn't read; none where no word is surely its name."""
    words = (word for before, word in pairwise(("", *arguments)) if not before.startswith("--") or before == "--help")
    name = next((word for word in words if word in LAYOUTS), None)
    if name is None:
        return set()
    only_some = {option for layout in LAYOUTS.values() for option in layout.options} | RENDERED.keys()
    return only_some - {*LAYOUTS[name].options, *(option for option, owner in RENDERED.items() if owner == name)}


def main() -> int:
    """Run the command line."""
    options = parse(Prepare, prog="python -m common.prepare", description=__doc__, hidden=_without_effect(sys.argv[1:]))
    if options.name == "demo":
        demo.render(options.root, options.recipe, options.workers)
    if options.name == "demo-scenes":
        demo_scenes.render(options.root, options.scenes, options.workers)
    if options.lists and LAYOUTS[options.name].multi_label:
        raise UserError("--lists for images of several classes", do="leave it out: the papers' lists hold one class")
    if options.name == "photographs":
        shipped.gather(options.root)
    report = check(options)
    if report.rows:
        print(render([HEADER, *report.rows], "text"))
    for note in report.notes:
        print(f"note: {note}")
    for problem in report.problems:
        print(f"problem: {problem}")
    if options.lists and not report.problems:
        for path in write_lists(options, report.splits, options.lists):
            print(f"written: {path}")
    elif options.lists:
        print("problem: no list files are written before the problems above are mended")
    if not report.problems:
        print(f"{options.root} is ready")
    return 2 if report.problems else 0


if __name__ == "__main__":
    run_command(main)
