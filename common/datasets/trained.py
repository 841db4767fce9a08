"""Images that a network was trained or chosen on: an identity for each, beside its checkpoints, and which of other
images are among them.

An image is known by its file's content, so that it is the same one in another folder and under another name; and by its
id where the data set gives every image of all its splits an id of its own (CUB, ILSVRC), so that it is the same one
encoded anew. An identity takes 16 bytes.
"""

import base64
import hashlib
import json
import os
import re
from collections.abc import Iterable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from common.datasets.classes import GUESSING
from common.datasets.sample import Dataset, Sample, class_folders
from common.system.errors import UserError
from common.system.files import read_json, write_json
from common.system.progress import bar

FILE = "trained_images.json"
LOG, TRAINING = "log.jsonl", "training.json"
CHOSEN = "chosen_images.json"
"""Says which of a folder's checkpoints are the best of several on some images, and on which."""
FORMAT = 1
OWN_IDS = {"cub", "demo", "ilsvrc", "photographs", "stanford-dogs", "fgvc-aircraft", "openimages"}
"""Data sets in which no two images of any splits have the same id."""
_BLOCK = 16_384
_THREADS = 8
_MANY = 2_000
_READ: dict[tuple[Path, int, int], int] = {}
"""Contents by path, size and time of change: a command that is about several directories asks for each."""
UNKNOWN: dict[str, Any] = {"known": False, "images": [], "evaluation_split": None, "chosen": []}
"""Result of `compared` for results that no checkpoint of ours stands behind."""


@dataclass(frozen=True, eq=False)
class TrainedImages:
    """The images that a network was trained on.

    Attributes:
        name: of the data set.
        split: of it.
        on_evaluation_split: the split is one that results are measured on, and was trained on at the user's word.
        identities: (N, 2) uint64, of each image its id's and its content's; see `identities`.
        folders: the label of each folder that is one class's alone; see `sample.class_folders`.
        names_known: the classes had names of their own, and not numbers alone.
    """

    name: str
    split: str
    on_evaluation_split: bool
    identities: np.ndarray
    folders: Mapping[str, int] = field(default_factory=dict)
    names_known: bool = True

    def among(self, dataset: Dataset) -> list[str]:
        """The ids of a data set's images that are among these, in its order."""
        found = identities(dataset.samples)
        same = np.isin(found[:, 1], self.identities[:, 1]) & (found[:, 1] != 0)
        same_id = np.isin(found[:, 0], self.identities[:, 0])
        if self.name == dataset.name and self.name in OWN_IDS:
            same |= same_id
        elif (self.name, self.split) == (dataset.name, dataset.split):
            same |= same_id & (found[:, 1] == 0)  # not here any more, but of the very split
        return [sample.image_id for sample, shared in zip(dataset.samples, same, strict=True) if shared]


def identities(samples: Sequence[Sample]) -> np.ndarray:
    """(N, 2) uint64: a hash of each image's id, and one of its file's content, 0 where that can't be read."""
    ids = [_hashed(sample.image_id.encode("utf-8", "surrogatepass")) for sample in samples]
    with ThreadPoolExecutor(_THREADS) as pool:
        found = pool.map(content_of, (sample.path for sample in samples))
        contents = list(bar(found, total=len(samples), desc="which images these are", disable=len(samples) < _MANY))
    return np.array([ids, contents], dtype=np.uint64).T.reshape(-1, 2)


def content_of(path: Path) -> int:
    """A hash of a file's size and of 16 KiB at its beginning, middle and end; 0 where it can't be read."""
    try:
        with open(path, "rb") as file:
            stat = os.fstat(file.fileno())
            size, key = stat.st_size, (path, stat.st_size, stat.st_mtime_ns)
            if key in _READ:
                return _READ[key]
            parts = [size.to_bytes(8, "little")]
            for start in (0, max(_BLOCK, size // 2), max(2 * _BLOCK, size - _BLOCK)):
                file.seek(start)
                parts.append(file.read(_BLOCK))
    except OSError:
        return 0
    return _READ.setdefault(key, _hashed(b"".join(parts)))


def _hashed(content: bytes) -> int:
    return int.from_bytes(hashlib.blake2b(content, digest_size=8).digest(), "little")


def note(
    folder: Path,
    samples: Sequence[Sample],
    trained_on: Mapping[str, Any],
    earlier: Iterable[TrainedImages | None] = (),
    anew: bool = False,
) -> None:
    """Write the record into a training's folder; nothing where a training that goes on wrote it before.

    Args:
        folder: the training's.
        samples: the training images.
        trained_on: what the checkpoint says of them, `DataSource.identity`.
        earlier: those of other trainings that have a part in the weights.
        anew: the training begins, so that a record that lies there is of another one, whose checkpoints are gone.
    """
    path = folder / FILE
    if path.is_file() and not anew:
        return
    before = [record for record in earlier if record is not None]
    found = np.concatenate([identities(samples), *(record.identities for record in before)])
    flagged = any(record.on_evaluation_split for record in before) or bool(trained_on.get("train_on_evaluation_split"))
    labels = {folder: label for label, folder in folders(samples).items()}
    known = trained_on["name"] not in GUESSING or bool(trained_on.get("class_names"))
    write_json(path, _stored(TrainedImages(trained_on["name"], trained_on["split"], flagged, found, labels, known)))


def folders(samples: Iterable[Sample]) -> dict[int, str]:
    """Folders that are one class's alone, by its label; see `sample.class_folders`."""
    return class_folders((sample.image_id, sample.label) for sample in samples)


def refuse_other_labels(dataset: Dataset, checkpoints: Iterable[Path | str | None]) -> None:
    """Refuse a data set in which a folder's images have another label than that folder's had in a training.

    That is looked at where a list gives classes as numbers alone, so that no names can be compared.

    Args:
        dataset: as loaded.
        checkpoints: of every network that has a part in the results.

    Raises:
        UserError: a folder has another label.
    """
    ours = {folder: label for label, folder in folders(dataset.samples).items()}
    for checkpoint in checkpoints:
        record = None if checkpoint is None else read(checkpoint)
        if record is None or (record.names_known and dataset.names_known):
            continue
        if other := [folder for folder, label in ours.items() if record.folders.get(folder, label) != label]:
            raise UserError(
                f"images of {other[0]!r} have the label {ours[other[0]]}, and had {record.folders[other[0]]} in the "
                "training", where=Path(checkpoint or ""), expected="one numbering of the classes",
                do="mend the labels, or, where the folders are no classes, name the classes with --data.class-names",
            )  # fmt: skip


def note_chosen(folder: Path, checkpoints: Sequence[str], dataset: Dataset) -> None:
    """Write into a training's folder that checkpoints are chosen by their figures on a data set's images.

    Args:
        folder: the training's.
        checkpoints: their names in it.
        dataset: the images, of any split.
    """
    found = TrainedImages(dataset.name, dataset.split, False, identities(dataset.samples))
    write_json(folder / CHOSEN, {**_stored(found), "checkpoints": list(checkpoints)})


def _stored(images: TrainedImages) -> dict[str, Any]:
    return {
        "format": FORMAT,
        "name": images.name,
        "split": images.split,
        "on_evaluation_split": images.on_evaluation_split,
        "images": len(images.identities),
        "identities": base64.b64encode(images.identities.astype("<u8").tobytes()).decode(),
        "folders": dict(images.folders),
        "names_known": images.names_known,
    }


def place(checkpoint: Path | str) -> Path | None:
    """Path of the record of a checkpoint's training: beside it, or in the folder that it is; None where none is."""
    if str(checkpoint).startswith("imagenet:"):
        return None
    checkpoint = Path(checkpoint)
    beside = (checkpoint / FILE, checkpoint.with_name(f"{checkpoint.name}.{FILE}"), checkpoint.with_name(FILE))
    return next((path for path in beside if path.is_file()), None)


def read(checkpoint: Path | str) -> TrainedImages | None:
    """The images that a checkpoint was trained on; None where no record lies beside it.

    Raises:
        UserError: a record that can't be read.
    """
    path = place(checkpoint)
    return None if path is None else _read(path, read_json(path))


def read_chosen(checkpoint: Path | str) -> TrainedImages | None:
    """The images that a checkpoint is the best of several on; None where it was not chosen so.

    Raises:
        UserError: a record that can't be read.
    """
    path = Path(checkpoint).with_name(CHOSEN)
    if str(checkpoint).startswith("imagenet:") or not path.is_file():
        return None
    stored = read_json(path)
    names = stored.get("checkpoints") if isinstance(stored, dict) else None
    if not isinstance(names, list):
        raise UserError("no record of the checkpoints that were chosen", where=path, expected="their names")
    return _read(path, stored) if {Path(checkpoint).name, Path(checkpoint).stem} & set(names) else None


def _read(path: Path, stored: Any) -> TrainedImages:
    try:
        if stored["format"] != FORMAT:
            raise ValueError(f"format {stored['format']}")
        found = np.frombuffer(base64.b64decode(stored["identities"], validate=True), "<u8").reshape(-1, 2)
        name, split, flag = stored["name"], stored["split"], stored["on_evaluation_split"]
        if not isinstance(name, str) or not isinstance(split, str) or not isinstance(flag, bool):
            raise ValueError("its name, split or flag is of another kind")
        labels, known = stored.get("folders", {}), stored.get("names_known", True)
        if not isinstance(labels, dict) or not all(type(label) is int for label in labels.values()):
            raise ValueError("its folders are of another kind")
    except (KeyError, TypeError, ValueError) as error:
        raise UserError(f"no record of the training's images ({error})", where=path,
                        do="delete it; results will then say that they are unknown") from error  # fmt: skip
    return TrainedImages(name, split, flag, found.astype(np.uint64), labels, bool(known))


def steps(checkpoint: Path | str) -> int | None:
    """Number of training steps that a checkpoint is of: from its name, or from what lies beside it; None if unknown.

    A training in PyTorch logs every step; one of DGL's records its epochs and their steps. `imagenet:` is of none here.
    """
    if str(checkpoint).startswith("imagenet:"):
        return 0
    path = Path(checkpoint)
    if named := re.fullmatch(r"step-(\d+)\.pth", path.name):
        return int(named[1])
    if not path.is_dir() and path.stem != "final":
        return None
    folder = path if path.is_dir() else path.parent
    try:
        if (folder / LOG).is_file():
            return int(json.loads((folder / LOG).read_text(encoding="utf-8").splitlines()[-1])["step"]) + 1
        told = json.loads((folder / TRAINING).read_text(encoding="utf-8"))["options"]
        return int(told["epochs"]) * int(told["steps_per_epoch"])
    except (OSError, ValueError, LookupError, TypeError):
        return None


def compared(dataset: Dataset, checkpoints: Iterable[Path | str | None]) -> dict[str, Any]:
    """Entry of a manifest about images that the networks behind its results were trained on.

    Args:
        dataset: the images that are localized.
        checkpoints: of every network that has a part in the results; what lies beside them is looked for.

    Returns:
        `known`, whether all of them have a record; `images`, ids of those trained on by any that has one;
        `evaluation_split`, the split that one was trained on though results are measured on it, or None; and `chosen`,
        ids of those that one was chosen on, as the best of several.
    """
    checkpoints = list(checkpoints)
    records = [None if checkpoint is None else read(checkpoint) for checkpoint in checkpoints]
    found = [record for record in records if record is not None]
    shared = {image_id for record in found for image_id in record.among(dataset)}
    choices = [None if checkpoint is None else read_chosen(checkpoint) for checkpoint in checkpoints]
    chosen = {image_id for record in choices if record is not None for image_id in record.among(dataset)}
    return {
        "known": bool(records) and len(found) == len(records),
        "images": [sample.image_id for sample in dataset if sample.image_id in shared],
        "evaluation_split": next((record.split for record in found if record.on_evaluation_split), None),
        "chosen": [sample.image_id for sample in dataset if sample.image_id in chosen],
    }


def joined(parts: Iterable[Any]) -> dict[str, Any]:
    """One of several of `compared`: of the networks of one result, or of the shares of one split. What is not as
    `compared` makes it is unknown.
    """
    parts = [part if _is_comparison(part) else UNKNOWN for part in parts]
    return {
        "known": bool(parts) and all(part["known"] for part in parts),
        "images": list(dict.fromkeys(image_id for part in parts for image_id in part["images"])),
        "evaluation_split": next((part["evaluation_split"] for part in parts if part["evaluation_split"]), None),
        "chosen": list(dict.fromkeys(image_id for part in parts for image_id in part.get("chosen", ()))),
    }


def _is_comparison(part: Any) -> bool:
    kinds = {"known": bool, "images": list, "evaluation_split": str | None}
    right = isinstance(part, dict) and all(
        name in part and isinstance(part[name], kind) for name, kind in kinds.items()
    )
    if not right or not isinstance(part.get("chosen", []), list):
        return False
    return all(isinstance(image_id, str) for image_id in (*part["images"], *part.get("chosen", ())))
