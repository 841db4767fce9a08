"""The papers' list files, written for any data set; `layouts.lists` says what they hold, and reads them."""

import io
import re
from collections import Counter
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np

from common.datasets.layouts import lists
from common.datasets.sample import Dataset
from common.system.errors import UserError
from common.system.files import write_atomically, write_text


def write_all(splits: dict[str, Dataset], target: Path, style: str, words: dict[str, str] | None = None) -> list[Path]:
    """Write every paper's list files below `target`, in folders `bas/`, `spol/`, `dgl/`, `grcam/`.

    Args:
        splits: `train` and `test` as loaded; either may be missing, its files then are too.
        target: the folder to write to.
        style: `cub` (one box an image in the list) or `ilsvrc`.
        words: for ILSVRC each wnid's names ("tench, Tinca tinca"); without them SPOL's `name.txt`, which no code reads,
            is not written, and GRCAM's `synset1.txt` repeats the wnid in their place.

    Returns:
        The files written.

    Raises:
        UserError: a name that one of the formats can't carry; nothing is written then.
    """
    _check_names(splits, style)
    texts = _texts(splits, style, words or {})
    written = []
    for name, text in texts.items():
        write_text(target / name, text)
        written.append(target / name)
    if style == "ilsvrc":
        classes = next(iter(splits.values())).class_names
        numbering = io.BytesIO()
        np.save(numbering, np.array({wnid: label for label, wnid in enumerate(classes)}, dtype=object))
        write_atomically(target / "spol/cls2idx.npy", lambda file: file.write(numbering.getvalue()))
        written.append(target / "spol/cls2idx.npy")
    return written


def _texts(splits: dict[str, Dataset], style: str, words: dict[str, str]) -> dict[str, str]:
    if style == "cub":
        return _cub_texts(splits)
    if style == "ilsvrc":
        return _ilsvrc_texts(splits, words)
    raise ValueError(f"unknown style {style!r}, expected cub or ilsvrc")


def _check_names(splits: dict[str, Dataset], style: str) -> None:
    """Read what would be written of unusual names again, with the readers here.

    Raises:
        UserError: a name that a format can't carry.
    """
    if style == "ilsvrc" and "test" in splits:
        counts = Counter(sample.path.name for sample in splits["test"])
        if twice := [name for name, count in counts.items() if count > 1]:
            raise UserError(f"{twice[0]} is the name of two images, and ILSVRC's lists know them by it",
                            do="rename one of them")  # fmt: skip
    odd = {split: replace(dataset, samples=tuple(s for s in dataset if not _PLAIN.fullmatch(s.image_id)))
           for split, dataset in splits.items()}  # fmt: skip
    odd = {split: dataset for split, dataset in odd.items() if len(dataset)}
    if not odd:
        return
    with TemporaryDirectory() as folder:
        texts = _texts(odd, style, {})
        for name, text in texts.items():
            write_text(Path(folder) / name, text)
        for name, read, split in _READ_AGAIN:
            if name in texts:
                _check_read_again(name, read, odd[split], Path(folder))


_PLAIN = re.compile(r"[\w./-]+", re.ASCII)
_READ_AGAIN: tuple[tuple[str, Callable[[Path], list[lists.Entry]], str], ...] = (
    ("spol/train.txt", lists.read_spol, "train"),
    ("spol/val.txt", lists.read_spol, "test"),
    ("dgl/labels/CUB/train.txt", lambda path: lists.read_dgl(path, sides=True), "train"),
    ("dgl/labels/CUB/val.txt", lists.read_dgl, "test"),
    ("dgl/labels/ILSVRC12/train.txt", lists.read_dgl, "train"),
    ("dgl/labels/ILSVRC12/val.txt", lists.read_dgl, "test"),
    ("bas/test_list.txt", lambda path: lists.read_bas(path, path.with_name("test_gt.txt")), "test"),
    ("bas/val_list.txt", lambda path: lists.read_bas(path, path.with_name("val_gt.txt")), "test"),
)


def _check_read_again(name: str, read: Callable[[Path], list[lists.Entry]], dataset: Dataset, folder: Path) -> None:
    ends = sorted((sample.path.name, sample.label) for sample in dataset)
    try:
        found = sorted((image_id.rsplit("/", 1)[-1], label) for image_id, label, _ in read(folder / name))
    except UserError as problem:
        example = dataset.samples[(problem.line or 1) - 1].image_id
        raise UserError(f"{name} can't hold the name {example!r}: {problem.found}", do="rename the file") from problem
    if wrong := [one for one, other in zip(ends, found, strict=False) if one != other]:
        raise UserError(f"{name} can't hold the name {wrong[0][0]!r}, which would be read otherwise",
                        do="rename the file")  # fmt: skip


def _cub_texts(splits: dict[str, Dataset]) -> dict[str, str]:
    texts = {}
    for split, name in (("train", "train"), ("test", "val")):
        if split not in splits:
            continue
        rows = [(sample, sample.boxes[0]) for sample in splits[split]]
        texts[f"spol/{name}.txt"] = "".join(
            f"{sample.image_id},{sample.label},{' '.join(str(int(value)) for value in box)}\n" for sample, box in rows
        )
        # ADL stores corners for val and x y width height for train; nothing reads the latter.
        texts[f"dgl/labels/CUB/{name}.txt"] = "".join(
            "\t".join([sample.image_id, str(sample.label), *map(str, _dgl_box(box, split).tolist())]) + "\n"
            for sample, box in rows
        )
    if "test" in splits:
        samples = splits["test"].samples
        texts["bas/test_list.txt"] = "".join(f"{sample.image_id};{sample.label}\r\n" for sample in samples)
        boxes = "".join(
            f"{' '.join(str(float(value)) for value in sample.boxes[0])} {sample.size[1]} {sample.size[0]}\n"
            for sample in samples
        )
        texts["bas/test_gt.txt"] = texts["bas/test_bounding_box.txt"] = boxes
    return texts


def _dgl_box(box: np.ndarray, split: str) -> np.ndarray:
    return np.concatenate([box[:2], box[2:] - box[:2]]) if split == "train" else box


def _ilsvrc_texts(splits: dict[str, Dataset], words: dict[str, str]) -> dict[str, str]:
    classes = next(iter(splits.values())).class_names
    texts = {"grcam/synset1.txt": "\n".join(f"{wnid} {words.get(wnid, wnid)}" for wnid in classes)}
    if words:
        texts["spol/name.txt"] = "".join(f"{words[wnid]}\n" for wnid in classes)
    if "train" in splits:
        blank = any(" " in sample.image_id for sample in splits["train"])
        for name, between in (("spol/train.txt", " "), ("dgl/labels/ILSVRC12/train.txt", "\t" if blank else " ")):
            texts[name] = "".join(f"{sample.image_id}{between}{sample.label}\n" for sample in splits["train"])
    if "test" in splits:
        samples = sorted(splits["test"], key=lambda sample: sample.path.name)
        texts["spol/val.txt"] = "".join(f"{sample.path.name} {sample.label}\n" for sample in samples)
        texts["bas/val_list.txt"] = "".join(
            f"{classes[sample.label]}/{sample.path.name};{sample.label}\n" for sample in samples
        )
        texts["bas/val_gt.txt"] = "".join(
            f"{classes[sample.label]}\\\\{sample.path.name} {sample.size[0]} {sample.size[1]} ; "
            f"{' '.join(f'{value:g}' for value in sample.boxes.ravel())}\r\n"
            for sample in samples
        )
        texts["dgl/labels/ILSVRC12/val.txt"] = "".join(
            "\t".join([sample.path.name, str(sample.label), *map(str, sample.boxes[:1].ravel().tolist())]) + "\n"
            for sample in samples
        )
    return texts
