import pickle
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import nn

from common.datasets import Sample
from common.system.errors import UserError
from spol import verdicts
from spol.cls import checkpoint, networks
from spol.config import recipe
from spol.losses import classification_loss
from spol.options import TrainOptions, TrainSource
from spol.training import learning_rates, optimizer_of, saved_epochs
from spol.verdicts import Verdict
from spol.weights import write_released
from tests.bas.filled import fill_network
from tests.spol import filled

efficientnet = pytest.importorskip("efficientnet_pytorch", reason="the environments all and spol hold it")


def b7(classes: int, padded_for: int = 600) -> nn.Module:
    network = networks.build("efficientnet-b7", classes, pretrained=False, padded_for=padded_for)
    fill_network(network, seed=0, gain=1.75)
    return network


@pytest.mark.slow
@torch.inference_mode()
def test_efficientnet_b7_is_the_recorded_one(golden):
    """685 pixels through padding made for 600; every recorded block, 1e-5 of each array's largest value."""
    recorded = golden("spol/effb7")
    network, seen = b7(200).eval(), {}
    for number in recorded["block_ids"].tolist():
        network._blocks[number].register_forward_hook(lambda _, __, output, key=number: seen.__setitem__(key, output))
    features = network.extract_features(filled.images(1, 685, 1))
    pooled = features.mean(dim=(2, 3))
    filled.close(network._fc(pooled), recorded["eval200_logits"], 1e-5)
    filled.close(pooled[:, ::8], recorded["eval200_features_mean"], 1e-5)
    for number, output in seen.items():
        prefix = f"eval200_block{number}"
        assert list(output.shape) == recorded[f"{prefix}_shape"].tolist()
        filled.close(output.mean(dim=(2, 3)), recorded[f"{prefix}_mean"], 1e-5, prefix)
        filled.close(output[:, ::8, :3, :3], recorded[f"{prefix}_corner"], 1e-5, prefix)
        filled.close(output[:, ::8, -3:, -3:], recorded[f"{prefix}_end"], 1e-5, prefix)
    thousand = b7(1000)
    filled.close(thousand._fc(pooled), recorded["eval1000_logits"], 1e-5)


@pytest.mark.slow
def test_padding_can_be_made_for_the_size_it_sees():
    """At 600 the stem halves 685 to 342; at 685 to 343."""
    sides = [b7(2, padded_for)._conv_stem(torch.zeros(1, 3, 685, 8)).shape[2] for padded_for in (600, 685)]
    assert sides == [342, 343]


@pytest.mark.slow
def test_classifier_steps_are_the_recorded_ones(golden, tmp_path):
    """The original's Train with both drop rates 0, in float32: groups, gradients, rates, losses, statistics."""
    recorded = golden("spol/effb7")
    network = b7(200).train()
    network._global_params = network._global_params._replace(drop_connect_rate=0.0)
    network._dropout.p = 0.0
    options = TrainOptions(data=TrainSource("cub", tmp_path), out=tmp_path)
    in_head = networks.head_names("efficientnet-b7", network, fc_weight_in_head=False)
    optimizer = optimizer_of(network, options, networks.base_names(network, in_head))
    parameters, names = dict(network.named_parameters()), recorded["param_names"].tolist()
    assert list(parameters) == names
    group_of = {id(p): number for number, group in enumerate(optimizer.param_groups) for p in group["params"]}
    assert [group_of[id(parameters[name])] for name in names] == recorded["group"].tolist()
    rates = learning_rates(optimizer, recipe("cls", "cub"))
    images, labels = filled.images(4, 96, 4), torch.from_numpy(recorded["train_labels"])
    for epoch in range(3):
        assert rates(epoch, epoch) == pytest.approx(recorded["train_lrs"][epoch].tolist())
        for group, rate in zip(optimizer.param_groups, rates(epoch, epoch), strict=True):
            group["lr"] = rate
        loss = classification_loss(network(images), labels)["loss"]
        # After a step batch norm has multiplied the last digits, which differ with the number of threads.
        assert float(loss) == pytest.approx(recorded["train_losses"][epoch], rel=1e-5 if epoch == 0 else 3e-2)
        optimizer.zero_grad()
        loss.backward()
        if epoch == 0:
            norms = np.array([float(parameters[name].grad.norm()) for name in names])
            large = recorded["grad_norm"] > 1e-4
            np.testing.assert_allclose(norms[large], recorded["grad_norm"][large], rtol=2e-3)
        optimizer.step()
        if epoch == 0:
            sums = [float(parameters[name].detach().double().sum()) for name in names]
            filled.close(sums, recorded["param_sum_after1"], 1e-4)
            norms = [float(parameters[name].detach().double().norm()) for name in names]
            filled.close(norms, recorded["param_l2_after1"], 1e-5)
            buffers = dict(network.named_buffers())
            sums = [float(buffers[name].double().sum()) for name in recorded["buffer_names"].tolist()]
            filled.close(sums, recorded["buffer_sum_after1"], 1e-4)


def test_rates_and_saved_epochs_are_the_recorded_ones(golden, tmp_path):
    recorded = golden("spol/lr")
    options = TrainOptions(data=TrainSource("cub", tmp_path), out=tmp_path)
    network = nn.Sequential(nn.Linear(2, 2), nn.Linear(2, 2))
    optimizer = optimizer_of(network, options, ["0."])
    found = {stage: learning_rates(optimizer, recipe(stage, "cub")) for stage in ("cls", "cam", "seg")}
    for column, name in enumerate(("base", "head")):
        each = [found["cls"](epoch, 0)[column] for epoch in range(int(recorded["cls_epochs"]))]
        np.testing.assert_allclose(each, recorded[f"cls_lr_{name}_group"], rtol=1e-12)
    for stage in ("cam", "seg"):
        assert found[stage](5, 500) == pytest.approx(recorded[f"{stage}_lr"].tolist())
    assert saved_epochs(recipe("cls", "cub")) == recorded["cls_saved_epochs"].tolist()
    assert saved_epochs(recipe("cam", "cub")) == recorded["cam_cub_saved_epochs"].tolist()
    assert saved_epochs(recipe("seg", "cub")) == list(range(1, 9))
    assert saved_epochs(recipe("cam", "imagenet")) == []
    assert recipe("cam", "imagenet").save_steps == 2000


@pytest.mark.parametrize(("stage", "epochs", "saved"), [
    ("cls", 7, [5, 6, 7]), ("cam", 7, [5, 6, 7]), ("cls", 8, [6, 7, 8]), ("cam", 1, []), ("cls", 2, []),
    ("cam", 3, [3]), ("seg", 2, [1, 2]),
])  # fmt: skip
def test_saved_epochs_follow_the_number_of_epochs(stage, epochs, saved):
    """The release's `if epoch > args.epoch / 2`, epochs counted from 0, then `model-<epoch + 1>`."""
    settings = TrainOptions(data=TrainSource("cub", Path("CUB")), out=Path("out"), epochs=epochs).settings(stage)
    assert saved_epochs(settings) == saved


@pytest.mark.slow
def test_the_odd_head_group_can_be_put_right():
    network = b7(2)
    assert networks.head_names("efficientnet-b7", network, fc_weight_in_head=False) == ("_bn1.weight", "_fc.bias")
    right = networks.head_names("efficientnet-b7", network, fc_weight_in_head=True)
    base = networks.base_names(network, right)
    assert "_fc.weight" not in base
    assert "_bn1.weight" in base


def test_decay_can_be_kept_from_biases_and_norms(tmp_path):
    network = nn.Sequential(nn.Linear(2, 2), nn.BatchNorm1d(2))
    decays = []
    for everything in (True, False):
        options = TrainOptions(data=TrainSource("cub", tmp_path), out=tmp_path, decay_everything=everything)
        groups = optimizer_of(network, options, ["0."]).param_groups
        decays.append([(group["part"], len(group["params"]), group["weight_decay"]) for group in groups])
    assert decays == [[("base", 2, 1e-4), ("head", 2, 1e-4)], [("base", 1, 1e-4), ("base", 1, 0.0), ("head", 2, 0.0)]]


@pytest.mark.slow
@pytest.mark.parametrize("arch", ["densenet161", "efficientnet_lite0", "timm:resnet18"])
@torch.inference_mode()
def test_other_classifiers(arch, tmp_path):
    network = networks.build(arch, 7, pretrained=False).eval()
    images = filled.images(1, 64, 2)
    scores = network(images)
    assert scores.shape == (1, 7)
    write_released(tmp_path / "model-20", network)
    again = checkpoint.load(str(tmp_path / "model-20"), 5, arch).network.eval()
    torch.testing.assert_close(again(images), scores)
    with pytest.raises(UserError, match="has 7 classes; expected the data set's 9"):
        checkpoint.load(str(tmp_path / "model-20"), 9, arch)


def test_densenets_old_names():
    old = {
        "features.denseblock1.denselayer2.norm.1.weight": 1,
        "features.denseblock1.denselayer2.conv.2.weight": 2,
        "features.norm5.bias": 3,
    }
    new = {
        "features.denseblock1.denselayer2.norm1.weight": 1,
        "features.denseblock1.denselayer2.conv2.weight": 2,
        "features.norm5.bias": 3,
    }
    assert networks._modern_densenet_names(old) == new


SAMPLE = Sample("001.A/im_0.jpg", Path("im_0.jpg"), 2)


def test_verdicts_survive_a_round_trip_and_the_original_file(tmp_path):
    found = {"001.A/im_0.jpg": Verdict((3, 2), (0.5, 0.25)), "001.A/im_1.jpg": Verdict((1, 0), (0.9, 0.1))}
    labels = {"001.A/im_0.jpg": 2, "001.A/im_1.jpg": 1}
    skipped = {"001.A/im_8.jpg": "the file is empty"}
    verdicts.write_results(tmp_path / "classification.json", found, "b7", {}, skipped, labels)
    again = verdicts.read(tmp_path / "classification.json")
    assert again.by_image == found
    moved = {"data": {"root": "elsewhere"}}
    verdicts.write_results(tmp_path / "moved.json", dict(reversed(found.items())), "b7", moved, skipped, labels)
    assert verdicts.read(tmp_path / "moved.json").sha256 == again.sha256
    found["001.A/im_1.jpg"] = Verdict((1, 0), (0.9, 0.2))
    verdicts.write_results(tmp_path / "other.json", found, "b7", {}, skipped, labels)
    assert verdicts.read(tmp_path / "other.json").sha256 != again.sha256
    assert again.of(SAMPLE, 200) == found["001.A/im_0.jpg"]
    again.check([SAMPLE, Sample("001.A/im_8.jpg", Path("x"), 0)], tmp_path)  # could not be read, which is no fault
    assert again.why_none("001.A/im_8.jpg") == "not classified: the file is empty"
    assert again.why_none("001.A/im_0.jpg") is None
    with pytest.raises(UserError, match="im_0.jpg was of class 2 when it was classified; expected 3, as it is now"):
        again.check([replace(SAMPLE, label=3)], tmp_path)
    verdicts.write_npy(tmp_path / "top1top5.npy", found, labels)
    assert np.load(tmp_path / "top1top5.npy", allow_pickle=True).item() == {
        "001.A/im_0.jpg": [False, True],
        "001.A/im_1.jpg": [True, True],
    }
    released = verdicts.read(tmp_path / "top1top5.npy")
    assert released.by_image == {"001.A/im_0.jpg": (False, True), "001.A/im_1.jpg": (True, True)}
    assert released.of(SAMPLE, 200) == Verdict((200, 2), None)
    with pytest.raises(UserError, match="1 of 1 images have no verdict, 001.A/im_9.jpg among them"):
        released.check([Sample("001.A/im_9.jpg", Path("x"), 0)], tmp_path)


def test_file_names_alone_are_no_verdict_on_two_images(tmp_path):
    np.save(tmp_path / "top1top5.npy", np.array({"im_0.jpg": [True, True]}, dtype=object), allow_pickle=True)
    found = verdicts.read(tmp_path / "top1top5.npy")
    found.check([SAMPLE], tmp_path)
    with pytest.raises(UserError, match="001.A/im_0.jpg and 002.B/im_0.jpg are both im_0.jpg there"):
        found.check([SAMPLE, Sample("002.B/im_0.jpg", Path("x"), 2)], tmp_path)


@pytest.mark.parametrize(("pair", "top5"), [([True, True], (2,)), ([False, True], (200, 2)), ([False, False], (200,))])
def test_released_verdicts_name_no_other_class(tmp_path, pair, top5):
    np.save(tmp_path / "top1top5.npy", np.array({"im_0.jpg": pair}, dtype=object), allow_pickle=True)
    assert verdicts.read(tmp_path / "top1top5.npy").of(SAMPLE, 200).top5 == top5


class Dangerous:
    def __reduce__(self):
        return print, ("this code must never run",)


@pytest.mark.parametrize(("content", "message"), [
    (Dangerous(), "refused: it asks for builtins.print"),
    ({"a.jpg": [True]}, r"not the original's top1top5.npy \(a value \[True\]\)"),
    ({"a.jpg": [1, 0]}, "a value"),
    ([1, 2], "a list"),
])  # fmt: skip
def test_other_pickles_are_refused(tmp_path, capsys, content, message):
    holder = np.empty((), dtype=object)
    holder[()] = content
    np.save(tmp_path / "top1top5.npy", holder, allow_pickle=True)
    with pytest.raises(UserError, match=message):
        verdicts.read(tmp_path / "top1top5.npy")
    assert capsys.readouterr().out == ""


def test_a_bare_pickle_and_a_numeric_array_are_refused(tmp_path):
    (tmp_path / "bare.npy").write_bytes(pickle.dumps({"a.jpg": [True, True]}))
    np.save(tmp_path / "numbers.npy", np.zeros(3))
    for name in ("bare.npy", "numbers.npy"):
        with pytest.raises(UserError, match="not the original's top1top5.npy"):
            verdicts.read(tmp_path / name)
    (tmp_path / "bad.json").write_text('{"format": 1, "classifier": "x", "images": {"a": {"top5": [], "scores": []}}}')
    with pytest.raises(UserError, match="no classification result"):
        verdicts.read(tmp_path / "bad.json")
