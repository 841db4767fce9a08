"""The predictions of a segmentation run: class maps, or label maps, an image a file.

    manifest.json       as of any run, with `task: segmentation` and `kind: maps`, `masks` or `ir-labels`
    predictions.jsonl   a line an image: `image_id`, `size` (width and height), `labels` (0-based classes)
    maps/<id>.npz       of class maps: `keys` (K,) int64, `cam` (K, h, w) at stride 4, `high_res` (K, H, W), in [0, 1]
    masks/<id>.png      of label maps: 8 bits a pixel, 0 background, class + 1, 255 undecided

Nothing is pickled. A run that is stopped continues after the last whole line.
"""

import io
import zipfile
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
from PIL import Image

from common.datasets import Dataset, DataSource, Sample
from common.datasets.label_maps import read_label_map
from common.measuring.arrays import Array, Bytes, Floats, Integers
from common.runs.manifest import Manifest
from common.runs.reader import need_directory, read_entries
from common.runs.record import MAPS, MASKS
from common.runs.writer import PredictionsWriter
from common.system.archives import put_arrays
from common.system.errors import UserError, inside
from common.system.files import need_file, writing
from common.system.wording import shorten

TASK = "segmentation"
KINDS = ("maps", "masks", "ir-labels")


class SegmentationWriter(PredictionsWriter):
    """Writes a segmentation run's directory, or continues one.

    Args:
        directory: made if it isn't there.
        header: as of `PredictionsWriter`, and `kind` and `classes`.
        overwrite: start anew even if the directory holds another or a finished run.
    """

    def __init__(self, directory: Path, header: dict[str, Any], overwrite: bool = False):
        super().__init__(directory, {"task": TASK, "frame": "original", **header}, overwrite)

    def write_maps(self, sample: Sample, strided: Floats, high: Floats) -> None:
        """Write one image's class maps (K, h, w) and (K, H, W), float32 or float16, and its line."""
        arrays = {"keys": np.array(sample.labels, np.int64), "cam": strided, "high_res": high}
        self._write(sample, map_file(self.directory, sample.image_id), high.shape[:0:-1],
                    lambda file: put_arrays(file, arrays))  # fmt: skip

    def write_mask(self, sample: Sample, labels: Integers) -> None:
        """Write one image's label map (H, W), and its line."""
        content = io.BytesIO()
        Image.fromarray(labels.astype(np.uint8)).save(content, format="PNG")
        path = mask_file(self.directory, sample.image_id)
        self._write(sample, path, labels.shape[::-1], lambda file: file.write(content.getbuffer()))

    def _write(self, sample: Sample, path: Path, size: tuple[int, ...], write: Callable[[BinaryIO], object]) -> None:
        if sample.image_id in self.done:
            raise ValueError(f"{sample.image_id} has been written already")
        with writing(path):
            path.parent.mkdir(parents=True, exist_ok=True)
            path.unlink(missing_ok=True)  # it may be a link to any file
            with open(path, "wb") as file:  # a line follows only when the file is whole, so no rename is needed
                write(file)
        self._append({"image_id": sample.image_id, "size": list(map(int, size)), "labels": list(sample.labels)})

    def end(self) -> Path:
        """Finish the directory if it isn't, say where it is, and give its path."""
        if not self.complete:
            self.finish()
        print(f"predictions: {self.directory}")
        return self.directory


def map_file(directory: Path, image_id: str) -> Path:
    """Path of an image's class maps; an id that leaves the directory is refused (`UserError`)."""
    return inside(directory / MAPS, f"{image_id}.npz", where=directory)


def mask_file(directory: Path, image_id: str) -> Path:
    """Path of an image's label map; an id that leaves the directory is refused (`UserError`)."""
    return inside(directory / MASKS, f"{image_id}.png", where=directory)


@dataclass(frozen=True)
class SegmentedImage:
    """One line: an image, its width and height, and the classes that it shows."""

    image_id: str
    size: tuple[int, int]
    labels: tuple[int, ...]


@dataclass(frozen=True, eq=False)
class SegmentationPredictions:
    """A segmentation run's directory that has been read and checked.

    Attributes:
        directory: where it lies.
        manifest: what the run says of itself.
        entries: one for each image, in the order written.
        skipped: image id to reason.
    """

    directory: Path
    manifest: Manifest
    entries: tuple[SegmentedImage, ...]
    skipped: dict[str, str]

    @classmethod
    def open(cls, directory: Path) -> "SegmentationPredictions":
        """Read a directory.

        Raises:
            UserError: not of a segmentation run, not finished, or a line that is not right.
        """
        manifest = need_directory(directory)
        if manifest.get("task") != TASK or manifest.get("kind") not in KINDS:
            raise UserError("no predictions of a segmentation run", where=directory,
                            do="name a folder that bas.segmentation wrote")  # fmt: skip
        classes = len(cls._classes(manifest, directory))
        entries, skipped = read_entries(
            directory, manifest, lambda record, path, line: _parse(record, classes, path, line)
        )
        return cls(directory, manifest, entries, skipped)

    @staticmethod
    def _classes(manifest: Manifest, directory: Path) -> list[str]:
        names = manifest.get("classes")
        if not isinstance(names, list) or not names or not all(isinstance(name, str) for name in names):
            raise UserError("the manifest does not name the classes", where=directory, do="run its command again")
        return names

    @property
    def kind(self) -> str:
        """`maps`, `masks` or `ir-labels`."""
        return str(self.manifest["kind"])

    @property
    def class_names(self) -> tuple[str, ...]:
        """Names of the classes, background apart."""
        return tuple(self._classes(self.manifest, self.directory))

    @property
    def title(self) -> str:
        """Name of the run in tables."""
        return f"{self.manifest.method} {self.manifest.architecture} {self.kind}"

    def dataset(self, root: Path | None = None) -> Dataset:
        """The images that were predicted on, in the folder `root` where one is named.

        Raises:
            UserError: the manifest doesn't say, or the data set has changed since.
        """
        dataset = self.source(root).load(multi_label=True)
        if self.manifest.fingerprint not in (None, dataset.fingerprint()):
            raise UserError("the data set is not the one that was predicted on: its fingerprint differs",
                            where=self.directory, do="name the right folder with --root")  # fmt: skip
        return dataset

    def source(self, root: Path | None = None) -> DataSource:
        """Source of the images, `root` replacing the data set's folder where one is named.

        Raises:
            UserError: the manifest doesn't say.
        """
        source = self.manifest.source(self.directory)
        return replace(source, root=root) if root else source

    def other_split(self, split: str, root: Path | None = None) -> tuple[DataSource, Dataset]:
        """Another split of the same data set; errors as `dataset`."""
        source = replace(self.source(root), split=split)
        return source, source.load(multi_label=True)

    def maps(self, entry: SegmentedImage) -> tuple[Integers, Floats, Floats]:
        """`keys` (K,), `cam` (K, h, w) and `high_res` (K, H, W) float32 of an image.

        Raises:
            UserError: missing, damaged, or not of the image's size.
        """
        path = map_file(self.directory, entry.image_id)
        count, (width, height) = len(entry.labels), entry.size
        shapes = {"keys": (count,), "cam": (count, -(-height // 4), -(-width // 4)), "high_res": (count, height, width)}
        keys, strided, high = (array for array in _read_arrays(path, shapes))
        if keys.tolist() != list(entry.labels):
            raise UserError(f"its classes are {shorten(keys.tolist())}", where=path, expected=str(list(entry.labels)))
        for array in (strided, high):
            if not np.isfinite(array).all() or array.min() < 0 or array.max() > 1:
                raise UserError("the maps hold values outside 0 to 1", where=path, do="run its command again")
        return keys, strided.astype(np.float32), high.astype(np.float32)

    def mask(self, entry: SegmentedImage) -> Bytes:
        """The label map (H, W) uint8 of an image; errors as `read_label_map`."""
        return read_label_map(mask_file(self.directory, entry.image_id), entry.size, len(self.class_names))


def is_segmentation(directory: Path) -> bool:
    """Whether a predictions directory says that it is of a segmentation run.

    Raises:
        UserError: it has no readable manifest.
    """
    return need_directory(directory, incomplete=True).get("task") == TASK


def _parse(record: dict[str, Any], classes: int, where: Path, line: int) -> SegmentedImage:
    told: Callable[[str], Any] = record.get
    size, labels = told("size"), told("labels")
    if not _are_whole(size, 1) or len(size) != 2 or size[0] * size[1] > 1e9:
        raise UserError(f"size is {shorten(size)}", where=where, line=line, expected="width and height")
    if not _are_whole(labels, 0) or not labels or labels != sorted(set(labels)) or labels[-1] >= classes:
        raise UserError(f"labels is {shorten(labels)}", where=where, line=line,
                        expected=f"classes from 0 to {classes - 1}, ascending")  # fmt: skip
    return SegmentedImage(record["image_id"], tuple(size), tuple(labels))


def _are_whole(values: Any, least: int) -> bool:
    return isinstance(values, list) and all(type(value) is int and value >= least for value in values)


_FORMAT: Any = np.lib.format  # which numpy 1.26 does not type
_HEADERS = {(1, 0): _FORMAT.read_array_header_1_0, (2, 0): _FORMAT.read_array_header_2_0}


def _read_arrays(path: Path, shapes: dict[str, tuple[int, ...]]) -> Iterator[Array]:
    """The arrays of an .npz file by name, each of the shape expected; a wrong one takes no memory."""
    need_file(path)
    try:
        with zipfile.ZipFile(path) as archive:
            for name, shape in shapes.items():
                with archive.open(f"{name}.npy") as file:
                    version = _FORMAT.read_magic(file)
                    found, _, dtype = _HEADERS[version](file)
                if tuple(found) != shape or dtype.kind not in "fi" or dtype.itemsize > 8:
                    raise UserError(f"{name} is {dtype} {tuple(found)}", where=path, expected=f"numbers {shape}")
        with np.load(path, allow_pickle=False) as arrays:
            for name in shapes:
                yield arrays[name]
    except UserError:
        raise
    except FileNotFoundError as error:
        raise UserError("no such maps", where=path, do="run the command that writes them again") from error
    except Exception as error:  # zipfile and numpy fail in many ways on a damaged file
        raise UserError(f"not a readable .npz file ({error})", where=path) from error
