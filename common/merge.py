"""Put predictions together that several machines made of one split, each of its share.

    python -m bas.inference ... --data.shard 1/4 --out runs/bas/1       # and 2/4, 3/4, 4/4, wherever
    python -m common.merge runs/bas/*/crop --out runs/bas/test/crop

The result is what one machine would have written: the same lines in the data set's order, and the same maps.
"""

from dataclasses import dataclass, replace
from pathlib import Path
from typing import Annotated, Any

import tyro

from common.datasets import PLACES, Dataset, trained
from common.runs.reader import Places, Predictions
from common.runs.writer import PredictionsWriter, finish
from common.system.errors import UserError, run_command
from common.system.options import also, parse
from common.system.progress import bar

OF_A_PART = ("format", "data", "processes", "counts", "complete", "verdicts")
"""Entries that the manifests of parts may differ in; of `data` the shard, its size and its fingerprint alone."""


@dataclass(frozen=True)
class Merge:
    """Make one predictions directory out of all parts of a split."""

    parts: tyro.conf.Positional[tuple[Path, ...]]
    """Finished predictions directories of all shards, in any order."""
    out: Path
    """The predictions directory, new."""
    root: Annotated[Path | None, also("data.root")] = None
    """The data set's folder here, where the parts were made with another."""
    boxes: Annotated[Path | None, also("data.boxes")] = None
    """The boxes that --data.boxes named, where they are no longer there."""
    metadata: Annotated[Path | None, also("data.metadata")] = None
    """The folder that --data.metadata named, where it is no longer there."""
    list_file: Annotated[Path | None, also("data.list-file")] = None
    """The list that --data.list-file named, where it is no longer there."""
    overwrite: bool = False
    """Start anew where the folder holds other predictions."""


def merge(options: Merge) -> Path:
    """Merge shards, and return the directory.

    Raises:
        UserError: a part is missing, given twice, of another run, not finished, or not of today's annotations.
    """
    parts = _in_order(options.parts)
    places = Places(options.root, options.boxes, options.metadata, options.list_file)
    source = replace(parts[0].source_in(places), shard=None)
    dataset = source.load()
    _check(parts, dataset)
    data = source.described(dataset)
    data["trained_images"] = trained.joined(part.manifest.trained_images for part in parts)
    data["training_steps"] = parts[0].manifest.data.get("training_steps")
    header = {**_shared(parts[0]), "data": data}
    processes = [process for part in parts for process in part.manifest.processes]
    writer = PredictionsWriter(options.out, header, options.overwrite, processes)
    for part in parts:
        writer.changed.update(_changed(part))
    found = {entry.image_id: (part, entry) for part in parts for entry in part.entries}
    skipped = {image_id: reason for part in parts for image_id, reason in part.skipped.items()}
    for sample in bar(dataset, total=len(dataset), desc="merging"):
        if sample.image_id in writer.done:
            continue
        if sample.image_id in skipped:
            writer.skip(sample.image_id, skipped[sample.image_id])
        else:
            part, entry = found[sample.image_id]
            writer.write(entry, part.map(entry) if part.has_maps else None)
    return finish([writer])[0]


def _in_order(directories: tuple[Path, ...]) -> list[Predictions]:
    """The parts by their number: each of 1 to K once."""
    if not directories:
        raise UserError("no predictions were named", expected="the directories of all shards")
    by_number: dict[int, Predictions] = {}
    counts = set()
    for directory in directories:
        part = Predictions.open(directory)
        number, count = part.source.shard_numbers()
        if number in by_number:
            raise UserError(f"shard {number} of {count} stands there twice", where=directory,
                            expected=f"another than {by_number[number].directory}")  # fmt: skip
        by_number[number] = part
        counts.add(count)
    if len(counts) > 1:
        raise UserError(f"shards of {' and of '.join(map(str, sorted(counts)))} can't be merged")
    (count,) = counts
    missing = [str(number) for number in range(1, count + 1) if number not in by_number]
    if missing:
        raise UserError(f"shard {', '.join(missing)} of {count} is missing", do="name the directories of all shards")
    return [by_number[number] for number in sorted(by_number)]


def _shared(part: Predictions) -> dict[str, Any]:
    return {name: value for name, value in part.manifest.items() if name not in OF_A_PART}


def _changed(part: Predictions) -> dict[str, int]:
    """Number of a part's maps by what was changed in them when they were taken in."""
    changed = part.manifest.counts.get("changed")
    return {what: count for what, count in changed.items() if type(count) is int} if isinstance(changed, dict) else {}


def _check(parts: list[Predictions], dataset: Dataset) -> None:
    """Every part is of the first one's run, and holds its share of the data set."""
    first, count = parts[0], len(parts)
    source = replace(first.source, shard=None)
    for number, part in enumerate(parts, start=1):
        theirs, ours = _shared(part), _shared(first)
        differing = sorted(name for name in theirs.keys() | ours.keys() if theirs.get(name) != ours.get(name))
        here = {name: getattr(source, name) for name in PLACES}
        if replace(part.source, shard=None, **here) != source:
            differing.append("data")
        if differing:
            raise UserError(f"the parts are of different runs: {', '.join(differing)} differ", where=part.directory,
                            expected=f"the same as in {first.directory}")  # fmt: skip
        share = dataset.shard(number, count)
        if share.fingerprint() != part.manifest.fingerprint:
            raise UserError("the data set's annotations are not those that were predicted on", where=part.directory)
        present = {entry.image_id for entry in part.entries} | part.skipped.keys()
        absent = [sample.image_id for sample in share if sample.image_id not in present]
        if absent or len(present) != len(share):
            what = f"no line of {absent[0]}" if absent else f"{len(present) - len(share)} lines too many"
            raise UserError(f"there is {what}", where=part.directory, do="localize this shard again")


def main() -> None:
    """Run the command line."""
    merge(parse(Merge, prog="python -m common.merge", description=__doc__))


if __name__ == "__main__":
    run_command(main)
