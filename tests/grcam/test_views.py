import numpy as np
import pytest
from PIL import Image

from common.datasets import DataSource, Sample
from common.pictures.images import read_rgb
from common.pictures.inputs import CENTRE_OF_TEN, IMAGENET_MEAN, IMAGENET_STD
from common.system.errors import UserError
from dgl_tf.preprocessing import read_image
from grcam import views
from grcam.views import Layout, batches, reader
from tests import fill, small_cub
from tests.grcam.released import golden


@pytest.mark.slow
@pytest.mark.parametrize("number", range(5))
def test_recorded_preprocessing(tmp_path, number):
    """Decoded equal; resized and cropped 1e-5 of the greatest value; 375 x 500, portrait, grey, small."""
    recorded = golden("prep")
    path = tmp_path / "image.JPEG"
    path.write_bytes(recorded[f"jpeg_{number}"].tobytes())
    image = read_image(path)
    np.testing.assert_array_equal(image[::16, ::16], recorded[f"decoded_tf_{number}_every16"])
    assert image.sum(dtype=int) == recorded[f"decoded_tf_{number}_sum"]
    views = Layout(("squash",), 10).of(image)
    assert views.shape == (11, 224, 224, 3)
    np.testing.assert_allclose(views[0, ::4, ::4], recorded[f"resized224_rgb_{number}_every4"], atol=255e-5)
    bgr = ((views / 255 - IMAGENET_MEAN) / IMAGENET_STD)[..., ::-1]
    np.testing.assert_allclose(bgr[0, ::4, ::4], recorded[f"input224_bgr_{number}_every4"], atol=2e-5)
    np.testing.assert_allclose(bgr[1:, ::16, ::16], recorded[f"crops_bgr_{number}_every16"], atol=2e-5)
    statistics = [bgr[0].mean(), bgr[0].std()]
    np.testing.assert_allclose(statistics, recorded[f"input224_bgr_{number}_mean_std"], atol=1e-5)
    each = [bgr[1:].mean(axis=(1, 2, 3)), bgr[1:].std(axis=(1, 2, 3))]
    np.testing.assert_allclose(each, recorded[f"crops_bgr_{number}_mean_std"], atol=1e-5)


def test_fast_and_accurate_decoding_differ(tmp_path):
    """Quirk Q20: the accurate one is Pillow's, equal; the fast one is off in most samples."""
    Image.fromarray(fill.image(90, 120, 3)).save(tmp_path / "a.jpg", quality=80)
    accurate, fast = (read_image(tmp_path / "a.jpg", name) for name in ("accurate", "fast"))
    np.testing.assert_array_equal(accurate, read_rgb(tmp_path / "a.jpg"))
    assert 0 < np.abs(accurate.astype(int) - fast).max() <= 16


@pytest.mark.parametrize("number", range(5))
def test_simplejpeg_decodes_as_tensorflow_does(tmp_path, number):
    """Equal; so --framework torch needs no TensorFlow for the released numbers."""
    path = tmp_path / "a.jpg"
    path.write_bytes(golden("prep")[f"jpeg_{number}"].tobytes())
    np.testing.assert_array_equal(reader("torch", "fast")(path), read_image(path))
    np.testing.assert_array_equal(reader("torch", "accurate")(path), read_image(path, "accurate"))


def test_without_a_fast_decoder(monkeypatch):
    monkeypatch.setattr(views.importlib.util, "find_spec", lambda name: None)
    assert not views.has_fast_decoder()
    with pytest.raises(UserError, match="--jpeg fast needs simplejpeg or TensorFlow. Pip install simplejpeg"):
        reader("torch", "fast")
    assert reader("torch", "accurate") is read_rgb


def test_other_files_than_jpeg_and_exif(tmp_path):
    """Quirk Q27: a rotation noted in the file is ignored."""
    pixels = fill.image(40, 60, 1)
    Image.fromarray(pixels).save(tmp_path / "a.png")
    np.testing.assert_array_equal(read_image(tmp_path / "a.png"), pixels)
    exif = Image.Exif()
    exif[0x0112] = 6
    Image.fromarray(pixels).save(tmp_path / "turned.jpg", exif=exif)
    assert read_image(tmp_path / "turned.jpg").shape == (40, 60, 3)


def test_broken_files_are_problems_and_order_is_kept(tmp_path):
    small_cub.make(tmp_path / "CUB")
    samples = list(DataSource("cub", tmp_path / "CUB").load())
    whole = tmp_path / "whole.jpg"
    Image.fromarray(fill.image(200, 200, 1)).save(whole)
    for name, content in (("cut.jpg", whole.read_bytes()[:3000]), ("empty.jpg", b""), ("text.jpg", b"no image")):
        (tmp_path / name).write_bytes(content)
        samples.insert(2, Sample(name, tmp_path / name, 0))
    found = [item for batch in batches(samples, Layout(("squash", "crop"), 1), read_image, 2, 3) for item in batch]
    assert [item.sample for item in found] == samples
    problems = {item.sample.image_id: item.problem for item in found if item.problem}
    assert set(problems) == {"cut.jpg", "empty.jpg", "text.jpg"}
    assert problems["empty.jpg"] == "the file is empty"
    assert found[0].views.shape == (2, 224, 224, 3)
    with pytest.raises(UserError, match="can't be decoded"):
        read_image(tmp_path / "cut.jpg")


def test_the_centre_crop_is_one_of_the_ten():
    image = fill.image(80, 90, 2)
    ten, one = Layout(("squash", "crop"), 10), Layout(("squash", "crop"), 1)
    np.testing.assert_array_equal(ten.of(image)[1 + CENTRE_OF_TEN], one.of(image)[1])
    assert (ten.mapped, one.mapped) == ((0, 5), (0, 1))
    assert len(ten.of(image)[ten.classified]) == 10
    assert len(one.of(image)[one.classified]) == 1
