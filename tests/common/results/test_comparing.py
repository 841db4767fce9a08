"""Paired comparisons, by hand."""

import json
import subprocess
import sys

import numpy as np
import pytest
from PIL import Image

from common.datasets import DataSource
from common.evaluate import Evaluate
from common.results.comparing import Comparison, Pair, Parts, compare, holm, mcnemar
from common.results.evaluation import evaluate
from common.results.intervals import Resampling
from common.results.tables import compared, matrix, ranking
from common.system.errors import UserError
from tests import runs, small_cub

NOTHING = Parts(0.0, 0.0, None)


@pytest.fixture
def source(tmp_path):
    return DataSource("cub", small_cub.make(tmp_path / "CUB", test=5), "test")


def test_mcnemars_exact_p():
    """Of 10 discordant images 9 are the first's: 2 (1 + 10) / 1024. Of 3 all: 2 / 8."""
    assert mcnemar(9, 1) == pytest.approx(22 / 1024)
    assert mcnemar(3, 0) == mcnemar(0, 3) == pytest.approx(0.25)
    assert mcnemar(4, 4) == mcnemar(0, 0) == 1.0


def test_holms_p():
    """Holm (1979): 0.01 * 4, 0.02 * 3, 0.03 * 2 raised to the one before, 0.6."""
    assert holm([0.03, 0.6, 0.01, 0.02]) == pytest.approx([0.06, 0.6, 0.04, 0.06])
    assert holm([0.5, 0.9]) == [1.0, 1.0]


def pair(one, other, adjusted):
    return Pair(one, other, 1.0, None, (), (), adjusted, adjusted, NOTHING)


def test_lines_join_what_cant_be_told_apart():
    """Of a, b, c, d only a and c, a and d can: a and b share a line, b, c and d another."""
    ps = {"ab": 0.3, "ac": 0.01, "ad": 0.001, "bc": 0.2, "bd": 0.06, "cd": 1.0}
    comparison = Comparison("spol", "oracle", 9, tuple((name, 90.0) for name in "abcd"), (9,) * 4,
                            tuple(pair(*names, p) for names, p in ps.items()))  # fmt: skip
    assert comparison.alike() == [["a", "b"], ["b", "c", "d"]]
    assert [row[3] for row in ranking(comparison)[1:]] == ["|", "| |", "  |", "  |"]
    assert matrix(comparison)[2] == ["b", "(-1.0)", "", "(+1.0)", "(+1.0)"]


@pytest.mark.slow
def test_two_runs_by_hand(tmp_path, source):
    """15 images: all hit, and 5 missed. 5 alone against none: p = 2 / 32; 33.3 points."""
    made = [runs.write(tmp_path / name / "squash", source, misses=misses) for name, misses in (("good", 0), ("bad", 5))]
    evaluations, _ = evaluate(Evaluate(tuple(made), protocols=("wsoleval-v1", "wsoleval-v2")))
    first, second = compare(evaluations, Resampling(200))
    (one,) = first.pairs
    assert (first.protocol, first.source, first.images) == ("wsoleval-v1", "oracle", 15)
    assert [label for label, _ in first.ranked] == ["cam mobilenet_v1 (good)", "cam mobilenet_v1 (bad)"]
    assert one.difference == pytest.approx(100 / 3)
    assert one.interval[0] < 100 / 3 < one.interval[1]
    assert (one.only_one, one.only_other) == (tuple(sorted(list(evaluations[0].samples)[:5])), ())
    assert one.p == one.adjusted == pytest.approx(2 / 32)
    assert one.parts == Parts(pytest.approx(100 / 3), pytest.approx(0), pytest.approx(0))
    assert not one.apart
    assert second.pairs[0].difference == pytest.approx(100 / 3)
    assert compare(evaluations, Resampling(200)) == [first, second]
    assert compared([first])[1][4:6] == ["5", "0"]


@pytest.mark.parametrize("protocol", ["wsoleval-v1", "grcam"])
def test_images_that_one_run_lacks_count_for_none(tmp_path, source, capsys, protocol):
    """15 images, of which the first run misses 5; the second lacks two of these and misses all 3 others, and one more.

    Of the 13 that both have, 10 are hit against 9.
    """
    one = runs.write(tmp_path / "a/squash", source, misses=5)
    ids = [sample.image_id for sample in source.load()]
    other = runs.write(tmp_path / "b/squash", source, misses=6)
    lines = (other / "predictions.jsonl").read_text().splitlines()
    skips = [json.dumps({"image_id": image_id, "skipped": "map: no such map"}) for image_id in ids[:2]]
    (other / "predictions.jsonl").write_text("\n".join([*skips, *lines[2:]]) + "\n")
    evaluations, _ = evaluate(Evaluate((one, other), protocols=(protocol,), workers=1))
    assert [round(each.rows[-1].gt_known, 2) for each in evaluations] == [66.67, 69.23]
    (comparison,) = compare(evaluations, Resampling(50))
    (pair,) = comparison.pairs
    assert (comparison.images, pair.one) == (13, "cam mobilenet_v1 (a)")
    assert [value for _, value in comparison.ranked] == pytest.approx([1000 / 13, 900 / 13])
    assert pair.difference == pytest.approx(100 / 13)
    assert (pair.only_one, pair.only_other) == ((ids[5],), ())
    assert pair.parts == Parts(pytest.approx(100 / 13), pytest.approx(0), pytest.approx(0))
    assert f"{protocol}: 2 images are not in every run, {min(ids[:2])} and 1 more" in capsys.readouterr().err


def test_runs_of_other_images_are_refused(tmp_path, source):
    other = DataSource("cub", source.root, "train")
    made = runs.write(tmp_path / "a/squash", source), runs.write(tmp_path / "b/squash", other)
    evaluations, _ = evaluate(Evaluate(made, protocols=("grcam",)))
    with pytest.raises(UserError, match="of other images or annotations"):
        compare(evaluations, Resampling(10))


def test_runs_without_a_common_source_of_thresholds_are_said(tmp_path, source, capsys):
    """Boxes that are stored without maps have no oracle, and maps have no stored boxes that are scored."""
    made = [runs.write(tmp_path / name / "squash", source, maps=name == "a") for name in ("a", "b")]
    evaluations, _ = evaluate(Evaluate(tuple(made), protocols=("grcam", "dgl"), resamples=0, workers=1))
    comparisons = compare(evaluations, Resampling(0))
    assert [comparison.source for comparison in comparisons] == ["oracle, stored"] * 2
    said = (
        "note: grcam, dgl: no source of thresholds is common to all runs: oracle (cam mobilenet_v1 (a)), stored (cam "
        "mobilenet_v1 (b)); the oracle's are chosen on these very images, which favours them"
    )
    assert said in capsys.readouterr().err


def test_thresholds_from_different_held_out_images_are_said(tmp_path, source, capsys):
    whole = DataSource("cub", source.root, "train")
    others = DataSource("cub", small_cub.make(tmp_path / "others", height=70, train=1), "train")
    made, held = [], []
    for name, images in (("a", whole), ("b", others)):
        checkpoint = {"name": name, "sha256": name * 64}
        made.append(runs.write(tmp_path / name / "squash", source, checkpoint=checkpoint))
        held.append(runs.write(tmp_path / name / "held", images, checkpoint=checkpoint))
    both = Evaluate(tuple(made), validation=tuple(held), protocols=("grcam",), resamples=0, workers=1)
    compare(evaluate(both)[0], Resampling(0))
    said = f"thresholds of {made[0]} and {made[1]} were chosen on different held-out images"
    assert said in capsys.readouterr().err


def test_runs_on_a_resized_copy_of_the_images_are_said(tmp_path, capsys):
    """Boxes of the images' own pixels are of no use there."""
    made = []
    for name, size in (("a", (80, 60)), ("b", (160, 120))):
        image = tmp_path / name / "data/all/bird/1.png"
        image.parent.mkdir(parents=True)
        Image.new("RGB", size).save(image)
        boxes = tmp_path / name / "boxes.csv"
        boxes.write_text("path,x0,y0,x1,y1\nbird/1.png,10,10,40,40\n")
        own = DataSource("folder", tmp_path / name / "data", "all", boxes=boxes)
        made.append(runs.write(tmp_path / name / "squash", own))
    evaluations, _ = evaluate(Evaluate(tuple(made), protocols=("grcam",), resamples=0, workers=1))
    compare(evaluations, Resampling(0))
    said = f"1 image was of another size when {made[1]} was made than for {made[0]}, bird/1.png: true boxes are in"
    assert said in capsys.readouterr().err


@pytest.mark.slow
def test_a_protocol_that_counts_no_image_is_passed_over_and_said(tmp_path, source, capsys):
    """Boxes of 4 x 3 in the corner lie outside the centre crop: SPOL leaves all out, BAS clips them and counts misses."""
    rows = (source.root / "bounding_boxes.txt").read_text().splitlines()
    (source.root / "bounding_boxes.txt").write_text("".join(f"{row.split()[0]} 0 0 4 3\n" for row in rows))
    hits = {sample.image_id: np.array([[20, 20, 60, 50]]) for sample in source.load()}
    made = [runs.write(tmp_path / name / "crop", source, "resize 256 crop 224", boxes=hits) for name in ("a", "b")]
    evaluations, baselines = evaluate(Evaluate(tuple(made), protocols=("spol", "bas"), workers=1))
    assert [comparison.protocol for comparison in compare(evaluations, Resampling(10))] == ["bas"]
    assert "no image was counted for all runs under spol, so they are not compared under it" in capsys.readouterr().err
    assert {row.protocol: row.images for row in baselines} == {"bas": 15, "spol": 0}


@pytest.mark.slow
def test_the_command(tmp_path, source):
    made = [runs.write(tmp_path / name / "squash", source, misses=misses) for name, misses in (("good", 0), ("bad", 5))]
    command = [sys.executable, "-m", "common.compare", *map(str, made), "--resamples", "100", "--ids",
               "--protocols", "grcam", "--json", str(tmp_path / "compared.json")]  # fmt: skip
    done = subprocess.run(command, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert done.stdout.startswith("grcam, thresholds from oracle, 15 images")
    assert done.stdout.count("cam mobilenet_v1 (good) alone hits 001.Red_Bird/bird_") == 5
    (stored,) = json.loads((tmp_path / "compared.json").read_text())
    assert len(stored["pairs"][0]["only_one"]) == 5
    alone = subprocess.run([*command[:4]], capture_output=True, text=True)
    assert (alone.returncode, alone.stderr.count("\n")) == (2, 1)


def test_each_figure_says_of_how_many_images_it_is(tmp_path, source):
    """SPOL's protocol counts no image without a region: 3 of 15 maps of one run are zero, and it hits 12 of 12."""
    made = [runs.write(tmp_path / name / "crop", source, "resize 256 crop 224") for name in ("some", "all")]
    for path in sorted((made[0] / "maps").rglob("*.npy"))[:3]:
        np.save(path, np.zeros((224, 224), np.float32))
    evaluations, _ = evaluate(Evaluate(tuple(made), protocols=("spol", "bas"), resamples=0, workers=1))
    of_spol, of_bas = sorted(compare(evaluations, Resampling(0)), key=lambda one: one.protocol, reverse=True)
    assert (of_spol.images, of_spol.counted) == (15, (12, 15))
    assert [row[1:3] for row in ranking(of_spol)] == [["GT-known", "N"], ["100.0", "12"], ["100.0", "15"]]
    assert (of_bas.images, of_bas.counted) == (15, (15, 15))


def test_a_run_without_any_figure_is_ranked_last(tmp_path, source):
    """Its maps are zero, and SPOL's protocol counts no image without a region."""
    made = [runs.write(tmp_path / name / "crop", source, "resize 256 crop 224") for name in ("none", "good")]
    for path in (made[0] / "maps").rglob("*.npy"):
        np.save(path, np.zeros((224, 224), np.float32))
    evaluations, _ = evaluate(Evaluate(tuple(made), protocols=("spol",), resamples=20, workers=1))
    (comparison,) = compare(evaluations, Resampling(20))
    assert [row[1:3] for row in ranking(comparison)[1:]] == [["100.0", "15"], ["-", "0"]]
    (cells,) = compared([comparison])[1:]
    assert cells[3] == "-"
    assert matrix(comparison)[1][2].strip("()") == "-"
