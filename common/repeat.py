"""Run again what a folder's own record says made it, and compare.

    python -m common.repeat runs/cam --out again          a training
    python -m common.repeat runs/cam/test --out again     predictions directories, or a folder of them

The command that is recorded is run, if it is one of this project's, with its results in the new folder and everything
else as it was. Then weights are compared bit for bit, or predictions line by line and map by map; the exit status is 1
where something differs. Relative paths mean the folder that the first run was started in.
"""

import json
import os
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import tyro

from common.datasets import DESCRIBED, PLACES, DataSource
from common.runs.manifest import MANIFEST
from common.runs.provenance import PROCESSES, TRAINING
from common.runs.reader import Predictions
from common.system.errors import UserError, run_command
from common.system.files import holds_files, read_json
from common.system.options import parse
from common.system.wording import number_of, some

ROOT = Path(__file__).resolve().parent.parent
_OUT = {"out": "", "savepath": ""}
COMMANDS: dict[str, dict[str, str]] = {
    "common.pytorch.cam": _OUT,
    "bas.train": _OUT,
    "bas.inference": _OUT,
    "spol.cls.train": _OUT,
    "spol.cls.test": _OUT,
    "spol.cam.train": _OUT,
    "spol.seg.train": _OUT,
    "spol.seg.test": _OUT,
    "dgl_tf.train": _OUT,
    "dgl_tf.test": _OUT,
    "grcam.generate_predicted_bbox": {
        "out": "predictions", "bounding-box-save-path": "boxes/", "classify-save-path": "class.txt",
    },
}  # fmt: skip
"""Commands that may be run, and their options that say where results go: below the new folder, each at that place."""
FINAL = ("final.pth", "final.npz")
SHOWN = 5


@dataclass(frozen=True)
class Repeat:
    """Run again what made a folder, and compare."""

    run: tyro.conf.Positional[Path]
    """A training's folder, a predictions directory, or a folder of predictions directories of one command."""
    out: Path
    """The new folder."""


@dataclass(frozen=True)
class Recorded:
    """A folder's record of itself.

    Attributes:
        module: of the command.
        arguments: its options.
        folder: it was started in.
        data: the data set's record.
    """

    module: str
    arguments: tuple[str, ...]
    folder: Path
    data: dict[str, Any]


def directories(run: Path) -> list[Path]:
    """The predictions directories that `run` is or holds; none for a training."""
    if (run / TRAINING).is_file():
        return []
    found = [run] if (run / MANIFEST).is_file() else sorted(path.parent for path in run.glob(f"*/{MANIFEST}"))
    if not found:
        raise UserError("no training and no predictions", where=run, expected=f"{TRAINING} or {MANIFEST}")
    return found


def recorded(run: Path) -> Recorded:
    """Read a folder's record.

    Raises:
        UserError: there is none, or it names no command of this project's.
    """
    found = directories(run)
    if found:
        where = found[0] / MANIFEST
        record = read_json(where)
        data, processes = record.get("data"), record.get("processes")
    else:
        where = run / PROCESSES
        data, processes = read_json(run / TRAINING).get("trained_on"), read_json(where).get("processes")
    try:
        command = processes[-1]["command"]
        module, folder, arguments = command["module"], Path(command["folder"]), command["arguments"]
        strings = isinstance(arguments, list) and all(isinstance(argument, str) for argument in arguments)
        if not strings or not isinstance(data, dict):
            raise TypeError("its arguments are no list of texts, or its data no record")
        alone = command["processes"] == 1
    except (KeyError, TypeError, IndexError) as error:
        raise UserError("the record names no command", where=where, do="run the command by hand") from error
    if not isinstance(module, str) or module not in COMMANDS:
        raise UserError(f"the record's command is {module!r}", where=where, expected=f"one of {', '.join(COMMANDS)}")
    if not alone:
        raise UserError(
            f"{module} was run by several processes",
            where=where,
            do="repeat it by hand with as many processes",
        )
    if not folder.is_dir():
        raise UserError(f"it was started in {folder}, which is not there", where=where, do="run the command by hand")
    return Recorded(module, tuple(arguments), folder, data)


def redirected(command: Recorded, out: Path) -> list[str]:
    """The arguments with every result in `out`, and without `--overwrite`."""
    places, arguments, waiting, moved = COMMANDS[command.module], [], None, False
    for argument in command.arguments:
        if waiting is not None:
            arguments.append(waiting)
            waiting = None
            continue
        name, sign, _ = argument.partition("=")
        option = name.removeprefix("--").replace("_", "-")
        if argument.startswith("--") and option in places:
            place, moved = f"{out}/{places[option]}".removesuffix("/" * (not places[option])), True
            arguments.append(f"{name}={place}" if sign else name)
            waiting = None if sign else place
        elif option != "overwrite":
            arguments.append(argument)
    if not moved:
        raise UserError(f"no option of {command.module} says where its results went", do="run the command by hand")
    return arguments


def check_data(command: Recorded, where: Path) -> None:
    """Refuse data that are not those of the first run.

    Raises:
        UserError: they are others, or gone.
    """
    stored = {name: value for name, value in command.data.items() if name not in DESCRIBED}
    for name in PLACES:
        if stored.get(name) is not None:
            stored[name] = str(command.folder / stored[name])
    dataset = DataSource.from_json(stored, where).load()
    if dataset.fingerprint() != command.data.get("fingerprint"):
        raise UserError(f"the data of {where} were others", where=stored["root"],
                        expected=f"{command.data.get('images')} images with the recorded annotations")  # fmt: skip


def repeat(options: Repeat) -> list[str]:
    """Run a recorded command again, and return what differs, a line each."""
    if holds_files(options.out):
        raise UserError("the folder is not empty", where=options.out, do="name a new one")
    command = recorded(options.run)
    check_data(command, options.run)
    out = options.out.resolve()
    arguments = redirected(command, out)
    print(f"python -m {command.module} {' '.join(arguments)}", flush=True)
    # -P: a folder that a record names must not be where modules are looked for.
    done = subprocess.run(
        [sys.executable, "-P", "-m", command.module, *arguments], cwd=command.folder,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
    )  # fmt: skip
    if done.returncode:
        raise UserError(f"{command.module} ended with status {done.returncode}", where=out, do="see the lines above")
    found = directories(options.run)
    if not found:
        return compare_weights(options.run, out)
    base = out / COMMANDS[command.module]["out"]
    return [line for old in found for line in compare_predictions(old, base / old.name)]


def compare_weights(old: Path, new: Path) -> list[str]:
    """Differences between the final weights of two trainings."""
    name = next((name for name in FINAL if (old / name).is_file()), None)
    if name is None:
        raise UserError("the training has not finished", where=old, do="finish it first")
    if name.endswith(".npz"):
        with np.load(old / name, allow_pickle=False) as ours, np.load(new / name, allow_pickle=False) as theirs:
            return differing_arrays(dict(ours), dict(theirs))
    said = subprocess.run(
        [sys.executable, "-P", "-m", "common.pytorch.compare", old / name, new / name],
        stdout=subprocess.PIPE, text=True, check=False, env={**os.environ, "PYTHONPATH": str(ROOT)},
    )  # fmt: skip
    if said.returncode:
        raise UserError("the weights can't be compared", where=old / name, do="see the lines above")
    return json.loads(said.stdout)


def differing_arrays(old: dict[str, np.ndarray], new: dict[str, np.ndarray]) -> list[str]:
    """A line on names, and one on values; empty where all is equal bit for bit."""
    lines = []
    if names := sorted(old.keys() ^ new.keys()):
        lines.append(f"{len(names)} names stand in one file only: {some(names, SHOWN)}")
    shared = old.keys() & new.keys()
    different = sorted(name for name in shared if not np.array_equal(old[name], new[name], equal_nan=True))
    if different:
        most = max(_furthest(old[name], new[name]) for name in different)
        lines.append(f"{len(different)} of {len(shared)} tensors differ, by up to {most:.3g}: {some(different, SHOWN)}")
    return lines


def _furthest(one: np.ndarray, other: np.ndarray) -> float:
    return float(np.abs(one.astype(np.float64) - other).max()) if one.shape == other.shape else float("inf")


def compare_predictions(old: Path, new: Path) -> list[str]:
    """Differences between two predictions directories."""
    ours, theirs = Predictions.open(old), Predictions.open(new)
    kept = {name: value for name, value in ours.manifest.items() if name not in ("processes", "data")}
    differing = sorted(name for name, value in kept.items() if theirs.manifest.get(name) != value)
    lines = [f"{old.name}: the manifests' {', '.join(differing)} differ"] if differing else []
    one, other = ({entry.image_id: entry for entry in read.entries} for read in (ours, theirs))
    if names := sorted(one.keys() ^ other.keys()):
        what = number_of(len(names), "image stands", "images stand")
        lines.append(f"{old.name}: {what} in one run only: {some(names, SHOWN)}")
    shared = [name for name in one if name in other]
    changed = [name for name in shared if one[name].to_json() != other[name].to_json()]
    if changed:
        lines.append(
            f"{old.name}: {len(changed)} of {len(shared)} images have other boxes or classes: {some(changed, SHOWN)}"
        )
    if ours.has_maps and theirs.has_maps:
        distances = {name: _furthest(ours.map(one[name]), theirs.map(other[name])) for name in shared}
        moved = {name: distance for name, distance in distances.items() if distance}
        if moved:
            lines.append(f"{old.name}: {len(moved)} of {len(shared)} maps differ, by up to {max(moved.values()):.3g}: "
                         f"{some(list(moved), SHOWN)}")  # fmt: skip
    elif ours.has_maps != theirs.has_maps:
        lines.append(f"{old.name}: only one run has maps")
    return lines


def main() -> int:
    """Run the command line."""
    options = parse(Repeat, prog="python -m common.repeat", description=__doc__)
    lines = repeat(options)
    for line in lines:
        print(f"differs: {line}")
    if not lines:
        print(f"{options.out} is {options.run} again, bit for bit")
    return 1 if lines else 0


if __name__ == "__main__":
    run_command(main)
