"""The hand-over between a method and its evaluation: one directory a run, written as the run goes.

    manifest.json       what was run, on what, with which versions; `complete: true` once everything is written
    predictions.jsonl   a line an image, in the order they were localized
    maps/               optional localization maps, `<image_id>.npy`, float32 in [0, 1], in the frame's size

A run that is stopped continues after the last whole line. wsolevaluation reads `maps/` as it is.
"""

import json
import os
import shutil
from collections import Counter
from collections.abc import Callable, Collection, Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from common.datasets import DataSource, Sample, alike
from common.datasets.text import undecodable_line
from common.errors import UserError, inside
from common.extraction import check_map
from common.files import holds_files, need_file, parse_json, read_json, write_json, writing
from common.geometry import Frame
from common.provenance import provenance

MANIFEST, LINES, MAPS = "manifest.json", "predictions.jsonl", "maps"
FORMAT = 1
LONGEST_LINE = 1_000_000
"""Characters; a line of ours has some 500."""
CHUNK = 50
"""Images that a process scores at a time."""
_FIELDS = {
    "method": str, "architecture": str, "data": dict, "checkpoint": dict, "classifier": dict | None, "frame": str,
    "options": dict, "processes": list, "counts": dict,
}  # fmt: skip
"""What a manifest's entries are, where they are there."""


@dataclass(frozen=True, eq=False)
class Prediction:
    """One image's line.

    Attributes:
        image_id: as in the data set.
        label: 0-based true class, which localization maps of GT-known evaluation are made for.
        size: width and height of the original image.
        frame: where the network input lay in it.
        top5: the five best classes, best first (fewer where there are fewer classes); None where nobody classified.
        top5_scores: their probabilities.
        box: (4,) in pixels of the frame, None where nothing was found.
        threshold: the one `box` was made with.
    """

    image_id: str
    label: int
    size: tuple[int, int]
    frame: Frame
    top5: tuple[int, ...] | None
    top5_scores: tuple[float, ...] | None
    box: np.ndarray | None
    threshold: float

    @property
    def boxes(self) -> np.ndarray:
        """`box` as (1, 4), or (0, 4) where there is none."""
        return np.empty((0, 4)) if self.box is None else self.box[None]

    def to_json(self) -> dict[str, Any]:
        """Plain values, as a line of `predictions.jsonl` holds them."""
        return {
            "image_id": self.image_id,
            "label": self.label,
            "size": list(self.size),
            "frame": self.frame.to_json(),
            "top5": None if self.top5 is None else list(self.top5),
            "top5_scores": None if self.top5_scores is None else [round(score, 6) for score in self.top5_scores],
            "box": None if self.box is None else [float(value) for value in self.box],
            "threshold": self.threshold,
        }


class PredictionsWriter:
    """Writes a predictions directory, or continues one.

    Args:
        directory: made if it isn't there.
        header: what identifies the run: `method`, `architecture`, `data`, `checkpoint`, `classifier`, `frame`,
            `options`; plain JSON values.
        overwrite: start anew even if the directory holds another or a finished run.
        processes: what earlier processes had a part in the run, as a manifest has them.

    Attributes:
        done: ids of images that have a line already; skip them.
        complete: the directory held this very run, finished; there is nothing to do.

    Raises:
        UserError: the directory holds another run's predictions, or something else.
    """

    def __init__(
        self, directory: Path, header: dict[str, Any], overwrite: bool = False, processes: Sequence[dict[str, Any]] = ()
    ):
        self.directory, self.header = directory, json.loads(json.dumps(header))
        self.done: set[str] = set()
        self._skipped: Counter[str] = Counter()
        self._processes: list[dict[str, Any]] = list(processes)
        self._file = None
        manifest = directory / MANIFEST
        if manifest.is_file() and not overwrite:
            self._continue(read_json(manifest))
        elif holds_files(directory) and not manifest.is_file():
            raise UserError(
                "the folder is not empty and holds no predictions", where=directory, do="choose another one"
            )
        else:
            self.complete = False
            _remove_earlier(directory)
        if not self.complete:
            self._processes.append(provenance())
            self._write_manifest(complete=False)
            with writing(directory / LINES):
                self._file = open(directory / LINES, "a", encoding="utf-8")  # noqa: SIM115, closed by finish and close

    def _continue(self, manifest: dict[str, Any]) -> None:
        for name, value in self.header.items():
            if not isinstance(manifest, dict) or not alike(manifest.get(name), value):
                stored = manifest.get(name) if isinstance(manifest, dict) else manifest
                raise UserError(
                    f"the folder holds another run: its {name} is {_shorten(stored)}, not {_shorten(value)}",
                    where=self.directory,
                    do="choose another --out, or say --overwrite",
                )
        self.complete = bool(manifest.get("complete"))
        _check_fields(manifest, self.directory / MANIFEST)
        self._processes = list(manifest.get("processes", []))
        if not self.complete:
            _cut_after_last_whole_line(self.directory / LINES)
        for _, record in _records(self.directory / LINES):
            self.done.add(record["image_id"])
            if "skipped" in record:
                self._skipped[str(record["skipped"])] += 1

    def write(self, prediction: Prediction, localization_map: np.ndarray | None = None) -> None:
        """Write one image's line, and before it its map.

        Raises:
            ValueError: the id stands there already, or the map is not one of the frame's size in [0, 1].
        """
        if prediction.image_id in self.done:
            raise ValueError(f"{prediction.image_id} has been written already")
        if localization_map is not None:
            check_map(localization_map)
            if tuple(localization_map.shape[::-1]) != tuple(prediction.frame.size):
                raise ValueError(f"the map is {localization_map.shape[::-1]}, its frame {prediction.frame.size}")
            path = map_path(self.directory, prediction.image_id)
            with writing(path):
                path.parent.mkdir(parents=True, exist_ok=True)
                path.unlink(missing_ok=True)  # in a folder of somebody else's it may be a link to any file
                with open(path, "wb") as file:  # a line follows only when the map is whole, so no rename is needed
                    np.save(file, localization_map.astype(np.float32), allow_pickle=False)
        self._append(prediction.to_json())

    def skip(self, image_id: str, reason: str) -> None:
        """Note that an image could not be localized; the manifest counts it by its reason."""
        self._skipped[reason] += 1
        self._append({"image_id": image_id, "skipped": reason})

    def _append(self, record: dict[str, Any]) -> None:
        with writing(self.directory / LINES):
            self._file.write(json.dumps(record, ensure_ascii=False) + "\n")
            self._file.flush()
        self.done.add(record["image_id"])

    def finish(self) -> None:
        """Say that everything is written."""
        with writing(self.directory / LINES):
            os.fsync(self._file.fileno())
        self.close()
        self._write_manifest(complete=True)
        self.complete = True

    def close(self) -> None:
        """Close the file without saying so, to continue another time."""
        if self._file is not None:
            self._file.close()
            self._file = None

    def _write_manifest(self, complete: bool) -> None:
        skipped = sum(self._skipped.values())
        counts = {"scored": len(self.done) - skipped, "skipped": dict(self._skipped)}
        write_json(
            self.directory / MANIFEST,
            {"format": FORMAT, **self.header, "processes": self._processes, "counts": counts, "complete": complete},
        )


def pending(dataset: Iterable[Sample], writers: Collection[PredictionsWriter], batch_size: int) -> list[Sample]:
    """The batches in which at least one of several directories lacks the line of an image."""
    return batches_left(
        dataset, lambda sample: any(sample.image_id not in writer.done for writer in writers), batch_size
    )


def batches_left(samples: Iterable[Sample], is_left: Callable[[Sample], bool], batch_size: int) -> list[Sample]:
    """The images of every batch in which an image is left to do.

    Whole batches, cut as an uninterrupted run cuts them: the last digits of what a network gives depend on the images
    that it looks at together.
    """
    ordered = list(samples)
    batches = [ordered[start : start + batch_size] for start in range(0, len(ordered), batch_size)]
    return [sample for batch in batches if any(map(is_left, batch)) for sample in batch]


def skip(writers: Iterable[PredictionsWriter], image_id: str, reason: str) -> None:
    """Note in every directory that has no line of it that an image could not be localized."""
    for writer in writers:
        if image_id not in writer.done:
            writer.skip(image_id, reason)


def finish(writers: Iterable[PredictionsWriter]) -> list[Path]:
    """Finish the directories that aren't, say where all are, and give their paths."""
    directories = []
    for writer in writers:
        if not writer.complete:
            writer.finish()
        print(f"predictions: {writer.directory}")
        directories.append(writer.directory)
    return directories


def map_path(directory: Path, image_id: str) -> Path:
    """Where an image's map lies; an id that leaves the directory is refused (`UserError`)."""
    return inside(directory / MAPS, f"{image_id}.npy", where=directory)


def read_map(path: Path, frame: Frame) -> np.ndarray:
    """One map, checked: float32 or float64 (H, W) in [0, 1], of the frame's size.

    Half precision, and the other byte order, are widened and turned without loss.

    Raises:
        UserError: missing, pickled, no array, another shape or type, or values outside [0, 1].
    """
    need_file(path)
    try:
        # Mapped, not read: a wrong shape is refused before any memory is taken, and pickled objects can't be mapped.
        localization_map = np.lib.format.open_memmap(path, mode="r")
    except FileNotFoundError as error:
        raise UserError("no such map", where=path, do="localize again with maps saved") from error
    except Exception as error:  # numpy parses the header as Python, and fails as variously as Python's parser
        raise UserError(f"not a readable .npy file ({error})", where=path) from error
    if localization_map.shape[::-1] != tuple(frame.size):
        size = "x".join(map(str, localization_map.shape[::-1]))
        raise UserError(f"the map is {size}", where=path, expected="x".join(map(str, frame.size)))
    try:
        check_map(localization_map)
    except ValueError as error:
        raise UserError(str(error), where=path) from error
    if localization_map.dtype.itemsize > 8:
        raise UserError(f"the map is {localization_map.dtype}", where=path, expected="float32 or float64")
    return np.array(localization_map, np.float64 if localization_map.dtype.itemsize == 8 else np.float32)


@dataclass(frozen=True, eq=False)
class Predictions:
    """A predictions directory that has been read and checked.

    Attributes:
        directory: where it lies.
        manifest: as parsed.
        entries: one for each image that was localized, in the order written.
        skipped: image id to reason.
        has_maps: whether `maps/` is there.
    """

    directory: Path
    manifest: dict[str, Any]
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
        manifest = read_json(directory / MANIFEST, do="name a folder that a localize command wrote")
        if not isinstance(manifest, dict) or manifest.get("format") != FORMAT:
            raise UserError("not a manifest of predictions", where=directory / MANIFEST, expected=f'"format": {FORMAT}')
        _check_fields(manifest, directory / MANIFEST)
        if not manifest.get("complete") and not incomplete:
            raise UserError("the run that writes these predictions has not finished", where=directory,
                            do="run its command again, it continues where it ended")  # fmt: skip
        entries, skipped, seen = [], {}, set()
        for line, record in _records(directory / LINES):
            image_id = record["image_id"]
            if image_id in seen:
                raise UserError(f"{image_id} stands here twice", where=directory / LINES, line=line)
            seen.add(image_id)
            inside(directory / MAPS, image_id, where=directory / LINES, line=line)
            if "skipped" in record:
                skipped[image_id] = str(record["skipped"])
            else:
                entries.append(_parse(record, directory / LINES, line))
                if (kind := entries[-1].frame.kind) != manifest.get("frame", kind):
                    raise UserError(f"the frame is {kind!r}", where=directory / LINES, line=line,
                                    expected=f"the manifest's {manifest['frame']!r}")  # fmt: skip
        return cls(directory, manifest, tuple(entries), skipped, (directory / MAPS).is_dir())

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
        return f"{self.manifest['method']} {self.manifest['architecture']}"

    @property
    def source(self) -> DataSource:
        """The images that were predicted on, as the manifest says.

        Raises:
            UserError: it doesn't, or not readably.
        """
        data = self.manifest.get("data")
        if not isinstance(data, dict):
            raise UserError("the manifest does not say what was predicted on", where=self.directory)
        fields = {name: value for name, value in data.items() if name not in ("images", "fingerprint", "left_out")}
        return DataSource.from_json(fields, self.directory)

    def source_in(self, root: Path | None) -> DataSource:
        """`source`, in the folder `root` where one is named.

        Raises:
            UserError: the folder is not there.
        """
        source = replace(self.source, root=root) if root else self.source
        if not source.root.is_dir():
            raise UserError(f"its data set lies in {source.root}, no such folder", where=self.directory,
                            do="name it with --root")  # fmt: skip
        return source

    def chunks(self) -> Iterator["Predictions"]:
        """The same directory, some entries at a time: what another process needs for its images, and no more."""
        for start in range(0, len(self.entries), CHUNK):
            yield replace(self, entries=self.entries[start : start + CHUNK], skipped={})

    def accuracy(self, among: int) -> float | None:
        """Percent of images whose true class is among the classifier's first `among`; None where nobody classified."""
        if not self.entries or any(entry.top5 is None for entry in self.entries):
            return None
        return 100.0 * sum(entry.label in entry.top5[:among] for entry in self.entries) / len(self.entries)

    def map(self, entry: Prediction) -> np.ndarray:
        """The entry's localization map; see `read_map`."""
        return read_map(map_path(self.directory, entry.image_id), entry.frame)


def _records(path: Path):
    """(line number, parsed line) for each line."""
    need_file(path)
    try:
        with open(path, encoding="utf-8") as file:
            for line, text in enumerate(iter(lambda: file.readline(LONGEST_LINE + 1), ""), start=1):
                if len(text) > LONGEST_LINE:
                    raise UserError(f"the line is longer than {LONGEST_LINE:,} characters", where=path, line=line)
                try:
                    record = parse_json(text)
                except ValueError as error:
                    raise UserError(f"not a line of JSON ({error})", where=path, line=line) from error
                if not isinstance(record, dict) or not isinstance(record.get("image_id"), str):
                    raise UserError("no image_id in this line", where=path, line=line)
                yield line, record
    except FileNotFoundError as error:
        raise UserError("no such file", where=path) from error
    except OSError as error:
        raise UserError(f"can't be read ({error.strerror})", where=path) from error
    except UnicodeDecodeError as error:
        raise UserError("the file is not UTF-8 text", where=path, line=undecodable_line(path)) from error


def _check_fields(manifest: dict[str, Any], where: Path) -> None:
    for name, kind in _FIELDS.items():
        if name in manifest and not isinstance(manifest[name], kind):
            raise UserError(
                f"{name} is {_shorten(manifest[name])}", where=where, expected=getattr(kind, "__name__", str(kind))
            )
    if not all(isinstance(process, dict) for process in manifest.get("processes", [])):
        raise UserError(f"processes is {_shorten(manifest['processes'])}", where=where, expected="a list of records")


def _parse(record: dict[str, Any], where: Path, line: int) -> Prediction:
    def refuse(name: str, expected: str) -> UserError:
        return UserError(f"{name} is {_shorten(record.get(name))}", where=where, line=line, expected=expected)

    label, size, top5, box = (record.get(name) for name in ("label", "size", "top5", "box"))
    scores, threshold = record.get("top5_scores"), record.get("threshold")
    if type(label) is not int or label < 0:
        raise refuse("label", "a whole number from 0")
    if not _is_numbers(size, 2, int) or min(size) < 1:
        raise refuse("size", "width and height")
    if top5 is not None and not (_is_numbers(top5, None, int) and 1 <= len(top5) <= 5 and min(top5) >= 0):
        raise refuse("top5", "one to five class numbers, or null")
    if scores is not None and not _is_numbers(scores, None if top5 is None else len(top5), int | float):
        raise refuse("top5_scores", "a number for each of top5, or null")
    if box is not None and not _is_numbers(box, 4, int | float):
        raise refuse("box", "x0 y0 x1 y1, or null")
    if not _is_numbers([threshold], 1, int | float):
        raise refuse("threshold", "a number")
    try:
        frame = Frame.from_json(record.get("frame"))
    except ValueError as error:
        raise UserError(str(error), where=where, line=line) from error
    if tuple(frame.original) != tuple(size):
        raise refuse("size", f"the frame's original size {list(frame.original)}")
    return Prediction(
        image_id=record["image_id"],
        label=label,
        size=tuple(size),
        frame=frame,
        top5=None if top5 is None else tuple(top5),
        top5_scores=None if scores is None else tuple(map(float, scores)),
        box=None if box is None else np.array(box, dtype=np.float64),
        threshold=float(threshold),
    )


def _is_numbers(value: Any, length: int | None, kind: Any) -> bool:
    if not isinstance(value, Sequence) or isinstance(value, str) or length not in (None, len(value)):
        return False
    return all(isinstance(item, kind) and not isinstance(item, bool) and abs(item) <= _LARGEST for item in value)


_LARGEST = 1e15
"""Of any number in a line; NaN and infinity are not below it."""


def _remove_earlier(directory: Path) -> None:
    """Take away another run's lines and maps; its manifest is written over, and says first that nothing is complete."""
    manifest = directory / MANIFEST
    if manifest.is_file():
        stored = read_json(manifest)
        write_json(manifest, {**(stored if isinstance(stored, dict) else {}), "complete": False})
    with writing(directory):
        (directory / LINES).unlink(missing_ok=True)
        if (directory / MAPS).is_symlink():  # adopted maps are another program's, never to be written over
            (directory / MAPS).unlink()
        elif (directory / MAPS).is_dir():
            shutil.rmtree(directory / MAPS)


def _cut_after_last_whole_line(path: Path) -> None:
    """Take off what a killed process left of a line: everything after the last newline."""
    need_file(path)
    if path.is_symlink():
        raise UserError("this is a link, and what it leads to would be written to", where=path, do="put the file there")
    if not path.is_file():
        path.touch()
        return
    with open(path, "rb+") as file:
        content = file.read()
        file.truncate(content.rfind(b"\n") + 1)


def _shorten(value: Any) -> str:
    text = json.dumps(value, ensure_ascii=False)
    return text if len(text) <= 120 else f"{text[:117]}..."
