"""Runs that differ in the seed alone, by hand."""

import json
from dataclasses import replace
from math import sqrt

import numpy as np
import pytest

from common.datasets import DataSource
from common.evaluate import Evaluate
from common.results.evaluation import evaluate
from common.results.intervals import Resampling
from common.results.seeds import both_sources, seed_rows
from common.results.tables import side_by_side
from common.runs.provenance import training_of
from tests import runs, small_cub


def trained(seed, **fields):
    return {"method": "cam", "architecture": "a", "class_names": ["x"], "trained_on": {"fingerprint": "f", "root": "r"},
            "options": {"seed": seed, "lr": 0.1}, **fields}  # fmt: skip


def test_a_recipe_is_all_but_the_seed_and_the_place():
    one, two = training_of(trained(0)), training_of(trained(1, trained_on={"fingerprint": "f", "root": "elsewhere"}))
    assert (one["seed"], two["seed"]) == (0, 1)
    assert one["recipe"] == two["recipe"]
    assert one["recipe"] != training_of(trained(0, options={"seed": 0, "lr": 0.2}))["recipe"]
    assert training_of({"options": {}}) is training_of({}) is None


def test_both_sources_by_hand():
    """Seeds 90, 92, 94: deviation 2, t of two degrees 4.3027; images' deviation 1.5, of a normal 1.96."""
    low, high = both_sources(np.array([90.0, 92, 94]), np.array([90.5, 92, 93.5]))
    half = sqrt((4.3027 * 2 / sqrt(3)) ** 2 + (1.95996 * 1.5) ** 2)
    assert (low, high) == pytest.approx((92 - half, 92 + half), abs=1e-3)
    assert both_sources(np.array([99.0, 100]), np.array([99.0, 100]))[1] == 100


@pytest.mark.slow
def test_three_seeds_are_one_method(tmp_path):
    """Of 15 images all, 12 and 9 are hit: mean 80, deviation 20. Another recipe stays alone."""
    source = DataSource("cub", small_cub.make(tmp_path / "CUB", test=5), "test")
    made = []
    for seed, misses, recipe in ((0, 0, "a"), (1, 3, "a"), (2, 6, "a"), (0, 0, "b")):
        checkpoint = {"name": "x", "sha256": f"{len(made)}" * 64, "training": {"seed": seed, "recipe": recipe}}
        made.append(runs.write(tmp_path / f"run{len(made)}/squash", source, misses=misses, checkpoint=checkpoint))
    evaluations, _ = evaluate(Evaluate(tuple(made), protocols=("wsoleval-v1",)))
    (row,) = seed_rows(evaluations, Resampling(300))
    assert (row.label, row.seeds, row.run, row.source) == ("cam mobilenet_v1, 3 seeds", 3, "", "oracle")
    assert (row.gt_known, row.spread["gt_known"]) == (pytest.approx(80), pytest.approx(20))
    low, high = row.intervals["gt_known"]
    assert low < 80 - 4.30 * 20 / sqrt(3) + 1e-6
    assert high == 100
    cells = next(line for line in side_by_side(evaluations, [row]) if line[0] == row.label)
    assert cells[2].startswith("80.0 ±20.0 (")
    assert seed_rows(evaluations[-2:], Resampling(10)) == []


def seeded(folder, source, seed, recipe="a", misses=0, skipped=(), frame="resize 224", steps=None):
    """A run of a seed in which some images were skipped; the first `misses` of the others are missed."""
    sha256 = f"{seed}{recipe}{folder.name if steps else ''}"
    checkpoint = {"name": "x", "sha256": sha256, "training": {"seed": seed, "recipe": recipe}}
    data = {**source.described(source.load()), "training_steps": steps}
    directory = runs.write(folder, source, frame, misses=misses, checkpoint=checkpoint, data=data)
    path = directory / "predictions.jsonl"
    rows = [json.loads(line) for line in path.read_text().splitlines()]
    kept = [{"image_id": row["image_id"], "skipped": "gone"} if number in skipped else row
            for number, row in enumerate(rows)]  # fmt: skip
    path.write_text("".join(json.dumps(row) + "\n" for row in kept))
    return directory


def test_means_over_seeds_are_of_the_images_that_all_runs_have(tmp_path, capsys):
    """Of 15 images seed 0 misses 5 and skips two of these, seed 1 misses 3 and skips one that it hits: of the 12 that
    both have 9 and 11 are hit. Of its own each hits 10 of 13 and 11 of 14."""
    source = DataSource("cub", small_cub.make(tmp_path / "CUB", test=5), "test")
    made = (
        seeded(tmp_path / "0/squash", source, 0, misses=5, skipped=(0, 1)),
        seeded(tmp_path / "1/squash", source, 1, misses=3, skipped=(14,)),
    )
    evaluations, _ = evaluate(Evaluate(made, protocols=("wsoleval-v1",), workers=1))
    assert [round(one.rows[0].gt_known, 2) for one in evaluations] == [round(1000 / 13, 2), round(1100 / 14, 2)]
    (row,) = seed_rows(evaluations, Resampling(100))
    assert row.gt_known == pytest.approx(100 * (9 + 11) / 24)
    assert row.images == 12
    assert row.left_out == {"skipped: gone": 2, "not in every run": 1}
    assert "3 images are not in every run" in capsys.readouterr().err


def test_a_mean_of_runs_that_count_other_numbers_of_images_says_so(tmp_path, capsys):
    """SPOL's protocol leaves out the image whose map is zero: N is 14 of 15."""
    source = DataSource("cub", small_cub.make(tmp_path / "CUB", test=5), "test")
    made = [seeded(tmp_path / f"{seed}/crop", source, seed, frame="resize 256 crop 224") for seed in (0, 1)]
    np.save(min((made[1] / "maps").rglob("*.npy")), np.zeros((224, 224), np.float32))
    evaluations, _ = evaluate(Evaluate(tuple(made), protocols=("spol", "bas"), resamples=0, workers=1))
    capsys.readouterr()
    assert {row.protocol: row.images for row in seed_rows(evaluations, Resampling(0))} == {"spol": 14, "bas": 15}
    said = capsys.readouterr().err
    assert "spol (oracle), 2 seeds of cam mobilenet_v1: the protocol counts 14 images of one run and 15 of" in said
    assert "bas" not in said


def test_thresholds_of_a_mean_are_means_for_each_criterion(tmp_path):
    """They were the first run's, beside a `threshold` that was the mean of all."""
    source = DataSource("cub", small_cub.make(tmp_path / "CUB"), "test")
    made = tuple(seeded(tmp_path / f"{seed}/squash", source, seed) for seed in (0, 1))
    evaluations, _ = evaluate(Evaluate(made, protocols=("wsoleval-v2",), resamples=0, workers=1))
    chosen = ((0.1, 0.2, 0.3), (0.3, 0.5, 0.4))
    read = [
        replace(each, rows=tuple(replace(row, thresholds=at, threshold=sum(at) / 3) for row in each.rows))
        for each, at in zip(evaluations, chosen, strict=True)
    ]
    (row,) = seed_rows(read, Resampling(0))
    assert row.thresholds == pytest.approx((0.2, 0.35, 0.35))
    assert row.threshold == pytest.approx(sum(row.thresholds) / 3)


def test_recipes_of_one_title_have_one_number_in_every_frame(tmp_path):
    """Recipe a has no run in the whole image: what stood on its line there was recipe b's."""
    source = DataSource("cub", small_cub.make(tmp_path / "CUB"), "test")
    made = [
        seeded(tmp_path / f"{recipe}{seed}/{name}", source, seed, recipe, misses, frame=frame)
        for recipe, misses in (("a", 0), ("b", 6)) for seed in (0, 1)
        for name, frame in (("crop", "resize 256 crop 224"), ("squash", "resize 224"))
        if (recipe, name) != ("a", "squash")
    ]  # fmt: skip
    evaluations, _ = evaluate(Evaluate(tuple(made), protocols=("bas", "wsoleval-v1"), resamples=0, workers=1))
    found = {(row.label, row.protocol) for row in seed_rows(evaluations, Resampling(0))}
    name = "cam mobilenet_v1, 2 seeds"
    assert found == {(name, "bas"), (f"{name} #2", "bas"), (f"{name} #2", "wsoleval-v1")}


def test_checkpoints_of_one_seed_are_told_apart_by_their_steps(tmp_path, capsys):
    """Named in this order, the mean was of seed 0's last and seed 1's first checkpoint."""
    source = DataSource("cub", small_cub.make(tmp_path / "CUB"), "test")
    made = [
        seeded(tmp_path / f"{seed}-{steps}", source, seed, misses=misses, steps=[steps])
        for seed, steps, misses in ((0, 100, 6), (0, 900, 0), (1, 900, 0), (1, 100, 6))
    ]
    made.append(seeded(tmp_path / "again", source, 1, misses=3, steps=[900]))
    evaluations, _ = evaluate(Evaluate(tuple(made), protocols=("wsoleval-v1",), resamples=0, workers=1))
    rows = seed_rows(evaluations, Resampling(0))
    assert [(row.label, row.gt_known) for row in rows] == [
        ("cam mobilenet_v1, 2 seeds", 0.0), ("cam mobilenet_v1, 2 seeds #2", 100.0)
    ]  # fmt: skip
    assert f"{made[2]} and {made[4]} are of one seed and recipe" in capsys.readouterr().err


def test_a_mean_of_runs_that_were_trained_on_their_images_says_so(tmp_path):
    source = DataSource("cub", small_cub.make(tmp_path / "CUB"), "test")
    data = source.described(source.load())
    first = source.load().samples[0].image_id
    seen, free = ({"known": True, "images": images, "evaluation_split": None, "chosen": []} for images in ([first], []))
    for known, said in (([seen, seen], " (trained on 1 of these 6 images)"), ([free, free], ""),
                        ([free, seen], " (1 of these runs were trained or chosen on these images)")):  # fmt: skip
        folder, made = tmp_path / f"{said}", []
        for seed, trained_images in enumerate(known):
            checkpoint = {"name": "x", "sha256": str(seed), "training": {"seed": seed, "recipe": "a"}}
            written = {**data, "trained_images": trained_images}
            made.append(runs.write(folder / str(seed), source, checkpoint=checkpoint, data=written))
        evaluations, _ = evaluate(Evaluate(tuple(made), protocols=("wsoleval-v1",), resamples=0, workers=1))
        (row,) = seed_rows(evaluations, Resampling(0))
        assert row.label == f"cam mobilenet_v1, 2 seeds{said}"


def test_thresholds_that_some_seeds_lack_are_said(tmp_path, capsys):
    """The second run has no validation predictions: what stands is the oracle's mean."""
    source = DataSource("cub", small_cub.make(tmp_path / "CUB"), "test")
    made = [seeded(tmp_path / str(seed), source, seed) for seed in (0, 1)]
    held = seeded(tmp_path / "held", DataSource("cub", source.root, "train"), 0)
    asked = Evaluate(tuple(made), validation=(held,), protocols=("wsoleval-v1",), resamples=0, workers=1)
    rows = seed_rows(evaluate(asked)[0], Resampling(0))
    assert [row.source for row in rows] == ["oracle"]
    said = f"note: cam mobilenet_v1, 2 seeds: no mean at thresholds from validation, which {made[1]} lacks"
    assert said in capsys.readouterr().err


def test_a_seed_without_any_figure_leaves_no_mean(tmp_path):
    """Under SPOL's protocol an image without a region is not counted, and one seed's maps are all zero."""
    source = DataSource("cub", small_cub.make(tmp_path / "CUB"), "test")
    made = [seeded(tmp_path / str(seed), source, seed, frame="resize 256 crop 224") for seed in (0, 1)]
    for path in (made[1] / "maps").rglob("*.npy"):
        np.save(path, np.zeros((224, 224), np.float32))
    evaluations, _ = evaluate(Evaluate(tuple(made), protocols=("spol",), resamples=20, workers=1))
    (row,) = seed_rows(evaluations, Resampling(20))
    assert np.isnan(row.gt_known)
    assert (row.top1, row.images, row.spread, row.intervals) == (None, 0, {}, {})
    cells = next(line for line in side_by_side(evaluations, [row]) if line[0] == row.label)
    assert cells[2].startswith("- @")
