"""Runs that differ in the seed alone, by hand."""

from math import sqrt

import numpy as np
import pytest

from common.datasets import DataSource
from common.evaluate import Evaluate
from common.runs.evaluation import evaluate
from common.runs.intervals import Resampling
from common.runs.provenance import training_of
from common.runs.seeds import both_sources, seed_rows
from common.runs.tables import side_by_side
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
