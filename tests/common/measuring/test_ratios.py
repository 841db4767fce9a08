"""Quotients, also of a processor that divides wrongly."""

import numpy as np
import pytest

from common.measuring import ratios
from common.measuring.boxes import pairwise_iou
from common.measuring.ratios import ratio


def test_by_hand():
    """Broadcast; where there is no whole, what stands for that."""
    np.testing.assert_array_equal(ratio([[3200, 150, 0]], [[50], [0]]), [[64, 3, 0], [np.nan] * 3])
    np.testing.assert_array_equal(ratio([1.0, 2.0, 3.0, 3.0], [4.0, 0.0, -1.0, 0.5], none=0.0), [0.25, 0, 0, 6])
    assert float(ratio(3, 4)) == 0.75
    assert np.isnan(ratio(3, 0))
    assert ratio(np.float32([1]), np.float32([3])).tolist() == [1 / 3]


@pytest.mark.parametrize("kind", [np.int64, np.float32, np.float64])
def test_right_quotients_are_computed_once(monkeypatch, kind):
    monkeypatch.setattr(ratios.np, "argwhere", lambda _: pytest.fail("computed again"))
    assert ratio(np.arange(3).astype(kind), np.array([7, 3, 0]).astype(kind), none=5.0).tolist() == [0, 1 / 3, 5]


@pytest.mark.parametrize("kind", [np.int64, np.float32, np.float64])
@pytest.mark.parametrize("factor", [4.0, 0.5, 1 - 2e-11, 0.0, np.nan])
def test_a_processor_that_divides_wrongly_changes_nothing(monkeypatch, kind, factor):
    """Every second quotient is off."""
    parts, wholes = np.arange(12).reshape(3, 4).astype(kind) * 7, np.array([3, 9, 0, 50]).astype(kind)
    right, divide = ratio(parts, wholes), np.divide

    def wrongly(*arguments, out, **keywords):
        divide(*arguments, out=out, **keywords)
        out[:, 1::2] *= factor
        return out

    monkeypatch.setattr(ratios.np, "divide", wrongly)
    np.testing.assert_array_equal(ratio(parts, wholes), right)


def test_boxes_overlap_rightly_on_such_a_processor(monkeypatch):
    """Of the second pair 63 pixels are common: 3 x 21."""
    divide = np.divide
    monkeypatch.setattr(
        ratios.np, "divide", lambda *all_, out, **more: np.multiply(divide(*all_, out=out, **more), 1 - 3e-11, out=out)
    )
    found = pairwise_iou([[0, 0, 21, 40]], [[0, 0, 21, 40], [18, 19, 60, 40]])
    np.testing.assert_allclose(found, [[1, 63 / (840 + 882 - 63)]], rtol=1e-14)
