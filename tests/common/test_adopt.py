import os
import shutil
import subprocess
import sys
from dataclasses import replace

import numpy as np
import pytest
from PIL import Image

from common.adopt import Adopt, adopt
from common.datasets import DataSource
from common.evaluate import Evaluate
from common.measuring.extraction import LARGEST_COMPONENT
from common.measuring.metrics import LocalizationEvaluator
from common.measuring.protocols import WSOLEVAL_V1
from common.results.evaluation import evaluate
from common.runs.reader import Predictions
from common.system.errors import UserError
from tests import runs


@pytest.fixture
def maps(tmp_path, source):
    """A folder of maps alone, in double precision, as another program may leave it."""
    run = runs.write(tmp_path / "run", source, misses=2)
    folder = tmp_path / "scoremaps"
    shutil.move(run / "maps", folder)
    for path in folder.rglob("*.npy"):
        np.save(path, np.load(path).astype(np.float64) / 3)
    return folder


def test_adopted_maps_are_scored_as_they_are(tmp_path, source, maps):
    adopt(Adopt(maps, source, tmp_path / "adopted", "theirs"))
    (evaluation,), _ = evaluate(Evaluate((tmp_path / "adopted",), protocols=("wsoleval-v1",)))
    straight = LocalizationEvaluator(WSOLEVAL_V1)
    for sample, entry in zip(source.load(), evaluation.predictions.entries, strict=True):
        straight.accumulate(np.load(maps / f"{sample.image_id}.npy"), entry.frame, sample.boxes, sample.label)
    assert evaluation.rows[0].gt_known == straight.compute().max_box_acc
    assert evaluation.rows[0].method == "theirs unknown"
    assert evaluation.rows[0].top1 is None


def test_a_map_with_an_axis_of_one_is_scored_as_the_same_without(tmp_path, source, maps):
    """Levels that are tenths in single precision lie above them in double precision, and not below."""
    for path in maps.rglob("*.npy"):
        stored = (np.load(path) * 3).round(1).astype(np.float32).astype(np.float64)
        np.save(path, stored)
        (tmp_path / "axes" / path.relative_to(maps)).parent.mkdir(parents=True, exist_ok=True)
        np.save(tmp_path / "axes" / path.relative_to(maps), stored[None])
    for folder in (maps, tmp_path / "axes"):
        adopt(Adopt(folder, source, tmp_path / f"of-{folder.name}", "theirs", threshold=0.1))
    plain, copied = (Predictions.open(tmp_path / f"of-{name}") for name in ("scoremaps", "axes"))
    for one, other in zip(plain.entries, copied.entries, strict=True):
        np.testing.assert_array_equal(plain.map(one), copied.map(other))
        assert one.to_json() == other.to_json()
        for predictions, entry in ((plain, one), (copied, other)):
            (boxes,) = LARGEST_COMPONENT.boxes(predictions.map(entry), [entry.threshold])
            np.testing.assert_array_equal(boxes, entry.boxes)


def test_again(tmp_path, source, maps):
    options = Adopt(maps, source, tmp_path / "adopted", "theirs")
    adopt(options)
    adopt(options)
    adopt(replace(options, overwrite=True))
    assert len(Predictions.open(tmp_path / "adopted").entries) == 6


def test_a_dark_map_of_8_bits_is_no_mask(tmp_path, source, maps, capsys):
    """Its ones are of 255 where another map of its folder has more than 1, and alone they are object."""
    dark, *others = sorted(maps.rglob("*.npy"))
    ones = np.zeros((224, 224), np.uint8)
    ones[:100, :100] = 1
    np.save(dark, ones)
    for path in others:
        np.save(path, 200 * ones)
    adopt(Adopt(maps, source, tmp_path / "dark", "theirs"))
    assert "uint8 divided by 255: 6 of 6 images" in capsys.readouterr().out
    assert np.load(tmp_path / "dark/maps" / dark.relative_to(maps)).max() == np.float32(1 / 255)
    for path in others:
        np.save(path, ones)
    adopt(Adopt(maps, source, tmp_path / "masks", "theirs"))
    assert "uint8 of 0 and 1 taken as such: 6 of 6 images" in capsys.readouterr().out


def test_maps_that_changed_since_are_taken_in_with_overwrite(tmp_path, source, maps):
    """One that is linked to, one that was copied, one that was left out; the same maps written anew are no change."""
    linked, copied, left_out = sorted(maps.rglob("*.npy"))[:3]
    half = np.full((224, 224), 0.5, np.float32)
    np.save(copied, (255 * half).astype(np.uint8))
    np.save(left_out, np.full_like(half, np.nan))
    options = Adopt(maps, source, tmp_path / "adopted", "theirs")
    adopt(options)
    for path in maps.rglob("*.npy"):
        np.save(path, np.load(path))
    adopt(options)
    for path, array in ((linked, half[::-1] * 0), (copied, (128 * half).astype(np.uint8)), (left_out, half)):
        before = np.load(path)
        np.save(path, array)
        said = rf"1 of its maps are others than when they were taken in, .*{path.name} among them. Say --overwrite"
        with pytest.raises(UserError, match=said):
            adopt(options)
        np.save(path, before)
    np.save(left_out, half)
    adopt(replace(options, overwrite=True))
    assert len(Predictions.open(tmp_path / "adopted").entries) == 6


def test_some_maps_of_no_use_are_named_and_the_rest_is_scored(tmp_path, source, maps, capsys):
    paths = sorted(maps.rglob("*.npy"))
    np.save(paths[0], np.full((224, 224), np.nan))
    paths[1].unlink()
    np.save(paths[2], np.load(paths[2]) * 3 * 1.0000002)
    paths[3].write_bytes(b"")
    adopt(Adopt(maps, source, tmp_path / "adopted", "theirs"))
    found = Predictions.open(tmp_path / "adopted")
    assert len(found.entries) == 3
    assert found.manifest["counts"]["skipped"].keys() >= {"map: NaN or infinity in it", "map: no such map"}
    assert found.manifest["counts"]["changed"] == {"clipped to [0, 1]": 1}
    printed = capsys.readouterr()
    assert "left out: map: no such map: 1 of 6 images, " in printed.err
    assert "clipped to [0, 1]: 1 of 6 images, " in printed.out
    (evaluation,), _ = evaluate(Evaluate((tmp_path / "adopted",), protocols=("wsoleval-v1",)))
    assert (evaluation.rows[0].images, sum(evaluation.rows[0].left_out.values())) == (3, 3)


def test_maps_under_another_name_are_not_called_missing(tmp_path, source, maps, capsys):
    first, second, third, *_ = sorted(maps.rglob("*.npy"))
    np.savez(first.with_suffix(".npz"), np.load(first))
    first.unlink()
    second.rename(second.with_suffix("").with_suffix(".npy"))
    third.rename(maps / third.name)
    adopt(Adopt(maps, source, tmp_path / "adopted", "theirs"))
    found = Predictions.open(tmp_path / "adopted").manifest["counts"]["skipped"]
    assert found == {
        "map: no <image_id>.npy, but <image_id>.npz": 1,
        "map: no <image_id>.npy, but <image_id without its ending>.npy": 1,
        "map: no <image_id>.npy, but <file name>.npy": 1,
    }


def test_what_is_odd_about_all_maps_is_said(tmp_path, source, maps, capsys):
    """A buffer that was saved for two images, a network that finds nothing, and a division too many."""
    paths, odd = sorted(maps.rglob("*.npy")), tmp_path / "odd"
    shutil.copytree(maps, odd)
    adopt(Adopt(maps, source, tmp_path / "sound", "theirs"))
    assert "note: " not in capsys.readouterr().err
    for path in paths:
        there = odd / path.relative_to(maps)
        np.save(there, np.load(paths[0] if path in paths[:2] else path) * (0 if path in paths[4:] else 3 / 255))
    ids = [str(path.relative_to(maps).with_suffix("")) for path in paths]
    adopt(Adopt(odd, source, tmp_path / "adopted", "theirs"))
    said = capsys.readouterr().err.splitlines()
    assert [line for line in said if line.startswith("note: ")] == [
        f"note: 2 maps are constant, {ids[4]} and 1 more: they hold no object, or the whole image",
        f"note: 1 map is equal to another image's: {ids[0]} and {ids[1]} have the same",
        "note: no value of 6 maps exceeds 0.00392, as where maps in [0, 1] were divided by 255",
    ]


def test_maps_of_photographs_that_are_turned_are_said(tmp_path, capsys):
    exif = Image.Exif()
    exif[0x112] = 6
    for name, options in (("a", {"exif": exif}), ("b", {})):
        (tmp_path / "own/all/cat").mkdir(parents=True, exist_ok=True)
        Image.new("RGB", (40, 30), "red").save(tmp_path / f"own/all/cat/{name}.jpg", **options)
        (tmp_path / "maps/cat").mkdir(parents=True, exist_ok=True)
        np.save(tmp_path / f"maps/cat/{name}.jpg.npy", np.linspace(0, 0.1 * ord(name) - 9, 224 * 224).reshape(224, 224))
    adopt(Adopt(tmp_path / "maps", DataSource("folder", tmp_path / "own", "all"), tmp_path / "adopted", "theirs"))
    assert "note: 1 image has an EXIF tag that turns them, cat/a.jpg: maps are taken" in capsys.readouterr().err


def test_maps_that_were_made_anew_since_are_said_when_they_are_scored(tmp_path, source, maps, capsys):
    adopt(Adopt(maps, source, tmp_path / "adopted", "theirs"))
    run = Evaluate((tmp_path / "adopted",), protocols=("wsoleval-v1",))
    evaluate(run)
    later = (tmp_path / "adopted/predictions.jsonl").stat().st_mtime + 5
    path, other = sorted(maps.rglob("*.npy"))[:2]
    for each in (path, other):  # as a copy of the folder would be
        os.utime(each, (later, later))
    evaluate(run)
    assert "made anew" not in capsys.readouterr().err
    np.save(path, np.load(path)[::-1])
    os.utime(path, (later, later))
    evaluate(run)
    said = f"1 map was made anew since these predictions took them in, {path.relative_to(maps).with_suffix('')}; stored"
    assert said in capsys.readouterr().err
    np.save(other, np.load(other)[::-1])
    os.utime(other, (later - 9999, later - 9999))  # as that of an earlier run, moved there
    evaluate(run)
    assert "2 maps were made anew since" in capsys.readouterr().err


def test_refusals(tmp_path, source, maps):
    for path in maps.rglob("*.npy"):
        np.save(path, np.zeros((9, 9)))
    with pytest.raises(
        UserError, match=r"no map can be taken: left out: map: 9x9, not 224x224 \(6\)\. Mend that, or say"
    ):
        adopt(Adopt(maps, source, tmp_path / "a", "theirs"))
    adopt(Adopt(maps, source, tmp_path / "a", "theirs", resize="frame"))
    with pytest.raises(UserError, match="no such folder"):
        adopt(Adopt(tmp_path / "nothing", source, tmp_path / "b", "theirs"))
    with pytest.raises(UserError, match="threshold 30; expected at least 0, below 1"):
        adopt(Adopt(maps, source, tmp_path / "c", "theirs", resize="frame", threshold=30))
    assert not (tmp_path / "c").exists()
    own = runs.write(tmp_path / "own", source)
    with pytest.raises(UserError, match="maps of its own"):
        adopt(Adopt(maps, source, own, "theirs", overwrite=True))


@pytest.mark.slow
def test_the_command(tmp_path, source, maps):
    done = subprocess.run(
        [sys.executable, "-m", "common.adopt", maps, "--method", "theirs", "--out", tmp_path / "adopted",
         "--data.name", "cub", "--data.root", source.root], capture_output=True, text=True,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    links = sorted((tmp_path / "adopted/maps").rglob("*.npy"))
    assert [path.resolve() for path in links] == sorted(path.resolve() for path in maps.rglob("*.npy"))
