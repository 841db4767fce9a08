from dataclasses import replace

import numpy as np
import pytest

from common.measuring.geometry import Frame
from common.measuring.metrics import score_boxes
from common.measuring.protocols import ADL, BAS, BAS_EXTENSION, GRCAM, PROTOCOLS, SPOL, WSOLEVAL_V1, WSOLEVAL_V2


def test_the_papers_protocols_are_there():
    assert set(PROTOCOLS) >= {"bas", "spol", "grcam", "dgl", "adl", "wsoleval-v1", "wsoleval-v2"}
    assert all(name == protocol.name and protocol.source for name, protocol in PROTOCOLS.items())


@pytest.mark.parametrize(("protocol", "dataset", "architecture", "threshold"), [
    (BAS, "cub", "vgg", 0.15), (BAS, "cub", "inception", 0.10), (BAS, "cub", "inception_v3", 0.10), (BAS, None, "vgg", None), (SPOL, "neither", "resnet50", None),
    (BAS, "ilsvrc", "mobilenet", 0.5), (BAS, "ilsvrc", "resnet50", 0.45), (BAS, "ilsvrc", "inception", 0.30),
    (BAS_EXTENSION, "cub", "resnet", 0.1), (BAS_EXTENSION, "ilsvrc", "resnet", 0.25),
    (BAS_EXTENSION, "ilsvrc", "vgg16", 0.45), (BAS_EXTENSION, "ilsvrc", "inception_v3", 0.25),
    (BAS_EXTENSION, "ilsvrc", "mobilenet_v1", 0.5), (ADL, "cub", "vgg", 0.2), (ADL, "ilsvrc", "resnet50se", 0.2),
    (SPOL, "cub", "resnet50", 0.2), (SPOL, "ilsvrc", "resnet50", 0.8), (GRCAM, "ilsvrc", "vgg", None),
])  # fmt: skip
def test_released_thresholds(protocol, dataset, architecture, threshold):
    assert protocol.fixed_threshold(dataset, architecture) == threshold


def test_a_backbones_own_row_outranks_the_general_one():
    rows = (("cub", "vgg", 0.1), ("cub", "*", 0.3), ("ilsvrc", "*", 0.2))
    for fixed in (rows, rows[::-1]):
        protocol = replace(BAS, fixed=fixed)
        found = [protocol.fixed_threshold(*pair) for pair in (("cub", "vgg"), ("cub", "resnet"), ("ilsvrc", "vgg"))]
        assert found == [0.1, 0.3, 0.2]


def test_titles_name_the_measure_and_its_year():
    assert {name: protocol.title for name, protocol in PROTOCOLS.items()} == {
        "bas": "BAS 2022", "bas-extension": "BAS 2023", "spol": "SPOL 2021", "grcam": "GRCAM 2022", "dgl": "DGL 2020",
        "adl": "ADL 2019", "wsoleval-v1": "MaxBoxAcc 2020", "wsoleval-v2": "MaxBoxAccV2 2022",
    }  # fmt: skip


def test_images_are_left_out_by_the_end_of_their_names():
    protocol = replace(BAS, left_out=("b/1.jpg", "2.jpg"))
    left_out = [protocol.leaves_out(name) for name in ("a/b/1.jpg", "c/2.jpg", "b/1.jpg.png", "a/1.jpg")]
    assert left_out == [True, True, False, False]
    assert not BAS.leaves_out("a/1.jpg")


def test_grcams_thresholds_give_its_recorded_grey_levels():
    assert [int(threshold * 255) for threshold in GRCAM.sweep] == [38, 35, 33, 30, 28, 25, 22, 20, 17]


def test_the_others_thresholds_are_hundredths():
    for protocol in (BAS, BAS_EXTENSION, SPOL, ADL):
        assert protocol.sweep == tuple(k / 100 for k in range(100))


def test_wsolevaluations_thresholds():
    assert len(WSOLEVAL_V1.sweep) == 1000
    assert WSOLEVAL_V1.sweep[500] == np.arange(0, 1, 0.001)[500]


def test_operators():
    iou = np.array([0.5, 0.500001, 0.3])
    assert BAS.correct(iou).tolist() == [[False], [True], [False]]
    assert GRCAM.correct(iou).tolist() == [[True], [True], [False]]
    assert WSOLEVAL_V2.correct(iou).tolist() == [[True, True, False], [True, True, False], [True, False, False]]
    assert WSOLEVAL_V2.correct(np.array([0.7, 0.699])).tolist() == [[True, True, True], [True, True, False]]


def test_one_half_exactly_is_a_hit_where_the_release_says_so():
    half = {
        name: bool(protocol.correct(np.array(0.5))[list(protocol.criteria).index(0.5)])
        for name, protocol in PROTOCOLS.items()
    }
    assert [name for name, hit in half.items() if not hit] == ["bas", "spol"]


@pytest.mark.parametrize(("names", "expected"), [
    (("bas", "spol"), [0, 4.5, 224, 84.75]), (("bas-extension",), [0, 4, 223, 84]), (("adl",), [-5, 4, 234, 84]),
    (("grcam", "dgl"), [9, 18, 219, 88]), (("wsoleval-v1", "wsoleval-v2"), [9, 17, 218, 88]),
])  # fmt: skip
def test_how_the_truth_enters_the_frame(names, expected):
    """Moved by 16 pixels in the crop; multiplied by 224 / 256 in the squashed frame: 9.1875 17.9375 218.97 88.16."""
    for protocol in map(PROTOCOLS.get, names):
        frame = Frame.of_kind(protocol.frame, (256, 256))
        scores = score_boxes(protocol, [np.empty((0, 4))], frame, np.array([10.5, 20.5, 250.25, 100.75]))
        assert scores.ground_truth.tolist() == [expected]


def test_what_stands_in_for_a_missing_box():
    frame = Frame.centre_crop((300, 200))
    boxes = {name: protocol.missing_box(frame) for name, protocol in PROTOCOLS.items()}
    assert boxes["bas"].tolist() == [[0, 0, 224, 224]]
    assert boxes["grcam"].tolist() == boxes["wsoleval-v1"].tolist() == [[0, 0, 0, 0]]
    assert boxes["adl"].tolist() == [[0, 0, 1, 1]]
    assert boxes["spol"] is None


@pytest.mark.parametrize(("change", "message"), [
    ({"missing": "nothing"}, "missing boxes 'nothing', expected one of whole frame, zero box, unit box, left out"),
    ({"ground_truth": "floor"}, "ground truth 'floor'"),
    ({"mean_over": "boxes"}, "mean over 'boxes', expected images or classes"),
])  # fmt: skip
def test_unknown_rules_are_refused(change, message):
    with pytest.raises(ValueError, match=message):
        replace(BAS, **change)
    assert {replace(BAS, mean_over=mean).mean_over for mean in ("images", "classes")} == {"images", "classes"}
