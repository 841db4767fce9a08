"""Test images as recorded from the released pipeline."""

import numpy as np
import pytest

pytest.importorskip("tensorflow")

from common.datasets import Sample
from common.pictures.images import ImageError
from dgl_tf import preprocessing, registry, sessions
from tests.dgl_tf.filled import golden

tf = sessions.tf


@pytest.mark.parametrize("number", range(2))
def test_test_images_are_the_recorded_ones(number):
    """Decoded exactly; resized 1e-3 of a level; input 1e-5."""
    recorded = golden("test_preproc")
    decoded = preprocessing.decode_jpeg(recorded[f"t{number}_jpeg"].tobytes())
    np.testing.assert_array_equal(decoded, recorded[f"t{number}_decoded_rgb"])
    resized = preprocessing.squashed(decoded, 96)
    np.testing.assert_allclose(resized[..., ::-1], recorded[f"t{number}_resized_rgb"], atol=1e-3)
    with sessions.new_graph(), sessions.session(1) as session:
        found = session.run(registry.normalized(tf.constant(resized[None])))[0]
    np.testing.assert_allclose(found, recorded[f"t{number}_net_input_bgr"], atol=1e-5)


def test_the_accurate_decoder_is_pillows(tmp_path):
    from common.pictures.images import read_rgb

    path = tmp_path / "a.jpg"
    path.write_bytes(golden("test_preproc")["t0_jpeg"].tobytes())
    fast, accurate = (preprocessing.read_image(path, method).astype(int) for method in ("fast", "accurate"))
    np.testing.assert_array_equal(accurate, read_rgb(path))
    assert 0 < np.abs(fast - accurate).max() <= 16


@pytest.fixture
def samples(tmp_path):
    from PIL import Image

    made = []
    for number in range(5):
        path = tmp_path / f"{number}.png"
        pixels = np.random.RandomState(number).randint(0, 256, (40, 50, 3)).astype(np.uint8)
        Image.fromarray(pixels).save(path)
        made.append(Sample(path.name, path, number, np.empty((0, 4))))
    return made


def test_damaged_images_tell_their_problem(tmp_path, samples):
    path = tmp_path / "half.jpg"
    path.write_bytes(golden("test_preproc")["t0_jpeg"].tobytes()[:900])
    with pytest.raises(ImageError, match=r"half.jpg: the image can't be decoded"):
        preprocessing.read_image(path)
    bad = preprocessing.view(Sample("half.jpg", path, 0, np.empty((0, 4))), "resize 224", 10)
    assert "can't be decoded" in bad.problem
    good = list(preprocessing.views([samples[0], samples[1]], "resize 256 crop 224", 10))
    assert [one.crops.shape for one in good] == [(10, 224, 224, 3)] * 2
    assert good[0].frame.kind == "resize 256 crop 224"
    np.testing.assert_allclose(good[0].pixels, good[0].crops[4], atol=1e-4)


def test_reading_an_image_leaves_the_threads_to_the_network():
    """The first session of a process fixes its threads within an operation: one that decodes must not ask for any."""
    session, _, _ = preprocessing._decoder("fast")
    assert session._config.intra_op_parallelism_threads == 0
