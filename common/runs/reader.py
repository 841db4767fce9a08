"""Reads a run's predictions and checks them; see `record` for the format."""

import os
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, TypeVar

import numpy as np

from common.datasets import DataSource
from common.measuring.arrays import Array, Floats
from common.measuring.extraction import check_map, widened
from common.measuring.geometry import Frame
from common.runs.manifest import MANIFEST, Manifest
from common.runs.record import LINES, MAPS, Prediction, map_path, parse, read_lines
from common.system import architectures
from common.system.errors import UserError, inside, say
from common.system.files import need_file, read_json
from common.system.wording import shorten

Entry = TypeVar("Entry")
CHUNK = 50
"""Images that a process scores at a time."""
EXPECTED = "a predictions directory, which holds manifest.json and predictions.jsonl"
NAME_ONE = "name a folder that a localize command wrote"
SHOWN = 3
"""Folders that a message names."""
_KINDS = {
    ".pth": "a PyTorch checkpoint", ".pt": "a PyTorch checkpoint", ".tar": "a checkpoint or an archive",
    ".safetensors": "a checkpoint", ".ckpt": "a checkpoint", ".index": "a TensorFlow checkpoint", ".zip": "an archive",
    ".gz": "an archive", ".html": "a page", ".htm": "a page", ".npy": "an array, such as one map", ".npz": "arrays",
    ".json": "a JSON file", ".jsonl": "a file of JSON lines", ".csv": "a table", ".txt": "a text file",
    ".jpg": "an image", ".jpeg": "an image", ".png": "an image",
}  # fmt: skip


def read_map(path: Path, frame: Frame) -> Floats:
    """One map, checked: float32 or float64 (H, W) in [0, 1], of the frame's size.

    Half precision, and the other byte order, are widened and turned without loss.

    Raises:
        UserError: missing, pickled, no array, another shape or type, or values outside [0, 1].
    """
    localization_map = open_map(path)
    if localization_map.shape[::-1] != tuple(frame.size):
        size = "x".join(map(str, localization_map.shape[::-1]))
        raise UserError(f"the map is {size}", where=path, expected="x".join(map(str, frame.size)))
    try:
        check_map(localization_map)
    except ValueError as error:
        raise UserError(str(error), where=path) from error
    if localization_map.dtype.itemsize > 8:
        raise UserError(f"the map is {localization_map.dtype}", where=path, expected="float32 or float64")
    return np.array(widened(localization_map))


def open_map(path: Path) -> Array:
    """An `.npy` file's array of whatever shape and type, mapped and not read.

    A wrong shape can be refused before any memory is taken, and pickled objects can't be mapped.

    Raises:
        UserError: missing, pickled, or no array.
    """
    need_file(path)
    try:
        array: Array = np.lib.format.open_memmap(path, mode="r")  # type: ignore[no-untyped-call]  # numpy 1.26
        return array
    except FileNotFoundError as error:
        raise UserError("no such map", where=path, do="localize again with maps saved") from error
    except Exception as error:  # numpy parses the header as Python, and fails as variously as Python's parser
        raise UserError(f"not a readable .npy file ({error})", where=path) from error


@dataclass(frozen=True)
class Places:
    """Places of a data set's files that are no longer where the manifest says."""

    root: Path | None = None
    """The data set's folder, where it is no longer the one in the manifest."""
    boxes: Path | None = None
    """The boxes that --data.boxes named, where they are no longer there."""
    metadata: Path | None = None
    """The folder that --data.metadata named, where it is no longer there."""
    list_file: Path | None = None
    """The list that --data.list-file named, where it is no longer there."""


_PLACES = (("root", "data set lies in", "folder"), ("boxes", "boxes lie in", "file"),
           ("metadata", "metadata lie in", "folder"), ("list_file", "list is", "file"))  # fmt: skip


def _need_manifest(directory: Path) -> None:
    """Refuse what is no folder with a manifest, by what it is.

    Raises:
        UserError: always but for a folder with a manifest.
    """
    if not os.path.lexists(directory):
        raise UserError("no such folder", where=directory, expected=EXPECTED, do=NAME_ONE)
    if not directory.is_dir():
        kind = _KINDS.get(directory.suffix.lower(), "a file") if directory.is_file() else "no folder"
        do = "localize with it, then name the folder that this wrote" if "checkpoint" in kind else NAME_ONE
        if directory.name in (MANIFEST, LINES):
            do = f"name the folder: {directory.parent}"
        elif kind == "an archive":
            do = "unpack it, then name the folder in it"
        raise UserError(f"this is {kind}", where=directory, expected=EXPECTED, do=do)
    if not os.path.lexists(directory / MANIFEST):
        inner = sorted(path.parent for path in directory.glob(f"*/{MANIFEST}"))
        do = f"name {' or '.join(map(str, inner[:SHOWN]))}" if inner else NAME_ONE
        raise UserError("this folder holds no manifest.json", where=directory, expected=EXPECTED, do=do)


def _option(name: str) -> str:
    return name.replace("_", "-")


def need_directory(directory: Path, incomplete: bool = False) -> Manifest:
    """The manifest of a predictions directory, of whatever task.

    Args:
        directory: as a writer left it.
        incomplete: accept one whose run has not finished.

    Raises:
        UserError: not a predictions directory, or not finished.
    """
    _need_manifest(directory)
    manifest = Manifest.checked(read_json(directory / MANIFEST, do=NAME_ONE), directory / MANIFEST)
    if not manifest.complete and not incomplete:
        raise UserError("the run that writes these predictions has not finished", where=directory,
                        do="run its command again, it continues where it ended")  # fmt: skip
    return manifest


def read_entries(
    directory: Path, manifest: Manifest, parsed: Callable[[dict[str, Any], Path, int], Entry]
) -> tuple[tuple[Entry, ...], dict[str, str]]:
    """The lines of a predictions directory, of whatever task.

    Args:
        directory: where they lie.
        manifest: its.
        parsed: a line, its file and number to an entry; raises `UserError` where the line makes no sense.

    Returns:
        An entry for each image, in the order written; and the reason for each that was skipped, by its id.

    Raises:
        UserError: a line that is not right, an id that stands twice or leaves the directory, or fewer lines than a
            finished run wrote, as where a copy was cut off.
    """
    entries, skipped, seen = [], {}, set()
    path = directory / LINES
    for line, record in read_lines(path):
        image_id = record["image_id"]
        if image_id in seen:
            raise UserError(f"{image_id} stands here twice", where=path, line=line)
        seen.add(image_id)
        inside(directory / MAPS, image_id, where=path, line=line)
        if "skipped" in record:
            skipped[image_id] = str(record["skipped"])
        else:
            entries.append(parsed(record, path, line))
    if manifest.complete and manifest.lines not in (None, len(seen)):
        raise UserError(f"{len(seen)} images", where=path, expected=f"{manifest.lines}, as manifest.json says",
                        do="copy the folder again, or localize again, which goes on from there")  # fmt: skip
    return tuple(entries), skipped


@dataclass(frozen=True, eq=False)
class Predictions:
    """A predictions directory that has been read and checked.

    Attributes:
        directory: where it lies.
        manifest: what the run says of itself.
        entries: one for each image that was localized, in the order written.
        skipped: image id to reason.
        has_maps: whether `maps/` is there.
    """

    directory: Path
    manifest: Manifest
    entries: tuple[Prediction, ...]
    skipped: dict[str, str]
    has_maps: bool

    @classmethod
    def open(cls, directory: Path, incomplete: bool = False) -> "Predictions":
        """Read a directory.

        Args:
            directory: as a `PredictionsWriter` left it.
            incomplete: accept one whose run has not finished.

        Raises:
            UserError: not a predictions directory, not finished, a line that is not right, or an id that stands twice.
        """
        manifest = need_directory(directory, incomplete)
        if "task" in manifest:
            raise UserError(f"predictions of another task, {shorten(manifest['task'])}", where=directory,
                            expected="localization")  # fmt: skip

        def parsed(record: dict[str, Any], path: Path, line: int) -> Prediction:
            entry = parse(record, path, line)
            if manifest.frame not in ("", entry.frame.kind):
                raise UserError(f"the frame is {entry.frame.kind!r}", where=path, line=line,
                                expected=f"the manifest's {manifest.frame!r}")  # fmt: skip
            return entry

        entries, skipped = read_entries(directory, manifest, parsed)
        return cls(directory, manifest, entries, skipped, (directory / MAPS).is_dir())

    def need(self, *names: str) -> None:
        """Make sure that the manifest has some entries.

        Raises:
            UserError: it lacks one.
        """
        if lacking := [name for name in names if name not in self.manifest]:
            raise UserError(f"the manifest lacks {' and '.join(lacking)}", where=self.directory / MANIFEST,
                            do="localize again")  # fmt: skip

    @property
    def title(self) -> str:
        """Method and architecture, as tables and plots name them."""
        return f"{self.manifest.method} {architectures.title(self.manifest.architecture)}"

    @property
    def source(self) -> DataSource:
        """The images that were predicted on, as the manifest says.

        Raises:
            UserError: it doesn't, or not readably.
        """
        return self.manifest.source(self.directory)

    def source_in(self, places: Places) -> DataSource:
        """`source`, with its files where they lie now.

        Raises:
            UserError: one of them is not there; says which option names it.
        """
        stored = self.source
        moved = {name: path for name, path in vars(places).items() if path is not None}
        if unused := [name for name in moved if getattr(stored, name) is None]:
            option = _option(unused[0])
            raise UserError(f"it was made without --data.{option}, so --{option} names nothing", where=self.directory,
                            do=f"leave it out, or localize again with --data.{option}")  # fmt: skip
        source = replace(stored, **moved)
        for name, what, kind in _PLACES:
            path = getattr(source, name)
            if path is not None and not (path.is_dir() if kind == "folder" else path.exists()):
                raise UserError(f"its {what} {path}, no such {kind}", where=self.directory,
                                do=f"name it with --{_option(name)}")  # fmt: skip
            if name not in moved and (then := self._place_then(path)) is not None:
                say([f"note: {self.directory}: its {what} {path}, here {path.resolve()}; {then}, where it lay when it "
                     f"was localized, is there too, and --{_option(name)} names it"])  # fmt: skip
        return source

    def _place_then(self, path: Path | None) -> Path | None:
        """The file or folder that a relative path meant where the command was run, if it is there and another one."""
        command = self.manifest.processes[-1].get("command") if self.manifest.processes else None
        folder = command.get("folder") if isinstance(command, dict) else None
        if path is None or path.is_absolute() or not isinstance(folder, str) or "\0" in folder:
            return None
        then = Path(folder) / path
        try:
            return then if then.exists() and not os.path.samefile(then, path) else None
        except OSError:
            return None

    def chunks(self) -> Iterator["Predictions"]:
        """The same directory, some entries at a time: what another process needs for its images, and no more."""
        for start in range(0, len(self.entries), CHUNK):
            yield replace(self, entries=self.entries[start : start + CHUNK], skipped={})

    def accuracy(self, among: int) -> float | None:
        """Percent of images whose true class is among the classifier's first `among`; None where nobody classified."""
        ranked = [(entry.label, entry.top5) for entry in self.entries if entry.top5 is not None]
        if not ranked or len(ranked) < len(self.entries):
            return None
        return 100.0 * sum(label in top5[:among] for label, top5 in ranked) / len(ranked)

    def map(self, entry: Prediction) -> Floats:
        """The entry's localization map; see `read_map`."""
        return read_map(map_path(self.directory, entry.image_id), entry.frame)
