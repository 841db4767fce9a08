"""Writes a run's predictions as the run goes, and continues a run that was stopped; see `record` for the format."""

import json
import os
import shutil
from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, TextIO

import numpy as np

from common.datasets import Sample, alike
from common.datasets.classes import Matching
from common.measuring.arrays import Floats
from common.measuring.extraction import check_map, widened
from common.runs.manifest import FORMAT, MANIFEST, Manifest
from common.runs.provenance import provenance
from common.runs.record import LINES, MAPS, MASKS, Prediction, map_path, read_lines
from common.system.errors import UserError, say
from common.system.files import holds_files, need_file, read_json, write_json, writing
from common.system.locks import hold, release
from common.system.wording import apart


class PredictionsWriter:
    """Writes a predictions directory, or continues one.

    Args:
        directory: made if it isn't there.
        header: what identifies the run: `method`, `architecture`, `data`, `checkpoint`, `classifier`, `frame`,
            `options`; plain JSON values.
        overwrite: start anew even if the directory holds another or a finished run.
        processes: what earlier processes had a part in the run, as a manifest has them.
        classes: turns the network's numbers, which predictions come in, into the data set's.

    Attributes:
        done: ids of images that have a line already; skip them.
        complete: the directory held this very run, finished; there is nothing to do.
        changed: number of maps by what was changed in them, for the manifest's counts.

    Raises:
        UserError: the directory holds another run's predictions, or something else, or another process writes to it.
    """

    def __init__(
        self,
        directory: Path,
        header: dict[str, Any],
        overwrite: bool = False,
        processes: Sequence[dict[str, Any]] = (),
        classes: Matching | None = None,
    ):
        if classes is not None and classes.record is not None:
            header = {**header, "options": {**header["options"], "classes": classes.record}}
        self.classes = classes
        self.directory, self.header = directory, json.loads(json.dumps(header))
        self.done: set[str] = set()
        self.changed: Counter[str] = Counter()
        self._skipped: dict[str, list[str]] = {}
        self._processes: list[dict[str, Any]] = list(processes)
        self._file: TextIO | None = None
        hold(directory)
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
        else:
            release(directory)

    def _continue(self, entries: Any) -> None:
        for name, value in self.header.items():
            if not isinstance(entries, dict) or not alike(entries.get(name), value):
                stored = entries.get(name) if isinstance(entries, dict) else entries
                raise UserError(
                    f"the folder holds another run: its {name} is {apart(stored, value)}",
                    where=self.directory,
                    do="choose another --out, or say --overwrite",
                )
        manifest = Manifest.checked(entries, self.directory / MANIFEST)
        self.complete = manifest.complete and _holds_all(self.directory / LINES, manifest)
        self._processes = manifest.processes
        if not self.complete:
            _cut_after_last_whole_line(self.directory / LINES)
        for _, record in read_lines(self.directory / LINES):
            self.done.add(record["image_id"])
            if "skipped" in record:
                self._skipped.setdefault(str(record["skipped"]), []).append(record["image_id"])

    def write(self, prediction: Prediction, localization_map: Floats | None = None) -> None:
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
                    np.save(file, widened(localization_map), allow_pickle=False)
        self._append(self._in_the_data_sets_numbers(prediction).to_json())

    def _in_the_data_sets_numbers(self, prediction: Prediction) -> Prediction:
        if self.classes is None or self.classes.record is None:
            return prediction
        if not self.classes.labelled:  # no class of the network's can be the true one
            return replace(prediction, top5=None, top5_scores=None)
        top5 = None if prediction.top5 is None else tuple(map(self.classes.label, prediction.top5))
        return replace(prediction, label=self.classes.label(prediction.label), top5=top5)

    def skip(self, image_id: str, reason: str) -> None:
        """Note that an image could not be localized; the manifest counts it by its reason."""
        self._skipped.setdefault(reason, []).append(image_id)
        self._append({"image_id": image_id, "skipped": reason})

    @property
    def _lines(self) -> TextIO:
        if self._file is None:
            raise ValueError(f"{self.directory} is closed, or was finished before")
        return self._file

    def _append(self, record: dict[str, Any]) -> None:
        with writing(self.directory / LINES):
            self._lines.write(json.dumps(record, ensure_ascii=False) + "\n")
            self._lines.flush()
        self.done.add(record["image_id"])

    def finish(self) -> None:
        """Say that everything is written."""
        with writing(self.directory / LINES):
            os.fsync(self._lines.fileno())
        self._write_manifest(complete=True)
        self.close()
        self.complete = True

    def left_out(self) -> list[str]:
        """A line for each reason that images were skipped for, which names the first of them."""
        return skipped_lines(self._skipped, len(self.done))

    def close(self) -> None:
        """Close the file and leave the run incomplete, to be continued another time."""
        if self._file is not None:
            self._file.close()
            self._file = None
            release(self.directory)

    def _write_manifest(self, complete: bool) -> None:
        skipped = {reason: len(image_ids) for reason, image_ids in self._skipped.items()}
        counts: dict[str, Any] = {"scored": len(self.done) - sum(skipped.values()), "skipped": skipped}
        if self.changed:
            counts["changed"] = dict(self.changed)
        write_json(
            self.directory / MANIFEST,
            {"format": FORMAT, **self.header, "processes": self._processes, "counts": counts, "complete": complete},
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


def skipped_lines(left_out: Mapping[str, Sequence[str]], total: int) -> list[str]:
    """A line for each reason that some of `total` images were left out for, which names the first of them."""
    return [
        f"left out: {reason}: {len(image_ids)} of {total} images, {', '.join(image_ids[:5])}"
        f"{' ...' if len(image_ids) > 5 else ''}"
        for reason, image_ids in left_out.items()
        if image_ids
    ]


def finish(writers: Iterable[PredictionsWriter]) -> list[Path]:
    """Finish the directories that aren't, say where all are and what was left out, and give their paths."""
    directories = []
    for writer in writers:
        if not writer.complete:
            writer.finish()
        say(writer.left_out())
        print(f"predictions: {writer.directory}")
        directories.append(writer.directory)
    return directories


def _remove_earlier(directory: Path) -> None:
    """Take away another run's lines and maps; its manifest is written over, and says first that nothing is complete."""
    manifest = directory / MANIFEST
    if manifest.is_file():
        stored = read_json(manifest)
        write_json(manifest, {**(stored if isinstance(stored, dict) else {}), "complete": False})
    with writing(directory):
        (directory / LINES).unlink(missing_ok=True)
        for folder in (directory / MAPS, directory / MASKS):
            if folder.is_symlink():  # adopted maps are another program's, never to be written over
                folder.unlink()
            elif folder.is_dir():
                shutil.rmtree(folder)


def _holds_all(path: Path, manifest: Manifest) -> bool:
    """Whether all lines that a finished run's manifest counts are there; a copy may have been cut off."""
    return manifest.lines is None or (path.is_file() and path.read_bytes().count(b"\n") >= manifest.lines)


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
