import sys

import numpy as np
import pytest

from bas.segmentation import ir_labels
from common.measuring.segmentation import top_class
from common.system.errors import UserError
from tests import fill
from tests.bas.segmentation.filled import golden


def maps_of(recorded):
    return (recorded["map_u8"] / 255).astype(np.float32) ** 2


@pytest.mark.parametrize("case", range(4))
def test_both_passes_and_their_combination_are_the_recorded_ones(case):
    """Equal; the CRF's results are given."""
    recorded = golden("ir_label", f"{case}/")
    maps = maps_of(recorded)
    given = []

    def crf(image, labels, count):
        given.append(labels)
        assert count == len(maps) + 1
        return recorded["fg_crf" if len(given) == 1 else "bg_crf"]

    found = ir_labels.ir_label(fill.image(*recorded["hw_image_seed"]), maps, recorded["keys"], refine=crf)
    np.testing.assert_array_equal(given[0], recorded["fg_argmax"])
    np.testing.assert_array_equal(given[1], recorded["bg_argmax"])
    np.testing.assert_array_equal(found, recorded["ir_label"])


@pytest.mark.parametrize("case", range(4))
def test_the_crf_is_the_recorded_one(case):
    """Equal labels; marginals 1e-6."""
    pytest.importorskip("pydensecrf", reason="the optional extra crf is not installed")
    recorded = golden("ir_label", f"{case}/")
    maps, image = maps_of(recorded), fill.image(*recorded["hw_image_seed"])
    found = ir_labels.ir_label(image, maps, recorded["keys"])
    np.testing.assert_array_equal(found, recorded["ir_label"])
    places, values = top_class(maps, np.arange(len(maps)))
    marginals = ir_labels.crf_marginals(image, np.where(values > np.float32(0.3), places, 0), len(maps) + 1, 10)
    step = 1 if case < 2 else 2
    np.testing.assert_allclose(marginals[:, ::step, ::step], recorded["q_10"], rtol=0, atol=1e-6)


def test_without_the_package_the_crf_is_refused(monkeypatch):
    monkeypatch.setitem(sys.modules, "pydensecrf", None)
    with pytest.raises(UserError, match="expected the package pydensecrf2"):
        ir_labels.dense_crf(np.zeros((2, 2, 3), np.uint8), np.zeros((2, 2), int), 2)


def test_combination_by_hand():
    """A class of the high pass wins though the low one says otherwise; background only where both say so."""
    high, low = np.array([[1, 0, 0, 2]]), np.array([[2, 0, 1, 0]])
    assert ir_labels.combined(high, low, [4, 9]).tolist() == [[5, 0, 255, 10]]


def test_thresholds_in_another_order_are_refused(tmp_path):
    options = ir_labels.MakeIrLabels(maps=tmp_path, out=tmp_path, crf="none", foreground=0.1, background=0.2)
    with pytest.raises(
        UserError, match="--background 0.2 and --foreground 0.1; expected 0 <= background <= foreground < 1"
    ):
        ir_labels.make_ir_labels(options)
