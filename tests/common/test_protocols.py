from dataclasses import replace

import numpy as np
import pytest

from common.geometry import Frame
from common.protocols import BAS, BAS_EXTENSION, GRCAM, PROTOCOLS, SPOL, WSOLEVAL_V1, WSOLEVAL_V2


def test_the_papers_protocols_are_there():
    assert set(PROTOCOLS) >= {"bas", "spol", "grcam", "dgl", "adl", "wsoleval-v1", "wsoleval-v2"}
    assert all(name == protocol.name and protocol.source for name, protocol in PROTOCOLS.items())


@pytest.mark.parametrize(("protocol", "dataset", "architecture", "threshold"), [
    (BAS, "cub", "vgg", 0.15), (BAS, "cub", "inception", 0.10), (BAS, "demo", "inception_v3", 0.10),
    (BAS, "ilsvrc", "mobilenet", 0.5), (BAS, "ilsvrc", "resnet50", 0.45), (BAS, "ilsvrc", "inception", 0.30),
    (BAS_EXTENSION, "cub", "resnet", 0.1), (BAS_EXTENSION, "ilsvrc", "resnet", 0.25),
    (SPOL, "cub", "resnet50", 0.2), (SPOL, "ilsvrc", "resnet50", 0.8), (GRCAM, "ilsvrc", "vgg", None),
])  # fmt: skip
def test_released_thresholds(protocol, dataset, architecture, threshold):
    assert protocol.fixed_threshold(dataset, architecture) == threshold


def test_grcams_thresholds_give_its_recorded_grey_levels():
    assert [int(threshold * 255) for threshold in GRCAM.sweep] == [38, 35, 33, 30, 28, 25, 22, 20, 17]


def test_wsolevaluations_thresholds():
    assert len(WSOLEVAL_V1.sweep) == 1000
    assert WSOLEVAL_V1.sweep[500] == np.arange(0, 1, 0.001)[500]


def test_operators():
    iou = np.array([0.5, 0.500001, 0.3])
    assert BAS.correct(iou).tolist() == [[False], [True], [False]]
    assert GRCAM.correct(iou).tolist() == [[True], [True], [False]]
    assert WSOLEVAL_V2.correct(iou).tolist() == [[True, True, False], [True, True, False], [True, False, False]]


def test_what_stands_in_for_a_missing_box():
    frame = Frame.centre_crop((300, 200))
    boxes = {name: protocol.missing_box(frame) for name, protocol in PROTOCOLS.items()}
    assert boxes["bas"].tolist() == [[0, 0, 224, 224]]
    assert boxes["grcam"].tolist() == boxes["wsoleval-v1"].tolist() == [[0, 0, 0, 0]]
    assert boxes["adl"].tolist() == [[0, 0, 1, 1]]
    assert boxes["spol"] is None


@pytest.mark.parametrize("change", [{"missing": "nothing"}, {"ground_truth": "floor"}, {"mean_over": "boxes"}])
def test_unknown_rules_are_refused(change):
    with pytest.raises(ValueError, match="unknown"):
        replace(BAS, **change)
