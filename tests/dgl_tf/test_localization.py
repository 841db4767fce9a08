"""Maps against those recorded from the released test script: every layer of every network it offers."""

import json
from functools import cached_property

import cv2
import numpy as np
import pytest

pytest.importorskip("tensorflow")

from common.measuring.extraction import min_max
from dgl_tf import localization, preprocessing, registry, sessions
from tests.dgl_tf.filled import fill_network, golden

tf = sessions.tf

RECORDED = ("vgg", "resnet50", "resnet50se", "inceptionv3", "inceptionv3_cub")


class Rebuilt:
    """A recorded network with every recorded tap's maps, kept for the tests of one file of numbers."""

    def __init__(self, name: str):
        self.recorded = golden(f"infer_{name}")
        self.config = json.loads(str(self.recorded["config"]).replace("'", '"').replace("(", "[").replace(")", "]"))
        arch, dataset = self.config["mode"], self.config["dataset"]
        self.classes = self.recorded["i0_logits"].shape[1]
        with sessions.new_graph() as graph:
            self.pixels = tf.placeholder(tf.float32, [None, None, None, 3])
            self.input = registry.normalized(self.pixels)
            self.network = registry.build(
                arch, self.input, self.classes, classifier=registry.classifier_name(arch, dataset)
            )
            layers = [number for number in range(len(registry.LAYERS[arch])) if f"i0_L{number}_pcs" in self.recorded]
            alpha = self.config["pa"]
            maps = localization.dual_gradients(self.network, layers, alpha=alpha)
            self.maps = dict(zip(layers, maps, strict=True))
            self.true = localization.dual_gradients(self.network, [2], alpha=alpha, gradient="true")[0]
            best = localization.best_classes(tf.nn.softmax(self.network.logits))
            self.cam = localization.class_activation(self.network, best)
            self.session = tf.Session(graph=graph)
            fill_network(self.session, self.network, self.config["seed"], self.config["gain"])

    def image(self, number: int) -> np.ndarray:
        decoded = preprocessing.decode_jpeg(self.recorded[f"i{number}_jpeg"].tobytes())
        return preprocessing.squashed(decoded, self.config["size"])

    def run(self, wanted, *numbers: int):
        return self.session.run(wanted, {self.pixels: np.stack([self.image(number) for number in numbers])})

    @cached_property
    def first(self) -> dict:
        """Everything that the tests ask of the first image, from one pass; `part` is the maps' of the second layer."""
        part = self.maps[2]
        return self.run({
            "input": self.input, "logits": self.network.logits, "cam": self.cam, "true": self.true.localization,
            "maps": {number: one.localization for number, one in self.maps.items()},
            "part": (self.network.taps[part.layer], part.gradient, part.selection, part.enhanced),
        }, 0)  # fmt: skip


@pytest.fixture(scope="module", params=RECORDED)
def rebuilt(request):
    made = Rebuilt(request.param)
    yield made
    made.session.close()


def difference(found: np.ndarray, recorded: dict, key: str) -> tuple[float, float]:
    """Greatest and mean difference of the stretched maps, at the recorded pixels."""
    stat = recorded[f"{key}_stat"]
    thinning, low, high = int(stat[3]), stat[4], stat[5]
    ours = (found - found.min()) / (found.max() - found.min())
    theirs = (recorded[f"{key}_pcs"] - low) / (high - low)
    apart = np.abs(ours[::thinning, ::thinning] - theirs)
    return float(apart.max()), float(apart.mean())


@pytest.mark.slow
def test_logits_and_every_layers_map(rebuilt):
    """Logits 1e-4 of the greatest; maps at most 2e-2 and 1e-3 in the mean: a unit at its ReLU's zero makes a jump."""
    recorded, logits, maps = rebuilt.recorded, rebuilt.first["logits"], rebuilt.first["maps"]
    np.testing.assert_allclose(logits, recorded["i0_logits"], atol=1e-4 * np.abs(logits).max())
    for number, found in maps.items():
        greatest, mean = difference(found[0], recorded, f"i0_L{number}")
        assert greatest < 2e-2, number
        assert mean < 1e-3, number
    assert len(maps) >= 2


@pytest.mark.slow
def test_a_batch_gives_each_images_own_maps(rebuilt):
    if "i1_jpeg" not in rebuilt.recorded:  # of the CUB head one image was recorded
        twice = rebuilt.run(rebuilt.maps[2].localization, 0, 0)
        apart = np.abs(min_max(twice[0]) - min_max(twice[1]))
        assert apart.max() < 2e-2  # some processors sum the places of a batch otherwise, and a ReLU's zero makes a jump
        assert apart.mean() < 1e-3
        return
    maps = rebuilt.run(rebuilt.maps[2].localization, 1, 0)
    for row, key in enumerate(("i1_L2", "i0_L2")):
        greatest, mean = difference(maps[row], rebuilt.recorded, key)
        assert greatest < 2e-2
        assert mean < 1e-3


@pytest.mark.slow
def test_the_parts_at_one_layer(rebuilt):
    """S 1e-4; G, D and A by norm 1e-3 and by value 5e-2 of the greatest."""
    found = rebuilt.first["part"]
    stat = rebuilt.recorded["i0_L2_stat"]
    np.testing.assert_allclose([np.linalg.norm(array) for array in found], stat[7:11], rtol=1e-3)
    step = found[0].shape[1] // 7
    for array, name in zip(found, ("S", "G", "GH", "E"), strict=True):
        theirs = rebuilt.recorded[f"i0_L2_{name}"]
        ours = array[:, ::step, ::step, ::16].reshape(-1)
        assert ours.size == theirs.size
        scale = np.abs(theirs).max()
        assert np.abs(ours - theirs.reshape(-1)).max() <= (1e-4 if name == "S" else 5e-2) * scale


@pytest.mark.slow
def test_the_last_layer_is_cam(rebuilt):
    maps, cam = rebuilt.first["maps"][0], rebuilt.first["cam"]
    np.testing.assert_allclose(min_max(maps[0]), min_max(cam[0]), atol=2e-5)


@pytest.mark.slow
def test_the_true_gradient_is_another_map(rebuilt):
    """The released gradient and the derivative part by more than the tolerance that the recorded maps are held to."""
    released, true = rebuilt.first["maps"][2], rebuilt.first["true"]
    apart = np.abs(min_max(released[0]) - min_max(true[0]))
    assert apart.mean() > 1e-3
    _, mean = difference(true[0], rebuilt.recorded, "i0_L2")
    assert mean > 1e-3


@pytest.mark.slow
def test_overlays_are_the_recorded_pictures(rebuilt):
    """At the recorded pixels; a map that moves by a level may take the next of jet's colours."""
    base = preprocessing.overlay_base(rebuilt.first["input"][0])
    for raw, name in ((rebuilt.first["maps"][2], "overlay"), (rebuilt.first["cam"], "cam_overlay")):
        ours = preprocessing.overlay(base, min_max(raw[0]))[::4, ::4]
        apart = np.abs(ours.astype(int) - rebuilt.recorded[f"i0_C2_{name}"])
        assert np.median(apart) <= 1
        assert (apart > 8).mean() < 0.02


# ------------------------------------------------------------------------------------------- parts with numbers by hand


def run(value):
    with tf.Session() as session:
        return session.run(value)


def test_best_classes_with_ties():
    recorded = golden("misc")
    with sessions.new_graph():
        np.testing.assert_array_equal(
            run(localization.best_classes(tf.constant(recorded["onehot_in"]))), recorded["onehot_out"]
        )


@pytest.mark.parametrize("alpha", ["0.5", "1", "10", "25"])
def test_the_released_gradient_is_that_of_tensorflows_kernel(alpha):
    recorded = golden("misc")
    logits = recorded[f"pa{alpha}_logits"]
    likely = np.exp(logits - logits.max(axis=1, keepdims=True))
    likely /= likely.sum(axis=1, keepdims=True)
    with sessions.new_graph():
        best = run(localization.best_classes(tf.nn.softmax(tf.constant(logits))))
        labels = tf.constant(float(alpha) * best)
        values = tf.constant(logits)
        cost = tf.nn.softmax_cross_entropy_with_logits(labels=labels, logits=values)
        kernel = run(tf.gradients(cost, values)[0])
    ours = likely - float(alpha) * best
    np.testing.assert_allclose(ours, kernel, atol=1e-5)
    if np.allclose(recorded[f"pa{alpha}_cost"], -float(alpha) * np.log((likely * best).sum(axis=1)), atol=1e-3):
        np.testing.assert_allclose(ours, recorded[f"pa{alpha}_grad"], atol=1e-5)


def test_norms_below_the_least():
    recorded = golden("misc")
    with sessions.new_graph():
        for given, expected in (("l2n_in", "l2n_out"), ("l2n_tiny_in", "l2n_tiny_out")):
            found = run(localization.unit_norm(tf.constant(recorded[given])))
            np.testing.assert_allclose(found, recorded[expected], rtol=1e-5, atol=1e-7)
        zero = run(localization.unit_norm(tf.zeros_like(tf.constant(recorded["l2n_in"]))))
        np.testing.assert_array_equal(zero, recorded["l2n_zero_out"])


def test_stretched_enlarged_and_truncated_maps():
    recorded = golden("misc")
    names = [key.removeprefix("norm_in_") for key in recorded if key.startswith("norm_in_")]
    assert len(names) > 10
    for name in names:
        stretched = min_max(recorded[f"norm_in_{name}"])
        np.testing.assert_allclose(stretched, recorded[f"norm_out_{name}"], atol=1e-6)
        enlarged = cv2.resize(recorded[f"norm_out_{name}"], (40, 40))
        np.testing.assert_allclose(enlarged, recorded[f"resize40_{name}"], atol=1e-6)
        assert np.abs((255 * enlarged).astype(int) - recorded[f"u8_{name}"].astype(int)).max() <= 1


def test_refusals():
    with sessions.new_graph():
        network = registry.build("vgg", tf.zeros([1, 32, 32, 3]), 3)
        with pytest.raises(ValueError, match="vgg has no layer 18, expected 0 to 17"):
            localization.dual_gradients(network, [18])
        with pytest.raises(ValueError, match="vgg has no layer 'Mixed_6e'"):
            localization.dual_gradients(network, ["Mixed_6e"])
        with pytest.raises(ValueError, match="unknown gradient 'other'"):
            localization.dual_gradients(network, [0], gradient="other")
