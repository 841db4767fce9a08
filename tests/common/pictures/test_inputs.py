import numpy as np
import pytest

from common.pictures import inputs
from common.pictures.inputs import centre_crop, normalize, resize, squashed_for_crops, ten_crops
from tests import fill


@pytest.mark.parametrize(("height", "width", "seed"), [(375, 500, 5), (120, 90, 6), (600, 333, 7)])
def test_recorded_pillow_resize_and_crops(golden, height, width, seed):
    arrays, key = golden("bas/preprocess"), f"{height}x{width}_s{seed}"
    squashed = resize(fill.image(height, width, seed), (256, 256), "pillow")
    np.testing.assert_array_equal(squashed[::8, ::8], arrays[f"resized_u8_{key}"])
    np.testing.assert_array_equal(squashed.sum(axis=(0, 1), dtype=np.int64), arrays[f"resized_sum_{key}"])

    network_input = np.moveaxis(normalize(centre_crop(squashed, 224)), -1, 0)
    np.testing.assert_allclose(network_input[:, ::8, ::8], arrays[f"test_{key}"], atol=1e-5)

    crops = np.moveaxis(normalize(ten_crops(squashed, 224)), -1, 1)
    np.testing.assert_allclose(crops[:, :, ::28, ::28], arrays[f"tencrop_{key}"], atol=1e-5)
    np.testing.assert_allclose(crops.sum(axis=(1, 2, 3), dtype=np.float64), arrays[f"tencrop_sum_{key}"], rtol=1e-5)


def test_recorded_opencv_resize_after_normalization(golden):
    arrays = golden("spol/preprocess")
    mean = np.float32(255) * np.array(inputs.IMAGENET_MEAN, np.float32)
    scale = np.float32(1) / (np.float32(255) * np.array(inputs.IMAGENET_STD, np.float32))
    for number, ((height, width), seed) in enumerate(zip(arrays["sizes"], arrays["image_seeds"], strict=True)):
        normal = (fill.image(int(height), int(width), int(seed)).astype(np.float32) - mean) * scale
        found = np.moveaxis(centre_crop(resize(normal, (256, 256), "opencv"), 224), -1, 0)
        np.testing.assert_allclose(found[:, ::5, ::5], arrays[f"seg224_{number}_sub"], atol=1e-5)
        np.testing.assert_allclose(found.sum(dtype=np.float64), arrays[f"seg224_{number}_sum"][0], rtol=1e-5)


@pytest.mark.parametrize("which", ["t0", "t1"])
def test_recorded_tensorflow_resize(golden, which):
    arrays = golden("dgl/test_preproc")
    expected = arrays[f"{which}_resized_rgb"]
    found = resize(arrays[f"{which}_decoded_rgb"], expected.shape[1::-1], "tensorflow1")
    np.testing.assert_allclose(found, expected, atol=2e-5)


def test_the_three_resizes_differ():
    picture = fill.image(300, 400, 1)
    by_name = {name: resize(picture, (64, 64), name).astype(float) for name in inputs.RESIZES}
    for one, other in (("pillow", "opencv"), ("opencv", "tensorflow1"), ("pillow", "tensorflow1")):
        assert np.abs(by_name[one] - by_name[other]).max() > 2


def test_resize_refusals():
    with pytest.raises(ValueError, match="unknown resize 'scipy'"):
        resize(fill.image(8, 8), (4, 4), "scipy")
    with pytest.raises(ValueError, match="Pillow resizes uint8"):
        resize(fill.image(8, 8).astype(np.float32), (4, 4), "pillow")


def test_ten_crops_by_position():
    picture = np.arange(36).reshape(6, 6)
    crops = ten_crops(picture, 4)
    assert crops[:, 0, 0].tolist() == [0, 2, 12, 14, 7, 5, 3, 17, 15, 10]
    np.testing.assert_array_equal(crops[4], centre_crop(picture, 4))


@pytest.mark.parametrize(("side", "around"), [(224, 256), (96, 110), (64, 73)])
def test_what_crops_are_cut_from(side, around):
    picture = fill.image(30, 40)
    for method in inputs.RESIZES:
        expected = resize(picture, (around, around), method)
        np.testing.assert_array_equal(squashed_for_crops(picture, side, method), expected)
