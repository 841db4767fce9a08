"""Layouts of data sets by name: how each is read, its splits, the options it takes, and its published counts."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from common.datasets.layouts import coco, cub, fine_grained, folder, ilsvrc, imagenetv2, lists, voc, wsoleval
from common.datasets.sample import Dataset, OnProblem
from common.system.errors import UserError

if TYPE_CHECKING:
    from common.datasets import DataSource


@dataclass(frozen=True)
class Layout:
    """One data set's layout on disk, and what is known of it.

    Attributes:
        load: reads the split that a source names; its second argument is told of every faulty line or file.
        splits: those that such a data set has, for `common.prepare`, which takes no list files.
        options: fields of `DataSource` that this layout reads and most others do not.
        counts: numbers of classes and of images in each split, as published.
        multi_label: whether its images show several classes.
    """

    load: Callable[["DataSource", OnProblem], Dataset]
    splits: tuple[str, ...]
    options: tuple[str, ...] = ()
    counts: Mapping[str, int] | None = None
    multi_label: bool = False


def _cub(source: "DataSource", on_problem: OnProblem) -> Dataset:
    return cub.load(source.root, source.split, source.held_per_class, on_problem, name=source.name)


def _ilsvrc(source: "DataSource", on_problem: OnProblem) -> Dataset:
    held, leave_out = source.held_per_class, source.leave_out
    return ilsvrc.load(source.root, source.split, held, leave_out, on_problem, name=source.name)


def _folder(source: "DataSource", on_problem: OnProblem) -> Dataset:
    return folder.load(source.root, source.split, source.boxes, source.held_per_class, on_problem)


def _wsoleval(source: "DataSource", on_problem: OnProblem) -> Dataset:
    metadata = _needed(source, "metadata")
    return wsoleval.load(source.root, metadata, source.split, source.held_per_class, on_problem)


def _openimages(source: "DataSource", on_problem: OnProblem) -> Dataset:
    metadata = source.metadata or wsoleval.openimages_metadata(source.root)
    return wsoleval.load(source.root, metadata, source.split, source.held_per_class, on_problem, name=source.name)


def _list(source: "DataSource", on_problem: OnProblem) -> Dataset:
    file, boxes, held = _needed(source, "list_file"), source.boxes, source.held_per_class
    return lists.load(source.root, file, source.list_format, source.split, boxes, held, on_problem)


def _fine_grained(source: "DataSource", on_problem: OnProblem) -> Dataset:
    return fine_grained.load(source.name, source.root, source.split, source.held_per_class, on_problem)


def _imagenetv2(source: "DataSource", on_problem: OnProblem) -> Dataset:
    return imagenetv2.load(source.root, source.split, source.boxes, on_problem)


def _voc(source: "DataSource", on_problem: OnProblem) -> Dataset:
    return voc.load(source.root, source.split, source.held_per_class, on_problem, name=source.name)


def _coco(source: "DataSource", on_problem: OnProblem) -> Dataset:
    return coco.load(source.root, source.split, on_problem)


def _needed(source: "DataSource", option: str) -> Path:
    value: Path | None = getattr(source, option)
    if value is None:
        raise UserError(f"--data.name {source.name} needs --data.{option.replace('_', '-')}")
    return value


LAYOUTS: dict[str, Layout] = {
    "demo": Layout(_cub, ("train", "test")),
    "cub": Layout(_cub, ("train", "test"), counts=cub.COUNTS),
    "ilsvrc": Layout(_ilsvrc, ("train", "val"), ("leave_out",), ilsvrc.COUNTS),
    "photographs": Layout(_ilsvrc, ("val",)),
    "folder": Layout(_folder, ("train", "test"), ("boxes",)),
    "wsoleval": Layout(_wsoleval, ("train", "val", "test"), ("metadata",)),
    "list": Layout(_list, (), ("list_file", "list_format", "boxes")),
    "stanford-dogs": Layout(_fine_grained, ("train", "test"), counts=fine_grained.COUNTS["stanford-dogs"]),
    "stanford-cars": Layout(_fine_grained, ("train", "test"), counts=fine_grained.COUNTS["stanford-cars"]),
    "fgvc-aircraft": Layout(_fine_grained, ("train", "val", "test"), counts=fine_grained.COUNTS["fgvc-aircraft"]),
    "openimages": Layout(_openimages, ("train", "val", "test"), ("metadata",), wsoleval.OPENIMAGES_COUNTS),
    "imagenetv2": Layout(_imagenetv2, ("test",), ("boxes",), imagenetv2.COUNTS),
    "voc": Layout(_voc, ("train", "val"), multi_label=True),
    "coco": Layout(_coco, ("train", "val"), multi_label=True),
    "demo-scenes": Layout(_voc, ("train", "val", "test"), multi_label=True),
}
