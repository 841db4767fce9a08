from dataclasses import replace

import numpy as np
import pytest

from common.measuring.metrics import LocalizationEvaluator
from common.measuring.protocols import PROTOCOLS, SPOL
from common.results.audit import judge
from common.runs.reader import Predictions
from tests import runs


@pytest.mark.slow
@pytest.mark.parametrize("protocol", PROTOCOLS.values(), ids=list(PROTOCOLS))
def test_hits_add_up_to_the_evaluators_accuracy(tmp_path, source, protocol):
    predictions = Predictions.open(runs.write(tmp_path / "run", source, protocol.frame, misses=2))
    samples = {sample.image_id: sample for sample in source.load()}
    thresholds = protocol.sweep[::7]
    evaluator = LocalizationEvaluator(protocol, thresholds)
    for entry in predictions.entries:
        evaluator.accumulate(predictions.map(entry), entry.frame, samples[entry.image_id].boxes, entry.label)
    judged = list(judge(predictions, samples, protocol, thresholds))
    hits = np.sum([one.correct for one in judged], axis=0).T
    counted = np.sum([one.counted for one in judged], axis=0)
    result = evaluator.compute()
    assert 0 < hits[0, -1] < len(judged)
    np.testing.assert_array_equal(counted, result.counted)
    np.testing.assert_allclose(100 * hits / counted, result.gt_known_over_images, atol=1e-9)


def test_processes_do_not_change_the_order(tmp_path, source, monkeypatch):
    monkeypatch.setattr("common.runs.reader.CHUNK", 2)
    predictions = Predictions.open(runs.write(tmp_path / "run", source))
    samples = {sample.image_id: sample for sample in source.load()}
    protocol = PROTOCOLS["dgl"]
    one, two = (list(judge(predictions, samples, protocol, (0.1,), workers=n)) for n in (1, 2))
    assert [judged.entry.image_id for judged in one] == [entry.image_id for entry in predictions.entries]
    assert [judged.entry.image_id for judged in two] == [judged.entry.image_id for judged in one]


def test_an_image_left_out_by_name_is_neither_counted_nor_hit(tmp_path, source):
    protocol = replace(SPOL, left_out=("bird_3.png",))
    predictions = Predictions.open(runs.write(tmp_path / "run", source, protocol.frame))
    samples = {sample.image_id: sample for sample in source.load()}
    judged = {one.entry.image_id: one for one in judge(predictions, samples, protocol, (0.5,))}
    out = [one for name, one in judged.items() if name.endswith("bird_3.png")]
    assert out
    assert not any(one.counted.any() or one.correct.any() for one in out)
    assert sum(one.counted[0] for one in judged.values()) == len(judged) - len(out)


def test_stored_boxes_are_judged_once(tmp_path, source):
    predictions = Predictions.open(runs.write(tmp_path / "run", source, maps=False, misses=1))
    samples = {sample.image_id: sample for sample in source.load()}
    judged = list(judge(predictions, samples, PROTOCOLS["wsoleval-v1"], (0.1, 0.2)))
    assert [one.correct.shape for one in judged] == [(1, 1)] * len(judged)
    assert sum(one.correct[0, 0] for one in judged) == len(judged) - 1
