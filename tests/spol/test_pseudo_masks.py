import cv2
import numpy as np
import pytest
import torch

from spol.preprocessing import read_pseudo_mask
from spol.pseudo_masks import Gaussian, encoded, enlarged_map, fit_gaussians, pseudo_mask, write
from tests import fill
from tests.spol import filled


def test_pseudo_masks_are_the_recorded_ones(golden):
    """Gaussians 1e-9, bytes equal; where the original crashed, no Gaussian."""
    recorded = golden("spol/pseudo")
    for number, name in enumerate(recorded["names"].tolist()):
        height, width = recorded["size_hw"][number].tolist()
        gaussians = fit_gaussians(enlarged_map(recorded["maps"][number]))
        gaussians.sort(key=lambda gaussian: gaussian.xx)
        rows = [[gaussian.x, gaussian.y, gaussian.xx, gaussian.yy, gaussian.xy] for gaussian in gaussians]
        np.testing.assert_allclose(np.ravel(rows), recorded[f"gauss_{name}"].ravel(), atol=1e-9)
        mask = pseudo_mask(recorded["maps"][number], (width, height))
        assert mask.shape == (height, width, 2)
        if recorded["error"][number]:
            assert mask[..., 1].max() == 0
            continue
        np.testing.assert_array_equal(mask[..., 0], recorded[f"fore_{name}"])
        np.testing.assert_array_equal(mask[..., 1], recorded[f"gaus_{name}"])


def test_the_jpeg_round_trip_is_the_recorded_one(golden):
    """libjpeg-turbo of another OpenCV may differ by a few levels; with 4.11 they are equal."""
    recorded = golden("spol/pseudo")
    names = recorded["names"].tolist()
    for name in ("two_blobs", "smooth_noise"):
        height, width = recorded["size_hw"][names.index(name)].tolist()
        mask = pseudo_mask(recorded["maps"][names.index(name)], (width, height))
        stored = cv2.imdecode(np.frombuffer(encoded(mask, "jpeg"), np.uint8), cv2.IMREAD_COLOR)
        assert np.abs(stored.astype(int) - recorded[f"jpeg_{name}"]).max() <= 3
        assert np.abs(stored[..., :2].astype(int) - mask).max() >= 10, "JPEG loses"


@pytest.mark.slow
@torch.inference_mode()
def test_maps_and_masks_of_the_whole_script_are_the_recorded_ones(golden):
    """ResNet50, images 0 to 2 of the original's CAM test; maps 1e-5, bytes within 1 where a value lies on an edge."""
    recorded = golden("spol/e2e_cub_pseudo")
    network = filled.network("cam", 200).eval()
    for number in range(3):
        height, width, seed, label = recorded["toy"][number, :4].tolist()
        image = cv2.resize(filled.normalized(fill.image(height, width, seed)), (256, 256))
        images = torch.from_numpy(image).permute(2, 0, 1)[None]
        raw = network.label_maps(images, torch.tensor([label]))[0].numpy()
        filled.close(raw, recorded[f"cam_{number}"], 1e-5)
        mask = pseudo_mask(raw, (width, height))
        for channel, name in enumerate(("fore", "gaus")):
            difference = mask[::3, ::3, channel].astype(int) - recorded[f"{name}_{number}"]
            assert np.abs(difference).max() <= 1
            assert (difference != 0).mean() < 1e-3


@pytest.mark.parametrize("dataset", ["cub", "imagenet"])
def test_masks_of_the_recorded_maps_are_equal(golden, dataset):
    recorded = golden(f"spol/e2e_{dataset}_pseudo")
    for number, (height, width) in enumerate(recorded["toy"][:, :2].tolist()):
        mask = pseudo_mask(recorded[f"cam_{number}"], (width, height))
        np.testing.assert_array_equal(mask[::3, ::3, 0], recorded[f"fore_{number}"])
        np.testing.assert_array_equal(mask[::3, ::3, 1], recorded[f"gaus_{number}"])
        assert [*mask.sum(axis=(0, 1), dtype=np.int64).tolist(), 0] == recorded[f"sum_{number}"].tolist()


def test_a_gaussian_by_hand():
    """Upright, variances 4 and 9: exp(-1/2) one deviation away, on either axis."""
    drawn = np.zeros((256, 256))
    Gaussian(100.0, 50.0, 4.0, 9.0, 0.0).draw(drawn)
    assert drawn[50, 100] == 1
    np.testing.assert_allclose([drawn[50, 102], drawn[53, 100]], np.exp(-0.5))


def ring_map():
    """A map whose middle band is a ring: the border of its hole is a contour of its own."""
    y, x = np.mgrid[:32, :32]
    return np.exp(-((x - 16.0) ** 2 + (y - 16.0) ** 2) / 60).astype(np.float32)


def test_holes_can_be_left_out():
    assert len(fit_gaussians(enlarged_map(ring_map()))) == 2
    assert len(fit_gaussians(enlarged_map(ring_map()), holes=False)) == 1


def test_truncation_can_be_turned_off():
    cut, rounded = (pseudo_mask(ring_map(), (90, 70), truncate=truncate).astype(int) for truncate in (True, False))
    assert np.unique(rounded - cut).tolist() == [0, 1]


def test_a_file_holds_blue_green_and_no_red(tmp_path):
    mask = pseudo_mask(ring_map(), (90, 70))
    write(tmp_path / "class/mask.png", ring_map(), (90, 70), "png", True, True)
    stored = cv2.imread(str(tmp_path / "class/mask.png"))
    np.testing.assert_array_equal(stored[..., :2], mask)
    assert stored[..., 2].max() == 0
    np.testing.assert_array_equal(read_pseudo_mask(tmp_path / "class/mask.png"), mask)
    assert read_pseudo_mask(tmp_path / "none.png") is None
