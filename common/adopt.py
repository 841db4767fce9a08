"""Take in localization maps that other code made, so that they can be scored and drawn like any method's.

    python -m common.adopt scoremaps --method mine --out runs/mine/test --data.name cub --data.root CUB_200_2011

The folder holds an `.npy` map for each image, `<image_id>.npy` as wsolevaluation writes them. Maps that are floats in
[0, 1] of the frame's size stay where they are, and the predictions directory links to them. Others are changed in a
copy, and counted:

| a map | becomes |
|---|---|
| of uint8 (0 to 255) or bool | a float, divided by 255, unless no map exceeds 1; or 1 for true |
| with axes of one, such as 1 x 224 x 224 | the same without them |
| that leaves [0, 1] by at most 0.001, as rounding does | clipped |
| of another size | resized bilinearly where `--resize` says what it shows |

A map that is missing, that has another name (`.npz`, or no ending of the image's), that is damaged, of another size or
type, that holds NaN or leaves [0, 1] further is left out, counted by its reason and named, as an image that can't be
read is. Maps that are constant or the same for several images are said, as are values of maps that were divided by 255
twice, and photographs that an EXIF tag turns, as OpenCV does and this project does not. Maps that were mended or made
anew since are taken in with --overwrite; the same command without it says so.
"""

import hashlib
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Annotated, Literal

import numpy as np
import tyro

from common.datasets import Dataset, DataSource, Sample
from common.measuring.extraction import LARGEST_COMPONENT
from common.measuring.geometry import FRAMES, LARGEST_INPUT, Frame
from common.pictures.images import ImageError, is_turned
from common.runs.foreign_maps import need_map, take
from common.runs.localizing import Box, need_threshold
from common.runs.manifest import MANIFEST
from common.runs.reader import Predictions, open_map
from common.runs.record import LINES, MAPS, Prediction, map_path
from common.runs.writer import PredictionsWriter, finish
from common.system.errors import UserError, inside, printable, run_command, say
from common.system.files import read_json, writing
from common.system.options import also, parse
from common.system.progress import bar
from common.system.wording import number_of, some

ADOPTED = "adopted maps"
"""The checkpoint that manifests name."""
LEFT_OUT = "left out: "


@dataclass(frozen=True)
class Adopt:
    """Make a predictions directory around a folder of maps."""

    maps: tyro.conf.Positional[Path]
    """The folder that holds <image_id>.npy for every image of the split."""
    data: DataSource
    """The images the maps are of."""
    out: Path
    """The predictions directory, new."""
    method: str
    """Name of these maps in tables."""
    architecture: Annotated[str, also("arch")] = "unknown"
    """The backbone; released thresholds are chosen by it."""
    frame: Literal["crop", "squash"] = "squash"
    """Frame of the maps. squash: the image resized to 224 x 224. crop: resized to 256 x 256, the central 224 x 224."""
    resize: Literal["no", "frame", "image"] = "no"
    """Take maps of other sizes, such as 7 x 7 or the image's own. frame: they show what the frame shows. image: they
    show the whole image, of which the frame `crop` is cut."""
    threshold: float = 0.2
    """Threshold of the box that is stored beside each map; protocols choose their own."""
    overwrite: bool = False
    """Start anew where the folder holds other predictions."""


def adopt(options: Adopt) -> None:
    """Take in the maps as a predictions directory.

    Raises:
        UserError: no map can be taken; says why.
    """
    need_threshold(options.threshold)
    if not options.maps.is_dir():
        raise UserError("no such folder", where=options.maps, do="name the folder that holds the .npy maps")
    dataset = options.data.load()
    header = {
        "method": options.method,
        "architecture": options.architecture,
        "data": options.data.described(dataset),
        "checkpoint": {"name": ADOPTED, "sha256": None},
        "classifier": None,
        "frame": FRAMES[options.frame],
        "options": {"maps": str(options.maps.resolve()), "threshold": options.threshold, "resize": options.resize},
    }
    maps = options.out / MAPS
    if maps.is_dir() and not maps.is_symlink() and not _is_adopted(options.out):  # --overwrite would delete them
        raise UserError("the folder holds maps of its own", where=maps, do="choose another --out")
    since = _last_written(options.out)
    writer = PredictionsWriter(options.out, header, options.overwrite)
    whole = dataset if options.data.shard is None else replace(options.data, shard=None).load()
    greatest = 255 if _exceed_one(options.maps, whole) else 1
    _refuse_changed(options, dataset, writer, since, greatest)
    named: dict[str, list[str]] = {}
    odd = _Odd()
    for sample in bar(dataset, total=len(dataset), desc="reading maps") if not writer.complete else ():
        for what in _adopt_one(options, sample, writer, greatest, odd):
            named.setdefault(what, []).append(sample.image_id)
    for what, image_ids in named.items():
        if what.startswith(LEFT_OUT):
            continue
        print(f"{what}: {len(image_ids)} of {len(dataset)} images, {', '.join(image_ids[:5])}"
              f"{' ...' if len(image_ids) > 5 else ''}")  # fmt: skip
    if not writer.complete and not _usable(writer, named):
        writer.close()
        for name in (LINES, MANIFEST):  # the same command, once that is mended, starts anew
            (options.out / name).unlink()
        reasons = "; ".join(f"{what} ({len(image_ids)})" for what, image_ids in named.items())
        raise UserError(f"no map can be taken: {reasons}", where=options.maps,
                        do="mend that, or say what maps of another size show with --resize")  # fmt: skip
    say(odd.notes())
    finish([writer])


@dataclass
class _Odd:
    """Oddities of the maps of a folder, each of which can be taken."""

    maps: int = 0
    greatest: float = 0.0
    constant: list[str] = field(default_factory=list)
    repeated: list[tuple[str, str]] = field(default_factory=list)
    turned: list[str] = field(default_factory=list)
    _first: dict[bytes, str] = field(default_factory=dict)

    def look(self, sample: Sample, taken: np.ndarray) -> None:
        """Look at an image's map (H, W), and at its tag."""
        self.maps, self.greatest = self.maps + 1, max(self.greatest, float(taken.max()))
        if taken.min() == taken.max():
            self.constant.append(sample.image_id)
        else:
            first = self._first.setdefault(hashlib.sha256(taken.tobytes()).digest(), sample.image_id)
            self.repeated.extend([(first, sample.image_id)] if first != sample.image_id else [])
        with suppress(ImageError):  # which is not needed to take its map
            self.turned.extend([sample.image_id] if is_turned(sample.path) else [])

    def notes(self) -> Iterator[str]:
        """Lines for the user."""
        if self.constant:
            what = number_of(len(self.constant), "map is constant", "maps are constant")
            yield f"note: {what}, {some(self.constant, 1)}: they hold no object, or the whole image"
        if self.repeated:
            what = number_of(len(self.repeated), "map is", "maps are")
            yield f"note: {what} equal to another image's: {' and '.join(self.repeated[0])} have the same"
        if 0 < self.greatest <= 1 / 255 + 1e-6:
            yield (f"note: no value of {number_of(self.maps, 'map', 'maps')} exceeds {self.greatest:.3g}, as where "
                   "maps in [0, 1] were divided by 255")  # fmt: skip
        if self.turned:
            what = number_of(len(self.turned), "image has", "images have")
            yield (f"note: {what} an EXIF tag that turns them, {some(self.turned, 1)}: maps are taken to show the "
                   "pictures as stored; OpenCV reads them turned")  # fmt: skip


def _last_written(directory: Path) -> int:
    """Time of its last line, in nanoseconds; 0 where there is none."""
    lines = directory / LINES
    return lines.stat().st_mtime_ns if lines.is_file() else 0


def _exceed_one(maps: Path, dataset: Dataset) -> bool:
    """Whether a map of uint8 exceeds 1: one that doesn't is as dark as it looks then, and no mask of 0 and 1."""
    for sample in dataset:
        try:
            found = open_map(inside(maps, f"{sample.image_id}.npy"))
            usable = found.dtype == np.uint8 and 0 < found.size <= LARGEST_INPUT**2
            if usable and found.max() > 1:
                return True
        except UserError:  # is left out when its turn comes
            continue
    return False


def _refuse_changed(options: Adopt, dataset: Dataset, writer: PredictionsWriter, since: int, greatest: int) -> None:
    """Refuse (`UserError`) to go on where maps that were taken in, or left out, are others now."""
    newer = []
    for sample in dataset if writer.done else ():
        path = inside(options.maps, f"{sample.image_id}.npy")
        if sample.image_id in writer.done and path.exists() and path.stat().st_ctime_ns > since:
            newer.append(sample)
    if not newer:
        return
    entries = {entry.image_id: entry for entry in Predictions.open(options.out, incomplete=True).entries}
    changed = [
        sample.image_id for sample in newer if not _is_as_taken(options, sample, entries.get(sample.image_id), greatest)
    ]
    if changed:
        writer.close()
        raise UserError(f"{len(changed)} of its maps are others than when they were taken in, {changed[0]}.npy among "
                        "them", where=options.maps, do="say --overwrite to take all maps in again")  # fmt: skip


def _is_as_taken(options: Adopt, sample: Sample, entry: Prediction | None, greatest: int) -> bool:
    """Whether taking an image's map in again would give what is there: its line, and its map where that is a copy."""
    try:
        frame = Frame.of_kind(FRAMES[options.frame], sample.size)
        taken, changes = take(inside(options.maps, f"{sample.image_id}.npy"), frame, options.resize, greatest)
    except UserError:
        return entry is None
    if entry is None or not np.array_equal(_prediction(options, sample, frame, taken).boxes, entry.boxes):
        return False
    copy = map_path(options.out, sample.image_id)
    if not changes:
        return copy.is_symlink()
    return not copy.is_symlink() and np.array_equal(taken, open_map(copy))


def _usable(writer: PredictionsWriter, named: dict[str, list[str]]) -> set[str]:
    left_out = {image_id for what, image_ids in named.items() if what.startswith(LEFT_OUT) for image_id in image_ids}
    return writer.done - left_out


def _is_adopted(directory: Path) -> bool:
    manifest = read_json(directory / MANIFEST) if (directory / MANIFEST).is_file() else None
    checkpoint = manifest.get("checkpoint") if isinstance(manifest, dict) else None
    return isinstance(checkpoint, dict) and checkpoint.get("name") == ADOPTED


def _adopt_one(options: Adopt, sample: Sample, writer: PredictionsWriter, greatest: int, odd: _Odd) -> list[str]:
    """Write an image's line, and its map where it isn't linked; gives what was changed, or why it is left out."""
    path = inside(options.maps, f"{sample.image_id}.npy")
    try:
        need_map(options.maps, sample.image_id)
        frame = Frame.of_kind(FRAMES[options.frame], sample.size)
        taken, changes = take(path, frame, options.resize, greatest)
    except ImageError as problem:
        reason, changes = problem.found, []
    except UserError as problem:
        reason, changes = f"map: {printable(problem.found)[:200]}", []
    else:
        reason = None
    if reason is not None:
        if sample.image_id not in writer.done:
            writer.skip(sample.image_id, reason)
        return [f"{LEFT_OUT}{reason}"]
    odd.look(sample, taken)
    writer.changed.update(changes)
    if sample.image_id not in writer.done:
        writer.write(_prediction(options, sample, frame, taken), taken if changes else None)
        if not changes:
            _link(path.resolve(), map_path(options.out, sample.image_id))
    return changes


def _link(path: Path, place: Path) -> None:
    with writing(place):
        place.parent.mkdir(parents=True, exist_ok=True)
        place.unlink(missing_ok=True)
        place.symlink_to(path)


def _prediction(options: Adopt, sample: Sample, frame: Frame, localization_map: np.ndarray) -> Prediction:
    return Prediction(
        image_id=sample.image_id,
        label=sample.label,
        size=frame.original,
        frame=frame,
        top5=None,
        top5_scores=None,
        box=Box(LARGEST_COMPONENT, options.threshold).of(localization_map),
        threshold=options.threshold,
    )


def main() -> None:
    """Run the command line."""
    adopt(parse(Adopt, prog="python -m common.adopt", description=__doc__))


if __name__ == "__main__":
    run_command(main)
