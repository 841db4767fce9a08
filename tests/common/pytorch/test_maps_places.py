"""Networks that crop, mirror, turn or repeat their images themselves, and maps that several threads want at once."""

from concurrent.futures import ThreadPoolExecutor
from threading import Barrier

import pytest

pytest.importorskip("torch")

import torch
from torch import nn

from common.pytorch import maps
from common.pytorch.maps.tapping import one_at_a_time
from common.system.errors import UserError
from tests.common.pytorch.test_maps import Tiny


class Around(nn.Module):
    """A network that sees what a function makes of its images, and gives what another makes of its scores."""

    def __init__(self, change, scores=lambda scores: scores):
        super().__init__()
        self.inner, self.change, self.scores = Tiny(), change, scores

    def forward(self, images):
        return self.scores(self.inner(self.change(images)))


def mapper(change, *scores, layer="inner.second.0"):
    torch.manual_seed(0)
    return maps.Mapper(Around(change, *scores).eval(), ("dgl",), (layer,))


@pytest.fixture
def images():
    return torch.randn(2, 3, 40, 40, generator=torch.Generator().manual_seed(1))


@pytest.mark.parametrize("change", [
    lambda images: images.flip(3), lambda images: images.flip(2), lambda images: images.flip(2, 3),
    lambda images: images.transpose(2, 3), lambda images: images.rot90(1, (2, 3)),
])  # fmt: skip
def test_images_that_are_mirrored_or_turned_are_refused(images, change):
    with pytest.raises(UserError, match="mirrors or turns its images before inner"):
        mapper(change)(images)


@pytest.mark.parametrize("side", [40, 39])
def test_images_as_they_are_give_no_word(images, capsys, side):
    mapper(lambda images: images)(images[..., :side, :side])
    assert capsys.readouterr() == ("", "")


def test_a_place_that_all_of_the_map_looks_at_turns_nothing_round(images):
    """As tokens do that attend to one place of the image, whatever it holds."""
    mapper(lambda images: images + 40 * images[..., 32:38, 32:38].mean(dim=(2, 3), keepdim=True))(images)


def test_edges_that_the_network_cuts_off_are_said_once(images, capsys):
    cropping = mapper(lambda images: images[..., 4:-4, 4:-6])
    cropping(images)
    cropping(images)
    said = "".join(capsys.readouterr())
    assert said.count("note:") == 1
    assert "4 above, 4 below, 4 left, 6 right of 40 x 40" in said


def test_edges_that_are_narrow_are_not_said(images, capsys):
    mapper(lambda images: images[..., 1:-1, 1:-1])(images)
    assert capsys.readouterr() == ("", "")


@pytest.mark.parametrize("cut", [0, 8])
def test_edges_that_strides_pass_over_are_no_crop(images, capsys, cut):
    """Every eighth pixel alone is seen, and 7 of 40 at two edges never, as of a residual network that is not trained;
    8 that are cut off at each edge are said.
    """
    torch.manual_seed(0)
    strided = nn.Sequential(nn.Conv2d(3, 4, 1, stride=8), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(4, 3))
    around = Around(lambda images: images[..., cut : 40 - cut, cut : 40 - cut])
    around.inner = strided
    maps.Mapper(around.eval(), ("dgl",), ("inner.0",))(images)
    said = "".join(capsys.readouterr())
    assert said.count("note:") == (cut > 0)
    assert ("8 above, 15 below, 8 left, 15 right of 40 x 40" in said) == (cut > 0)


def test_looking_draws_no_random_number(images):
    looking = mapper(lambda images: images)
    state = torch.get_rng_state()
    looking(images)
    assert torch.equal(torch.get_rng_state(), state)


@pytest.mark.parametrize(("change", "message"), [
    (lambda scores: (scores.softmax(dim=1) + (2 * scores).softmax(dim=1)) / 2, "the network gives probabilities"),
    (lambda scores: scores.softmax(dim=1).clamp(1e-7, 1).log(), "the network gives logarithms of probabilities"),
    (lambda scores: scores.softmax(dim=1)[:, :, None].squeeze(2), "the network gives probabilities"),
    (lambda scores: torch.stack([1 - scores[:, 0].sigmoid(), scores[:, 0].sigmoid()], 1), "gives probabilities"),
])  # fmt: skip
def test_probabilities_are_known_by_their_sums(images, change, message):
    with pytest.raises(UserError, match=message):
        mapper(lambda images: images, change)(images)


@pytest.mark.parametrize("change", [
    lambda scores: scores[:, :1].sigmoid() * 0 + 1 + scores[:, :1] * 1e-5,  # a single score near 1
    lambda scores: scores.softmax(dim=1) * 2, lambda scores: scores - scores.mean(),
])  # fmt: skip
def test_scores_of_other_sums_are_taken(images, change):
    mapper(lambda images: images, change)(images)


def test_scores_that_sum_to_one_on_some_images_alone_are_taken(images):
    """As those of any network may, by chance."""

    def change(scores):
        return torch.where(torch.arange(len(scores))[:, None] < len(scores) - 1, scores.softmax(dim=1), scores)

    mapper(lambda images: images, change)(images)
    mapper(lambda images: images, change)(images[:1])


def test_crops_and_mirror_images_of_one_image_are_refused(images):
    def both(images):
        return torch.cat([images, images.flip(3)])

    def mean(scores):
        return scores.unflatten(0, (2, -1)).mean(dim=0)

    with pytest.raises(UserError, match="gives 4 maps for 2 images"):
        mapper(both, mean)(images)


def test_threads_share_a_network(images):
    """Without waiting, one thread's hooks take the other's outputs for a second call of the layer."""
    shared = mapper(lambda images: images)
    expected = shared(images).maps["dgl", "inner.second.0"]
    together = Barrier(4)

    def some(_number):
        together.wait(30)
        return [shared(images).maps["dgl", "inner.second.0"] for _ in range(5)]

    with ThreadPoolExecutor(4) as pool:
        found = [one for each in pool.map(some, range(4)) for one in each]
    assert all(torch.equal(one, expected) for one in found)


def test_only_one_thread_has_a_network():
    network, other, entered = Tiny(), Tiny(), []

    def enter(which):
        with one_at_a_time(which):
            entered.append(which)

    with ThreadPoolExecutor(1) as pool, one_at_a_time(network), one_at_a_time(network):  # the same thread goes on
        waiting = pool.submit(enter, network)
        with ThreadPoolExecutor(1) as second:
            second.submit(enter, other).result(30)
        assert entered == [other]
        assert not waiting.done()
    assert entered == [other, network]
