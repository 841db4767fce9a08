"""Predictions of shards, put together: equal to those of one machine, or refused."""

import shutil
from dataclasses import replace

import numpy as np
import pytest

from common.adopt import Adopt, adopt
from common.datasets import DataSource
from common.datasets.layouts import wsoleval
from common.evaluate import Evaluate
from common.merge import Merge, merge
from common.results.evaluation import evaluate
from common.runs.reader import Predictions
from common.system.errors import UserError
from common.system.files import read_json, write_json
from tests import runs, small_cub

COUNT = 4
"""Shards of the ten test images: 3, 3, 2 and 2."""


@pytest.fixture(scope="module")
def source(tmp_path_factory):
    root = small_cub.make(tmp_path_factory.mktemp("data") / "CUB", train=3, test=10)
    return DataSource("cub", root)


@pytest.fixture(scope="module")
def parts(source, tmp_path_factory):
    folder = tmp_path_factory.mktemp("parts")
    return [
        runs.write(folder / str(number), replace(source, shard=f"{number}/{COUNT}")) for number in range(1, COUNT + 1)
    ]


def test_shards_share_the_images(source):
    whole = [sample.image_id for sample in source.load()]
    assert len(whole) % COUNT
    shares = [
        [sample.image_id for sample in replace(source, shard=f"{number}/{COUNT}").load()] for number in range(1, 5)
    ]
    assert sorted(image_id for share in shares for image_id in share) == sorted(whole)
    assert max(map(len, shares)) - min(map(len, shares)) == 1
    with pytest.raises(UserError, match="holds no image"):
        replace(source, shard="100/100").load()


@pytest.mark.parametrize("shard", ["0/4", "5/4", "1", "1/0", "a/b", "1/4/2", "-1/4", "", "1/4 "])
def test_bad_shards_are_refused(source, shard):
    with pytest.raises(UserError, match="expected I/K"):
        replace(source, shard=shard).load()


def test_maps_in_double_precision_stay_so(source, tmp_path):
    for number, sample in enumerate(source.load()):
        path = tmp_path / "maps" / f"{sample.image_id}.npy"
        path.parent.mkdir(parents=True, exist_ok=True)
        np.save(path, np.random.default_rng(number).random((224, 224)))
    shards = [replace(source, shard=f"{number}/2") for number in (1, 2)]
    for number, each in enumerate((source, *shards)):
        adopt(Adopt(tmp_path / "maps", each, tmp_path / str(number), "theirs"))
    whole = Predictions.open(tmp_path / "0")
    merged = Predictions.open(merge(Merge((tmp_path / "1", tmp_path / "2"), tmp_path / "merged")))
    for one, other in zip(whole.entries, merged.entries, strict=True):
        np.testing.assert_array_equal(whole.map(one), merged.map(other))


def test_dark_maps_of_8_bits_are_dark_in_every_shard(source, tmp_path):
    """Of the first shard none exceeds 1, which alone would be a mask."""
    for number, sample in enumerate(source.load()):
        path = tmp_path / "maps" / f"{sample.image_id}.npy"
        path.parent.mkdir(parents=True, exist_ok=True)
        np.save(path, np.full((224, 224), 200 if number % 2 else 1, np.uint8))
    for number in (1, 2):
        adopt(Adopt(tmp_path / "maps", replace(source, shard=f"{number}/2"), tmp_path / str(number), "theirs"))
    for number, value in ((1, 1), (2, 200)):
        part = Predictions.open(tmp_path / str(number))
        assert part.map(part.entries[0]).max() == np.float32(value) / np.float32(255)


@pytest.mark.slow
def test_merged_is_what_one_machine_writes(source, parts, tmp_path):
    whole = runs.write(tmp_path / "whole", source)
    merged = merge(Merge(tuple(reversed(parts)), tmp_path / "merged"))
    assert (merged / "predictions.jsonl").read_bytes() == (whole / "predictions.jsonl").read_bytes()
    maps = sorted(path.relative_to(whole) for path in whole.rglob("*.npy"))
    assert maps == sorted(path.relative_to(merged) for path in merged.rglob("*.npy"))
    assert all((merged / path).read_bytes() == (whole / path).read_bytes() for path in maps)
    ours, theirs = read_json(merged / "manifest.json"), read_json(whole / "manifest.json")
    assert len(ours.pop("processes")) == COUNT + 1
    theirs.pop("processes")
    assert ours == theirs
    rows = [evaluate(Evaluate((directory,), protocols=("bas", "wsoleval-v2")))[0] for directory in (whole, merged)]
    figures = [[result.gt_known.tolist() for result in each[0].results.values()] for each in rows]
    assert figures[0] == figures[1]


@pytest.mark.slow
def test_a_stopped_merge_goes_on(parts, tmp_path):
    merged = merge(Merge(tuple(parts), tmp_path / "merged"))
    expected = (merged / "predictions.jsonl").read_bytes()
    manifest = read_json(merged / "manifest.json")
    write_json(merged / "manifest.json", {**manifest, "complete": False})
    (merged / "predictions.jsonl").write_bytes(expected[: len(expected) // 2])
    merge(Merge(tuple(parts), tmp_path / "merged"))
    assert (merged / "predictions.jsonl").read_bytes() == expected
    assert read_json(merged / "manifest.json")["complete"]


def changed(parts, tmp_path, number, **fields):
    copy = tmp_path / f"changed{number}"
    shutil.copytree(parts[number], copy)
    write_json(copy / "manifest.json", {**read_json(copy / "manifest.json"), **fields})
    return (*parts[:number], copy, *parts[number + 1 :])


def test_what_does_not_belong_together_is_refused(source, parts, tmp_path):
    cases = [
        ((), "no predictions were named"),
        (tuple(parts[:3]), "shard 4 of 4 is missing"),
        ((*parts, parts[0]), "shard 1 of 4 stands there twice"),
        (changed(parts, tmp_path, 1, method="bas"), "different runs: method differ"),
        (changed(parts, tmp_path, 2, complete=False), "has not finished"),
        ((*parts[:3], runs.write(tmp_path / "five", replace(source, shard="4/5"))), "shards of 4 and of 5"),
    ]
    for directories, message in cases:
        with pytest.raises(UserError, match=message):
            merge(Merge(directories, tmp_path / "out"))
        assert not (tmp_path / "out").exists()


def test_lines_that_are_missing_or_too_many_are_refused(parts, tmp_path):
    for number, edit, message in [
        (0, lambda lines: lines[:-1], "7 images; expected 8, as manifest.json says"),
        (1, lambda lines: [*lines[1:], lines[0].replace("bird", "bat")], "no line of"),
        (3, lambda lines: [*lines, lines[0].replace("bird", "bat")], "images; expected"),
    ]:
        directories = changed(parts, tmp_path, number)
        path = directories[number] / "predictions.jsonl"
        path.write_text("".join(edit(path.read_text().splitlines(keepends=True))))
        with pytest.raises(UserError, match=message):
            merge(Merge(directories, tmp_path / "out"))


@pytest.mark.parametrize("option", ["boxes", "metadata", "list_file"])
def test_annotations_that_moved_are_named(source, tmp_path, option):
    """Boxes of class folders, metadata folders and lists each lie elsewhere by the time of merging."""
    first, moved = tmp_path / "first", tmp_path / "moved"
    first.mkdir()
    images, loaded = source.root / "images", source.load()
    if option == "boxes":
        for sample in loaded:
            (first / "own/test" / sample.image_id).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy(sample.path, first / "own/test" / sample.image_id)
        rows = (f"{sample.image_id},{','.join(map(str, sample.boxes[0]))}\n" for sample in loaded)
        (first / "boxes.csv").write_text("".join(rows))
        shutil.move(first / "own", tmp_path / "own")
        asked, place = DataSource("folder", tmp_path / "own", boxes=first / "boxes.csv"), "boxes.csv"
    elif option == "metadata":
        wsoleval.write(loaded, first / "meta")
        asked, place = DataSource("wsoleval", images, metadata=first / "meta"), "meta"
    else:
        rows = (f"{sample.image_id},{sample.label},{' '.join(map(str, sample.boxes[0]))}\n" for sample in loaded)
        (first / "list.txt").write_text("".join(rows))
        asked, place = DataSource("list", images, list_file=first / "list.txt"), "list.txt"
    halves = tuple(runs.write(tmp_path / f"{k}", replace(asked, shard=f"{k}/2"), maps=False) for k in (1, 2))
    first.rename(moved)
    with pytest.raises(UserError, match=f"Name it with --{option.replace('_', '-')}"):
        merge(Merge(halves, tmp_path / "lost"))
    merged = merge(Merge(halves, tmp_path / "merged", **{option: moved / place}))
    predictions = Predictions.open(merged)
    assert len(predictions.entries) == len(loaded)
    assert getattr(predictions.source, option) == moved / place


def test_what_was_changed_in_the_parts_maps_is_counted_together(source, parts, tmp_path):
    made = []
    for number, part in enumerate(parts, start=1):
        copy = shutil.copytree(part, tmp_path / str(number))
        manifest = read_json(copy / "manifest.json")
        manifest["counts"]["changed"] = {"clipped to [0, 1]": number}
        write_json(copy / "manifest.json", manifest)
        made.append(copy)
    merged = merge(Merge(tuple(made), tmp_path / "merged"))
    assert Predictions.open(merged).manifest["counts"]["changed"] == {"clipped to [0, 1]": 10}
