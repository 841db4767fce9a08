"""Record that a training leaves beside its checkpoints: `training.json`, so that a folder says what its network is."""

import json
import os
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from common.datasets import alike
from common.runs.provenance import TRAINING
from common.system.errors import UserError
from common.system.files import holds_files, read_json, write_json

FILE, FINAL = TRAINING, "final.npz"
METHOD = "dgl"


@dataclass(frozen=True)
class Training:
    """Identity of a training: everything that its weights depend on.

    Attributes:
        arch: of the network.
        class_names: of the data set; the network may have more outputs.
        trained_on: the data set's record.
        options: plain values.
    """

    arch: str
    class_names: tuple[str, ...]
    trained_on: dict[str, Any]
    options: dict[str, Any]

    def to_json(self) -> dict[str, Any]:
        """Plain values, as they are read back."""
        values = {
            "method": METHOD, "architecture": self.arch, "class_names": self.class_names,
            "trained_on": self.trained_on, "options": self.options,
        }  # fmt: skip
        return json.loads(json.dumps(values))


def write(folder: Path, training: Training) -> None:
    """Put the record into a training's folder, or find the same one there.

    Raises:
        UserError: the folder holds another training, or files of something else.
    """
    path, record = folder / FILE, training.to_json()
    if path.is_file():
        stored = read_json(path)
        stored = stored if isinstance(stored, dict) else {}
        differing = sorted(_differing(stored, record))
        if differing:
            raise UserError(f"the folder holds another training: {', '.join(differing)} differ", where=folder,
                            do="choose another --out or delete the folder")  # fmt: skip
    elif holds_files(folder):
        raise UserError("the folder is not empty, and no training", where=folder, do="choose another --out")
    else:
        write_json(path, record)


def _differing(stored: dict[str, Any], record: dict[str, Any]) -> set[str]:
    """Names of entries that differ, those of `options` one by one."""
    differing = {key for key in stored.keys() | record.keys() if not alike(stored.get(key), record.get(key))}
    if "options" in differing and isinstance(stored.get("options"), dict):
        theirs, ours = stored["options"], record["options"]
        differing.remove("options")
        differing |= {key for key in theirs.keys() | ours.keys() if theirs.get(key) != ours.get(key)}
    return differing


def read(checkpoint: Path | None) -> Training | None:
    """The record of the training that wrote a checkpoint; None for a file of another origin.

    Args:
        checkpoint: a training's folder, or a file in it.

    Raises:
        UserError: there is a record that can't be read.
    """
    if checkpoint is None:
        return None
    path = (checkpoint if checkpoint.is_dir() else checkpoint.parent) / FILE
    if not os.path.lexists(path):
        return None
    stored = read_json(path)
    if not isinstance(stored, dict) or stored.get("method") != METHOD:
        raise UserError("not the record of a DGL training", where=path)
    try:
        return Training(
            stored["architecture"], tuple(map(str, stored["class_names"])), stored["trained_on"], stored["options"]
        )
    except (KeyError, TypeError) as error:
        raise UserError(f"the record of the training lacks {error}", where=path) from error
