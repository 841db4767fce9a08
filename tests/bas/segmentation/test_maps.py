import numpy as np
import pytest
import torch
import torch.nn.functional as F

from bas.segmentation.images import flipped_pair
from bas.segmentation.maps import SCALES, by_maximum, class_maps
from bas.segmentation.masks import MakeMasks, Walk, make_masks, mask, walked
from bas.segmentation.networks import CamNetwork, build_bas, pair_maps
from common.system.errors import UserError
from tests import fill
from tests.bas.segmentation.filled import assert_close, filled, golden


def standin(pair):
    """The recorded rule: (BAS, CAM) maps of a pair from its pooled channels, in float64, then rounded."""
    size = [-(-side // 16) for side in pair.shape[2:]]
    pooled = F.adaptive_avg_pool2d(pair, size).double()
    number = torch.arange(20, dtype=torch.float64).view(1, 20, 1, 1)
    z = pooled[:, :1] * torch.cos(number) + pooled[:, 1:2] * torch.sin(number) + pooled[:, 2:] * torch.cos(2 * number)
    second = (3 * z - 1).relu()
    second[:, 19] = 0
    return [(maps[0] + maps[1].flip(-1)).float() for maps in (torch.sigmoid(z), second)]


STANDINS = (lambda pair: standin(pair)[0], lambda pair: standin(pair)[1])


def case_of(recorded, image):
    height, width, seed = recorded["hws"][image]
    pixels = fill.image(height, width, seed)
    classes = np.flatnonzero(recorded["labels"][image]).tolist()
    return [flipped_pair(pixels, scale) for scale in SCALES], classes, (int(height), int(width))


@pytest.mark.parametrize("image", range(3))
def test_merged_maps_are_the_recorded_ones(image):
    """The rules in networks' place; 1e-5 of the greatest value."""
    recorded = golden("maps")
    pairs, classes, size = case_of(recorded, image)
    found = class_maps(STANDINS, pairs, classes, size)
    assert classes == recorded[f"standin/{image}/keys"].tolist()
    assert_close(found.strided, recorded[f"standin/{image}/cam"], 1e-5)
    assert_close(found.high, recorded[f"standin/{image}/high_res"], 1e-5)


def test_one_networks_maps_are_not_merged():
    """Maps before the division by their greatest value are recorded; after it only their shape is compared."""
    recorded = golden("maps")
    pairs, classes, size = case_of(recorded, 1)
    for number, name in enumerate(("bas", "cam")):
        found = class_maps(STANDINS[number : number + 1], pairs, classes, size).high
        raw = torch.from_numpy(recorded[f"standin/1/{name}_only_high_unnormalised"])
        greatest = recorded["standin/1/max_bas_strided_bas_high_cam_strided_sum_strided_cam_high_sum_high"][
            1 + 3 * number
        ]
        expected = raw / torch.from_numpy(greatest + 1e-5).view(-1, 1, 1).float()
        assert_close(found[:, ::3, ::3], expected.numpy(), 1e-5)


@pytest.mark.slow
@torch.no_grad()
def test_networks_maps_are_the_recorded_ones():
    """Both filled networks on the smallest image, float32; 1e-4 of the greatest value."""
    recorded = golden("maps")
    networks = [filled(each, torch.float32).eval() for each in (build_bas("resnet50", 20), CamNetwork("resnet50", 20))]
    pairs, classes, size = case_of(recorded, 0)
    found = class_maps(
        [lambda pair, network=network: pair_maps(network, pair) for network in networks], pairs, classes, size
    )
    assert_close(found.strided, recorded["net/0/cam"], 1e-4)
    assert_close(found.high, recorded["net/0/high_res"], 1e-4)


def test_a_map_of_zeros_stays_zero():
    assert torch.equal(by_maximum(torch.zeros(1, 2, 2)), torch.zeros(1, 2, 2))


def standin_edges(pair):
    """The recorded rule: edges from differences of the pooled image's grey, in float64."""
    size = [-(-side // 4) for side in pair.shape[2:]]
    grey = F.adaptive_avg_pool2d(pair[:1].double(), size).mean(dim=1)[0]
    down, right = torch.zeros_like(grey), torch.zeros_like(grey)
    down[:-1] = grey[1:] - grey[:-1]
    right[:, :-1] = grey[:, 1:] - grey[:, :-1]
    return torch.sigmoid(40 * torch.sqrt(down**2 + right**2) - 2)


@pytest.mark.parametrize("image", range(3))
def test_masks_are_the_recorded_ones(image):
    """The recorded maps and rule of edges; walked maps 1e-3, at most 0.2 % of the pixels differ."""
    recorded, maps = golden("propagation", f"standin/{image}/"), golden("maps")
    pairs, classes, size = case_of(maps, image)
    strided = torch.from_numpy(maps[f"standin/{image}/cam"])
    edges = standin_edges(pairs[0]).float()
    found = walked(strided, edges, size)
    assert_close(found[:, ::3, ::3], recorded["rw_up_sub"], 1e-3)
    assert (mask(strided, edges, classes, size) != recorded["label"]).mean() <= 0.002


def test_maps_of_zeros_give_background():
    labels = mask(torch.zeros(2, 3, 3), torch.zeros(3, 3), [1, 4], (10, 12), Walk(exponent=2))
    assert labels.shape == (10, 12)
    assert not labels.any()


@pytest.mark.parametrize(("walk", "said"), [
    ({"beta": -1.0}, "--walk.beta -1.0; expected above 0"),
    ({"exponent": -1}, "--walk.exponent -1; expected 0 to 20"),
    ({"radius": 1}, "--walk.radius 1; expected 2 to 50"),
    ({"power": float("nan")}, "--walk.power nan; expected above 0"),
    ({"threshold": 1.0}, "--walk.threshold 1.0; expected 0 or more, below 1"),
])  # fmt: skip
def test_walks_that_make_no_sense_are_refused(tmp_path, walk, said):
    with pytest.raises(UserError, match=said):
        make_masks(MakeMasks(maps=tmp_path, irn=tmp_path, out=tmp_path / "out", walk=Walk(**walk)))
