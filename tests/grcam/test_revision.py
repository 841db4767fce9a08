import numpy as np
import pytest

from grcam.revision import FORMS, revise, revise_together


def test_recorded_revisions(golden):
    """3e-7, the release's float noise."""
    recorded = golden("grcam/revise")
    found = revise(recorded["predicted"], recorded["pseudo"])
    np.testing.assert_allclose(found, recorded["revised"], rtol=3e-7, atol=3e-7)
    assert set(np.unique(found - recorded["predicted"])) <= {0, 1, 2, 3, 4}


def test_recorded_revisions_of_doubled_lines(golden):
    """Quirk Q14; 1e-6."""
    recorded = golden("grcam/revise")
    for predicted, pseudo, expected in zip(
        recorded["two_line_predicted"], recorded["two_line_pseudo"], recorded["two_line_revised"], strict=True
    ):
        np.testing.assert_allclose(revise_together(predicted, pseudo), expected, rtol=1e-6)


def test_released_adds_four_where_smaller_and_nothing_else():
    assert revise([10, 20, 30, 222], [11, 19, 30, 223]).tolist() == [14, 20, 30, 223]
    np.testing.assert_array_equal(revise_together([[10, 20, 30, 222]], [11, 19, 30, 223]), [[14, 20, 30, 223]])


def test_intended_by_hand():
    """sigmoid of large values is 1, so S is 1/2 each; the gradient has equal parts, so D is -1/2 and 1/2."""
    found = revise([100, 100, 100, 100], [110, 110, 90, 90], "intended")
    np.testing.assert_allclose(found, [101, 101, 100, 100])


def test_intended_norms_have_a_floor():
    """|g| = 4e-7 is divided by 1e-6, so D is 0.4: 100 - 2 (0.5 - 0.4) 0.4. 1e-6, the difference's digits."""
    found = revise([100, 100, 100, 100], [100 - 8e-7, 100, 100, 100], "intended")
    np.testing.assert_allclose(found, [99.92, 100, 100, 100], rtol=1e-6)


def test_whole_numbers_of_any_size_are_taken():
    """As uint8, 200 + 100 would be 44, and -200 be 56."""
    predicted, pseudo = np.array([200, 10, 220, 30], np.uint8), np.array([100, 20, 223, 30], np.uint8)
    wide = [values.astype(np.float64) for values in (predicted, pseudo)]
    for form in FORMS:
        found = revise(predicted, pseudo, form)
        assert found.dtype == np.float64
        np.testing.assert_array_equal(found, revise(*wide, form))
    two = np.stack([predicted, predicted + 1])
    np.testing.assert_array_equal(revise_together(two, pseudo), revise_together(two.astype(np.float64), wide[1]))


def test_boxes_end_at_the_frame():
    assert revise([-9, 222, 0, 1], [0, 223, 0, 0]).tolist() == [0, 223, 0, 1]
    assert revise([-9, 300, 0, 1], [-1, 300, 0, 0], "average").tolist() == [0, 223, 0, 0.5]
    assert revise_together([[-9, 300, 0, 1]], [0, 300, 0, 1]).tolist() == [[0, 223, 0, 1]]


def test_average_and_off():
    assert revise([0, 10, 20, 30], [10, 10, 21, 20], "average").tolist() == [5, 10, 20.5, 25]
    assert revise([0, 10, 20, 300], [10, 10, 21, 20], "off").tolist() == [0, 10, 20, 300]


@pytest.mark.parametrize("form", FORMS)
def test_all_images_and_thresholds_at_once(form):
    rng = np.random.default_rng(0)
    predicted, pseudo = rng.integers(0, 224, (9, 50, 4)), rng.integers(0, 224, (50, 4))
    together = revise(predicted, pseudo, form)
    each = [[revise(box, star, form) for box, star in zip(row, pseudo, strict=True)] for row in predicted]
    np.testing.assert_allclose(together, each)
    assert together.min() >= 0
    assert together.max() <= 223


def test_unknown_form():
    with pytest.raises(
        ValueError, match="unknown form of revision 'more', expected one of released, intended, average, off"
    ):
        revise([0, 0, 0, 0], [0, 0, 0, 0], "more")
