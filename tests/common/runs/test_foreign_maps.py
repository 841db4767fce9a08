import numpy as np
import pytest

from common.measuring.geometry import Frame
from common.runs.foreign_maps import take
from common.system.errors import UserError


def test_what_a_map_becomes(tmp_path):
    frame, plain = Frame.squash((96, 72), 4), np.arange(16, dtype=np.float32).reshape(4, 4) / 15

    def taken(array, resize="no", frame=frame):
        np.save(tmp_path / "a.npy", array)
        return take(tmp_path / "a.npy", frame, resize)

    for array, changes, tolerance in (
        (plain, [], 0), (plain.astype(np.float64), [], 0), (plain.astype(np.float16), [], 1e-3),
        ((plain * 255).round().astype(np.uint8), ["uint8 divided by 255"], 0.002),
        (plain[None], ["axes of one taken off"], 0), (plain[..., None], ["axes of one taken off"], 0),
        (plain * np.float32(1.0000002), ["clipped to [0, 1]"], 1e-6), (plain - np.float32(1e-4), ["clipped to [0, 1]"], 1e-4),
    ):  # fmt: skip
        found, what = taken(array)
        assert (what, found.dtype.kind) == (changes, "f")
        assert 0 <= found.min() <= found.max() <= 1
        np.testing.assert_allclose(found, plain, atol=tolerance)
    assert taken(plain > 0.5)[0].tolist() == (plain > 0.5).astype(float).tolist()
    found, what = taken((plain > 0.5).astype(np.uint8))
    assert (found.tolist(), what) == ((plain > 0.5).astype(float).tolist(), ["uint8 of 0 and 1 taken as such"])
    found, what = taken(np.full((7, 7), 0.5), "frame")
    assert (found.tolist(), what) == (np.full((4, 4), 0.5).tolist(), ["resized from 7x7"])
    # Of the whole image's left half, a crop of half the side sees its middle: one column of two.
    crop = Frame.centre_crop((96, 72), 8, 4)
    left = np.zeros((72, 96), np.float32)
    left[:, :48] = 1
    assert taken(left, "image", crop)[0].tolist() == [[1, 1, 0, 0]] * 4
    with pytest.raises(UserError, match="72 x 96 for an image of 96 x 72: transposed"):
        taken(left.T, "image", crop)
    assert taken(left, "frame", crop)[0].tolist() == [[1, 1, 0, 0]] * 4
    with pytest.raises(UserError, match="8x8, as the image before its centre is cut out. Say --resize image"):
        taken(np.zeros((8, 8), np.float32), "frame", Frame((96, 72), (8, 8), (2, 2, 4, 4)))
    left[:, :36] = 0
    assert taken(left, "image", crop)[0].round(1).tolist() == [[0, 1, 0, 0]] * 4


@pytest.mark.parametrize(("array", "reason"), [
    (np.full((4, 4), np.nan), "NaN or infinity in it"), (np.full((4, 4), 1.01), "values outside [0, 1]"),
    (np.full((4, 4), -0.01), "values outside [0, 1]"), (np.zeros((4, 4), np.int64), "of int64 values"),
    (np.zeros((5, 4)), "4x5, not 4x4"), (np.zeros((3, 4, 4)), "of shape 3x4x4"), (np.zeros(16), "of shape 16"),
])  # fmt: skip
def test_what_no_map_is(tmp_path, array, reason):
    np.save(tmp_path / "a.npy", array)
    with pytest.raises(UserError) as raised:
        take(tmp_path / "a.npy", Frame.squash((96, 72), 4))
    assert raised.value.found == reason
