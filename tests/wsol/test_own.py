"""Classifiers of one's own: what is said of them is believed, what contradicts itself is refused."""

import copy
import pickle

import numpy as np
import pytest
from PIL import Image

pytest.importorskip("torch")

import torch
from torch import nn

import wsol
from common.datasets.named import class_names, ordered
from common.pytorch import maps, state_dicts
from common.system.errors import UserError
from wsol import classifiers
from wsol.photographs import _label

pytestmark = pytest.mark.slow
PICTURE = np.random.default_rng(0).integers(0, 256, (30, 40, 3), dtype=np.uint8)


class Net(nn.Module):
    """A convolution's mean and a linear layer."""

    def __init__(self, classes: int = 4):
        super().__init__()
        torch.manual_seed(0)
        self.features, self.fc = nn.Sequential(nn.Conv2d(3, 5, 3, 2), nn.ReLU(inplace=True)), nn.Linear(5, classes)

    def forward(self, images):
        return self.fc(self.features(images).mean(dim=(2, 3)))


def cam(model, **options):
    return wsol.cam(model, **{"input_size": 16, "device": "cpu", **options})


# ---------------------------------------------------------------------------------------------------------- networks


def test_a_network_of_one_score_says_its_sigmoid():
    network = Net(1)
    found = cam(network, mean=(0, 0, 0), std=(1, 1, 1))(PICTURE)
    pixels = np.asarray(Image.fromarray(PICTURE).resize((16, 16), Image.Resampling.BILINEAR))
    with torch.no_grad():
        expected = network(torch.from_numpy(pixels.copy()).permute(2, 0, 1)[None] / 255).sigmoid().item()
    assert found.score == pytest.approx(expected, abs=1e-6)
    assert 0.05 < expected < 0.95


def test_several_labels_at_once_have_a_probability_each():
    network = Net(4)
    chosen, each = (cam(network, sigmoid=sigmoid)(PICTURE) for sigmoid in (False, True))
    assert chosen.probabilities.sum() == pytest.approx(1, abs=1e-6)
    odds = np.log(each.probabilities / (1 - each.probabilities))  # the scores
    np.testing.assert_allclose(np.exp(odds) / np.exp(odds).sum(), chosen.probabilities, atol=1e-6)
    np.testing.assert_array_equal(each.map, chosen.map)


def test_networks_whose_inference_is_not_one_of_an_image_alone_are_named(capsys):
    class Random(Net):
        def forward(self, images):
            return nn.functional.dropout(super().forward(images))

    mixing = Net()
    mixing.features.insert(1, nn.BatchNorm2d(5, track_running_stats=False))
    cam(Net())
    assert capsys.readouterr().out == ""
    cam(mixing)
    assert "depends on the images that it is looked at with" in capsys.readouterr().out
    cam(Random(), method="dgl")
    assert "the network draws random numbers in inference" in capsys.readouterr().out


@pytest.mark.parametrize(("mean", "std"), [
    ((0.485, 0.456, 0.406), (0.229, 0.224, 0.225)), ((0.5, 0.5, 0.5), (0.5, 0.5, 0.5)),
])  # fmt: skip
def test_images_are_not_normalized_twice(mean, std):
    class Normalizing(Net):
        def forward(self, images):
            return super().forward((images - torch.tensor(mean).view(3, 1, 1)) / torch.tensor(std).view(3, 1, 1))

    with pytest.raises(UserError, match="normalizes its images itself.* Say mean 0 0 0 and std 1 1 1"):
        cam(Normalizing())
    inside = cam(Normalizing(), mean=(0, 0, 0), std=(1, 1, 1))(PICTURE)
    np.testing.assert_allclose(inside.map, cam(Net(), mean=mean, std=std)(PICTURE).map, atol=1e-5)


def test_a_network_that_changes_imagenets_normalization_into_another_is_let_be():
    """As torchvision's Inception does."""

    class Changing(Net):
        def forward(self, images):
            return super().forward(images * 0.45 - 0.03)

    cam(Changing())


def test_timms_networks_say_what_their_images_are():
    timm = pytest.importorskip("timm")

    class Wrapper(nn.Module):
        def __init__(self):
            super().__init__()
            self.trunk, self.fc = timm.create_model("test_vit", num_classes=0), nn.Linear(64, 3)

        def forward(self, images):
            return self.fc(self.trunk(images))

    own = classifiers.in_memory(Wrapper(), None, None, None, None, None)
    config = timm.create_model("test_vit").pretrained_cfg
    assert (own.input_size, own.mean, own.std) == (160, config["mean"], config["std"]) == (160, (0.5,) * 3, (0.5,) * 3)
    own = classifiers.in_memory(Wrapper(), 64, (0.1, 0.2, 0.3), None, None, None)
    assert (own.input_size, own.mean, own.std) == (64, (0.1, 0.2, 0.3), (0.5,) * 3)
    own = classifiers.in_memory(Net(), None, None, None, None, None)
    assert (own.input_size, (own.mean, own.std)) == (224, classifiers.IMAGENET)
    with pytest.raises(UserError, match="no classifier: its num_classes is 0"):
        wsol.cam(timm.create_model("test_vit", num_classes=0), method="dgl")


def test_pretrainedmodels_networks_say_what_their_images_are():
    """By attributes of the network, in [0, 255] or BGR too. A network that has some of them alone says nothing."""
    network, wanted = Net(), (None,) * 5
    network.input_size, network.mean = [3, 299, 299], [0.5, 0.5, 0.25]
    own = classifiers.in_memory(network, *wanted)
    assert (own.input_size, (own.mean, own.std)) == (224, classifiers.IMAGENET)
    network.std = [0.5, 0.25, 0.125]  # as of a network that normalizes its images itself
    own = classifiers.in_memory(network, *wanted)
    assert (own.input_size, (own.mean, own.std)) == (224, classifiers.IMAGENET)
    network.input_space, network.input_range = "RGB", [0, 1]
    own = classifiers.in_memory(nn.Sequential(network), *wanted)
    assert (own.input_size, own.mean, own.std) == (299, (0.5, 0.5, 0.25), (0.5, 0.25, 0.125))
    network.input_range = [0, 255]
    own = classifiers.in_memory(network, *wanted)
    assert own.mean == pytest.approx((0.5 / 255, 0.5 / 255, 0.25 / 255))
    assert own.std == pytest.approx((0.5 / 255, 0.25 / 255, 0.125 / 255))
    network.input_space = "BGR"
    with pytest.raises(UserError, match="takes BGR images"):
        classifiers.in_memory(network, *wanted)


def test_images_of_transformers_are_said_to_be_unknown(capsys):
    """Its networks do not hold the mean of their images, which is 0.5 of some and ImageNet's of others."""

    class FromThere(Net):
        __module__ = "transformers.models.vit.modeling_vit"

    localize = cam(nn.Sequential(FromThere()), layer=0)
    assert capsys.readouterr().out.count("its image processor knows") == 1
    cam(FromThere(), mean=(0.5, 0.5, 0.5), std=(0.5, 0.5, 0.5))
    cam(Net())
    assert capsys.readouterr().out == ""
    assert localize(PICTURE).map.std() > 0


@pytest.mark.parametrize(("options", "prefix"), [
    ({}, 1), ({"reg_tokens": 4}, 5), ({"class_token": False, "global_pool": "avg"}, 0),
    ({"reg_tokens": 4, "class_token": False, "global_pool": "avg"}, 4),
])  # fmt: skip
def test_tokens_of_timms_transformers(options, prefix):
    """Class and register tokens are left out: DGL's map by the equations, from timm's own blocks, 1e-4 of its range."""
    timm = pytest.importorskip("timm")
    torch.manual_seed(0)
    model = timm.create_model("vit_tiny_patch16_224", num_classes=4, img_size=48, depth=2, embed_dim=24, num_heads=2,
                              **options).eval()  # fmt: skip
    for weight in model.parameters():
        if weight.ndim > 1:
            nn.init.normal_(weight, std=0.2)
    found = wsol.cam(model, 0, "dgl", input_size=48, device="cpu")(PICTURE)
    layer = "blocks.0" if options.get("class_token", True) else "blocks.1"  # behind it the class's token alone counts
    kept = []
    handle = model.get_submodule(layer).register_forward_hook(lambda _module, _inputs, output: kept.append(output))
    pixels = np.asarray(Image.fromarray(PICTURE).resize((48, 48), Image.Resampling.BILINEAR))
    images = (torch.from_numpy(pixels.copy()).permute(2, 0, 1)[None] / 255 - 0.5) / 0.5
    scores = model(images)
    handle.remove()
    label = torch.nn.functional.one_hot(scores.argmax(1), 4).float()
    vectors = (label, scores.softmax(1).detach() - 10 * label)
    s, d, g = (values[0, prefix:].detach() for values in (
        kept[0], *(torch.autograd.grad(scores, kept[0], vector, retain_graph=True)[0] for vector in vectors)))  # fmt: skip
    wanted = (d * (s / s.norm() - g / g.norm())).sum(dim=1).view(3, 3)
    wanted = (wanted - wanted.min()) / (wanted.max() - wanted.min())
    centres = found.map[8::16, 8::16]  # between four pixels, where bilinear enlarging gives the value within a step
    np.testing.assert_allclose(centres, wanted, atol=0.07)


def test_what_is_no_network_is_refused():
    class Two(Net):
        def forward(self, images):
            features = self.features(images).mean(dim=(2, 3))
            return features, self.fc(features)

    for model, message in (
        ("mine.pth", "a str; expected a torch.nn.Module. Load files by wsol.load"),
        (Net().to("meta"), "on the device meta, where they have no values"),
        (nn.Sequential(nn.Conv2d(1, 4, 3), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(4, 3)),
         r"can't take images \(1, 3, 16, 16\)"),
    ):  # fmt: skip
        with pytest.raises(UserError, match=message):
            cam(model)
    assert len(cam(Two(), scores=lambda output: output[1])(PICTURE).probabilities) == 4


def test_torchs_default_of_64_bits_changes_nothing():
    expected = cam(Net(), method="dgl")(PICTURE)
    network = Net()
    torch.set_default_dtype(torch.float64)
    try:
        found = cam(network, method="dgl")(PICTURE)
    finally:
        torch.set_default_dtype(torch.float32)
    np.testing.assert_array_equal(found.map, expected.map)


def test_a_network_that_is_taken_in_inference_mode_stays_usable():
    expected = cam(Net(), method="dgl")(PICTURE)
    network = Net()
    with torch.inference_mode():
        localize = cam(network, method="dgl")
    np.testing.assert_array_equal(localize(PICTURE).map, expected.map)
    assert not any(weight.is_inference() for weight in network.parameters())
    with torch.inference_mode():
        made_there = Net()
    with pytest.raises(UserError, match="made in torch.inference_mode"):
        cam(made_there)
    np.testing.assert_array_equal(cam(copy.deepcopy(made_there), method="dgl")(PICTURE).map, expected.map)


@pytest.mark.parametrize("method", ["cam", "dgl"])
def test_a_localizer_can_be_sent_to_another_process(method):
    localize = cam(Net(), method=method)
    expected = localize(PICTURE)
    found = pickle.loads(pickle.dumps(pickle.loads(pickle.dumps(localize))(PICTURE)))
    np.testing.assert_array_equal(found.map, expected.map)
    np.testing.assert_array_equal(found.box, expected.box)
    assert pickle.loads(pickle.dumps(maps.tokens(5, (2, 3)))) == maps.tokens(5, (2, 3))


def test_the_first_of_several_scores_is_said_to_be_taken(capsys):
    class Two(Net):
        def forward(self, images):
            scores = super().forward(images)
            return scores, scores[:, :2]

    cam(Two())
    assert "of the network's outputs (1, 4), (1, 2) the first is taken as its scores" in capsys.readouterr().out


@pytest.mark.parametrize(("options", "message"), [
    ({"mean": 0.5}, "mean 0.5, std .*; expected three numbers each"),
    ({"std": (0, 0, 0)}, "deviations above 0"),
    ({"mean": (123.7, 116.3, 103.5)}, "expected those of images in .0, 1.. Divide"),
    ({"input_size": (16, 16)}, r"input size \(16, 16\); expected the side of a square"),
    ({"input_size": 0}, "input size 0"),
    ({"class_names": ["a", "b"]}, "2 class names; expected 4"),
    ({"class_names": {"a", "b", "c", "d"}}, "a set; expected class names in their order"),
])  # fmt: skip
def test_refused_options(options, message):
    with pytest.raises(UserError, match=message):
        cam(Net(), **options)


def test_layers_by_module():
    model = Net()
    by_name = cam(model, layer="features", method="dgl")(PICTURE)
    np.testing.assert_array_equal(cam(model, layer=model.features, method="dgl")(PICTURE).map, by_name.map)
    with pytest.raises(UserError, match="there is no such Linear in this network; expected all, or of 0 features"):
        cam(model, layer=nn.Linear(2, 2), method="dgl")(PICTURE)


# ------------------------------------------------------------------------------------------------------- state dicts


def test_weights_below_one_prefix_are_taken_and_said(capsys, tmp_path):
    wanted = Net().state_dict()
    for prefix in ("model.", "backbone.net.", "model._orig_mod."):
        state = {f"{prefix}{name}": value for name, value in wanted.items()} | {"criterion.weight": torch.ones(7, 9)}
        found = state_dicts.of_network(state, wanted, tmp_path)
        assert found == wanted
        said = capsys.readouterr().out
        assert f"below '{prefix.replace('_orig_mod.', '')}'; 1 other is left out (criterion.weight)" in said
    averaged = {"n_averaged": torch.tensor(3), **{f"module.{name}": value for name, value in wanted.items()}}
    assert state_dicts.of_network(averaged, wanted, tmp_path) == wanted
    assert state_dicts.of_network(dict(wanted), wanted, tmp_path) == wanted
    assert capsys.readouterr().out == ""


def test_weights_below_two_prefixes_or_of_another_network_are_refused(tmp_path):
    torchvision = pytest.importorskip("torchvision")
    wanted = torchvision.models.squeezenet1_1(num_classes=3).state_dict()
    two = {f"{prefix}{name}": value for prefix in ("student.", "teacher.") for name, value in wanted.items()}
    lacking = {f"model.{name}": value for name, value in list(wanted.items())[1:]}
    more = {f"model.{name}": value for name, value in wanted.items()} | {"model.extra.weight": torch.ones(2)}
    for state, message in (
        (two, "the network's weights stand below 'student.' and below 'teacher.'"),
        (lacking, "1 missing .features.0.weight."),
        (more, "1 unexpected .extra.weight."),
    ):
        torch.save(state, tmp_path / "mine.pth")
        with pytest.raises(UserError, match=message):
            wsol.load(tmp_path / "mine.pth", arch="torchvision:squeezenet1_1", device="cpu")


def test_the_classifier_says_the_number_of_classes(tmp_path, capsys):
    """Not a loss's weights behind it."""
    torchvision = pytest.importorskip("torchvision")
    state = torchvision.models.squeezenet1_1(num_classes=3).state_dict()
    torch.save({f"model.{k}": v for k, v in state.items()} | {"loss.centres.weight": torch.ones(9, 512)},
               tmp_path / "mine.pth")  # fmt: skip
    localizer = wsol.load(tmp_path / "mine.pth", "grad-cam", arch="torchvision:squeezenet1_1", device="cpu")
    assert localizer.method.num_classes == 3
    assert "1 other is left out (loss.centres.weight)" in capsys.readouterr().out


def test_a_state_dict_of_timms(tmp_path, capsys):
    """Weights of another input size take that size; the classifier is told from other matrices."""
    timm = pytest.importorskip("timm")
    model = timm.create_model("test_vit", num_classes=3, img_size=64).eval()
    state = {f"net.{name}": value for name, value in model.state_dict().items()} | {"net_ema.decay": torch.tensor(0.9)}
    torch.save({"state_dict": state | {"loss.weight": torch.ones(9, 64)}}, tmp_path / "mine.pth")
    shared = {"arch": "timm:test_vit", "class_names": {"a": 0, "b": 1, "c": 2}, "device": "cpu"}
    localizer = wsol.load(tmp_path / "mine.pth", "dgl", input_size=64, **shared)
    assert "below 'net.'; 2 others are left out (net_ema.decay, loss.weight)" in capsys.readouterr().out
    found, expected = localizer(PICTURE), wsol.cam(model, method="dgl", input_size=64, device="cpu")(PICTURE)
    np.testing.assert_array_equal(found.map, expected.map)
    assert found.class_name == "abc"[expected.class_index]
    with pytest.raises(UserError, match="of another shape .pos_embed"):
        wsol.load(tmp_path / "mine.pth", "dgl", **shared)
    with pytest.raises(UserError, match="timm can't make 'no_such'"):
        wsol.load(tmp_path / "mine.pth", "dgl", arch="timm:no_such")


@pytest.mark.parametrize("name", ["googlenet", "inception_v3"])
def test_torchvisions_networks_that_normalize_again(tmp_path, capsys, name):
    """A network that was begun with torchvision's weights changes ImageNet's normalization, its state dict as well."""
    library = pytest.importorskip("torchvision.models")
    torch.manual_seed(0)
    began = library.get_model(name, weights=None, init_weights=False, num_classes=3, transform_input=True).eval()
    began.fc = nn.Linear(began.fc.in_features, 2)  # as is often done, the auxiliary classifiers left as they were
    torch.save(began.state_dict(), tmp_path / "mine.pth")
    size = {"method": "grad-cam", "input_size": 96, "device": "cpu"}
    expected = wsol.cam(began, **size)(PICTURE)
    loaded = wsol.load(tmp_path / "mine.pth", arch=f"torchvision:{name}", **size)(PICTURE)
    assert "images are normalized with 0.5 and 0.5" in capsys.readouterr().out
    np.testing.assert_allclose(loaded.probabilities, expected.probabilities, atol=1e-6)
    np.testing.assert_allclose(loaded.map, expected.map, atol=1e-4)
    began.transform_input = False
    expected = wsol.cam(began, **size)(PICTURE)
    images = {"mean": classifiers.IMAGENET[0], "std": classifiers.IMAGENET[1]}
    loaded = wsol.load(tmp_path / "mine.pth", arch=f"torchvision:{name}", **size, **images)(PICTURE)
    assert capsys.readouterr().out == ""
    np.testing.assert_allclose(loaded.probabilities, expected.probabilities, atol=1e-6)


# ------------------------------------------------------------------------------------------------------- class names


@pytest.mark.parametrize(("text", "names"), [
    ("\ufeffa\n\nb c\r\n", ("a", "b c")),
    ('["a", "b"]', ("a", "b")),
    ('{"1": ["n02", "b"], "0": ["n01", "a"]}', ("a", "b")),
    ('{\n "b": 1,\n "a": 0\n}\n', ("a", "b")),
    ("0 a\n1 b\n", ("0 a", "1 b")),
    ("10\n9\n", ("10", "9")),
])  # fmt: skip
def test_class_names_files(tmp_path, text, names):
    (tmp_path / "names").write_text(text, encoding="utf-8", newline="")
    assert class_names(tmp_path / "names") == names


@pytest.mark.parametrize(("text", "message"), [
    ("1 b\n0 a\n", "the lines are numbered, and stand in another order"),
    ("b,1\na,0\n", "the lines are numbered, and stand in another order"),
    ("b 2\na 1\n", "the lines are numbered, and stand in another order"),
    ("\n\n", "no class name in this file"),
    ('{"a": 0, "b": 2}', "2 class names whose numbers are not 0 to 1"),
    ('{"a": 0, "b"}', "no readable JSON"),
])  # fmt: skip
def test_class_names_files_in_doubt(tmp_path, text, message):
    (tmp_path / "names").write_text(text, encoding="utf-8")
    with pytest.raises(UserError, match=message):
        class_names(tmp_path / "names")


def test_class_names_by_number():
    assert ordered({1: "b", 0: "a"}, "") == ordered({"b": np.int64(1), "a": np.int64(0)}, "") == ("a", "b")
    assert ordered([7, np.str_("x")], "") == ("7", "x")
    with pytest.raises(UserError, match="the class name 1.5"):
        ordered([1.5], "")


def test_a_label_that_is_a_name_of_digits(capsys):
    names = ("1", "10", "2")
    assert _label("10", names) == "10"
    assert "class 1, which is called 10, is taken; class 10 is called nothing" in capsys.readouterr().out
    assert [_label("0", names), _label(None, names), _label("gull", ()), _label("2", names)] == [0, None, "gull", "2"]
    assert capsys.readouterr().out == ""


# ---------------------------------------------------------------------------------------------------------- pictures


def test_pictures_of_other_kinds():
    localizer = cam(Net())
    for picture, message in (
        (b"\xff\xd8", "of the kind bytes; expected a path"),
        (PICTURE.tolist(), "of the kind list"),
        (PICTURE / 255, "a picture of float64"),
        (torch.zeros(2, 2, 3, requires_grad=True), "a Tensor that is no array"),
        (Image.new("F", (4, 4)), "floating-point pixels"),
    ):
        with pytest.raises(UserError, match=message):
            localizer(picture)
    for one in ("bird.jpg", PICTURE, Image.fromarray(PICTURE)):
        with pytest.raises(UserError, match="one picture; expected several"):
            list(localizer.many(one))
    assert len(list(localizer.many(np.stack([PICTURE] * 3)))) == 3


def test_pictures_of_any_size_together_are_as_alone():
    draw = np.random.default_rng(1)
    sizes = [(3, 3), (2, 90), (30, 40), (50, 3)]
    pictures = [draw.integers(0, 256, (*size, 3), dtype=np.uint8) for size in sizes]
    localizer = cam(Net(), method="dgl")
    for picture, found in zip(pictures, localizer.many(iter(pictures), batch_size=3), strict=True):
        np.testing.assert_allclose(found.map, localizer(picture).map, atol=1e-5)
        assert found.mask().shape == picture.shape[:2]
        assert found.picture().shape == picture.shape


def test_a_file_cut_short_that_pillow_has_opened(tmp_path):
    Image.fromarray(np.kron(PICTURE, np.ones((4, 4, 1), np.uint8))).save(tmp_path / "whole.jpg")
    (tmp_path / "cut.jpg").write_bytes((tmp_path / "whole.jpg").read_bytes()[:2000])
    with pytest.raises(UserError, match=r"cut.jpg: the image can't be decoded"):
        cam(Net())(Image.open(tmp_path / "cut.jpg"))
