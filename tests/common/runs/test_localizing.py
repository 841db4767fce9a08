import json
from dataclasses import dataclass, replace

import numpy as np
import pytest

from common.datasets import DataSource, Sample
from common.measuring.extraction import Extractor
from common.measuring.geometry import Frame
from common.runs.localizing import Box, Classes, Localizing, best_classes
from common.runs.reader import Predictions
from common.runs.writer import PredictionsWriter
from common.system.errors import UserError
from tests import small_cub

BOX = Box(Extractor("value", "largest-component", "exclusive"), 0.5)


@dataclass
class Item:
    sample: Sample
    problem: str | None = None


@pytest.fixture
def dataset(tmp_path):
    return DataSource("cub", small_cub.make(tmp_path / "CUB"), "test").load()


def run_over(dataset, out, fails_at=None, broken=()):
    """Both directories of a run whose map has a hot rectangle, x 3 to 6, y 2 to 8; ends at an image if told."""
    writers = {name: PredictionsWriter(out / name, {"method": "cam"}) for name in ("a", "b")}
    hot = np.zeros((224, 224), np.float32)
    hot[2:9, 3:7] = 1
    with Localizing(dataset, writers, 2, box=BOX) as run:
        batches = [run.left[start : start + 2] for start in range(0, len(run.left), 2)]
        loader = [[Item(s, "broken" if s.image_id in broken else None) for s in batch] for batch in batches]
        for items in run.batches(loader):
            for item in items:
                if item.sample.image_id == fails_at:
                    raise KeyboardInterrupt
                for name in writers:
                    run.write(name, item.sample, Frame.squash(item.sample.size), Classes((1, 0), (0.75, 0.25)), hot)
    return run.left, run.finish()


def test_lines_boxes_and_reasons(dataset, tmp_path):
    broken = dataset.samples[1].image_id
    left, directories = run_over(dataset, tmp_path / "out", broken={broken})
    assert left == list(dataset)
    assert directories == [tmp_path / "out/a", tmp_path / "out/b"]
    for directory in directories:
        found = Predictions.open(directory)
        assert [entry.image_id for entry in found.entries] == [s.image_id for s in dataset if s.image_id != broken]
        assert found.skipped == {broken: "broken"}
        assert found.entries[0].box.tolist() == [3, 2, 7, 9]
        assert (found.entries[0].top5, found.entries[0].top5_scores) == ((1, 0), (0.75, 0.25))


def test_what_was_left_out_is_said_once_for_all_directories(dataset, tmp_path, capsys):
    broken = dataset.samples[0].image_id
    run_over(dataset, tmp_path / "out", broken={broken})
    assert capsys.readouterr().err.count(f"left out: broken: 1 of {len(dataset)} images, {broken}\n") == 1


def test_a_stopped_run_does_the_rest_in_whole_batches(dataset, tmp_path):
    with pytest.raises(KeyboardInterrupt):
        run_over(dataset, tmp_path / "out", fails_at=dataset.samples[3].image_id)
    left, directories = run_over(dataset, tmp_path / "out")
    assert left == list(dataset)[2:]
    assert run_over(dataset, tmp_path / "out")[0] == []
    for directory in directories:
        lines = (directory / "predictions.jsonl").read_text().splitlines()
        assert [json.loads(line)["image_id"] for line in lines] == [sample.image_id for sample in dataset]


def test_best_classes_takes_equal_ones_in_order(dataset):
    (found,) = best_classes(np.array([[0.125, 0.25, 0.25, 0.125, 0.125, 0.0625]]), dataset.samples[:1])
    assert found == ((1, 2, 0, 3, 4), (0.25, 0.25, 0.125, 0.125, 0.125))


def test_one_crops_scores_rank_what_the_softmax_rounds_to_zero(dataset):
    scores = np.array([[-3.0, 0.0, 120.0, 1.0, -1.0, 2.0]], np.float32)
    probabilities = np.array([[0, 0, 1, 0, 0, 0]], np.float32)  # their softmax in float32
    (found,) = best_classes(probabilities, dataset.samples[:1], scores)
    assert found == ((2, 5, 3, 1, 4), (1.0, 0.0, 0.0, 0.0, 0.0))


def test_scores_that_are_no_numbers_are_refused(dataset):
    with pytest.raises(UserError, match=f"no finite scores for {dataset.samples[0].image_id}"):
        best_classes(np.array([[0.5, float("nan")]]), dataset.samples[:1])


@pytest.mark.parametrize("threshold", [30, 1.0, -0.5, float("nan")])
def test_a_threshold_that_cuts_no_map_is_refused(threshold):
    """One in percent would find nothing in any image, one below 0 the whole frame in each."""
    with pytest.raises(UserError, match=r"threshold .*; expected at least 0, below 1"):
        replace(BOX, threshold=threshold)
