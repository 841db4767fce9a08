import json
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from bas import losses
from bas import train as command
from bas.config import VARIANTS, recipe
from bas.inference import BasLocalizer
from bas.train import DeadNetwork, Losses, Train, learning_rates, parameter_groups, resolved, train
from bas.validation import Validation
from common.datasets import DataSource
from common.pytorch import checkpoints
from common.pytorch.data import Augmentation
from common.pytorch.runtime import Runtime
from common.system.errors import UserError
from tests import layouts, small_cub
from tests.bas import filled

ROOT = Path(__file__).resolve().parents[2]
RECORDED = [("CUB", "vgg"), ("CUB", "mobilenet"), ("CUB", "resnet"), ("CUB", "inception"), ("ILSVRC", "mobilenet"), ("EXT", "mobilenet")]  # fmt: skip


@pytest.mark.slow
@pytest.mark.parametrize(("variant", "arch"), RECORDED)
def test_a_step_is_the_recorded_one(variant, arch):
    """In float64, against the released code in float64: gradients, the step, running statistics; relative 1e-6.

    The recorded sums of losses went through a float32 buffer there, hence their 1e-4.
    """
    recorded = filled.golden("training", f"{variant}_{arch}_")
    network = filled.network(variant, arch).double().train()
    labels = torch.from_numpy(recorded["labels"])
    settings = recipe(variant, "ilsvrc" if variant == "ILSVRC" else "cub", arch)
    groups = parameter_groups(network)
    for group, rate in zip(groups, learning_rates(0.001, settings.decay_epochs, 0)(0, 0), strict=True):
        group["lr"] = rate
    optimizer = torch.optim.SGD(groups, lr=0.001, momentum=0.9, weight_decay=5e-4, nesterov=True)
    parameters = dict(network.named_parameters())
    names = recorded["names"].tolist()
    before = {name: parameter.detach().clone() for name, parameter in parameters.items()}

    output = network(filled.images(4, seed=2).double(), labels)
    values = losses.total(output, labels, VARIANTS[variant], arch, settings.alpha, settings.beta)
    values["loss"].backward()
    gradients = [parameters[name].grad for name in names]
    ratio = losses.background_ratio(output.activation, output.background_activation, VARIANTS[variant], arch)
    rows = network.classifier_loc[0].weight.grad.flatten(1).norm(dim=1)
    assert int((rows > 0).sum()) == recorded["grad_loc_nonzero_rows"]
    optimizer.step()

    group_of = {id(p): number for number, group in enumerate(optimizer.param_groups) for p in group["params"]}
    assert [group_of[id(parameters[name])] for name in names] == recorded["param_group"].tolist()
    assert [group["lr"] for group in optimizer.param_groups] == pytest.approx(recorded["group_lr"].tolist())
    buffers = dict(network.named_buffers())
    found = {
        "S_bg": output.background_activation.detach().numpy(),
        "loss_ratio": ratio.detach().numpy(),
        "grad_norm": [gradient.norm().item() for gradient in gradients],
        "grad_sum": [gradient.sum().item() for gradient in gradients],
        "delta_norm": [(parameters[name] - before[name]).norm().item() for name in names],
        "after_sum": [parameters[name].sum().item() for name in names],
        "buf_sum": [buffers[name].double().sum().item() for name in recorded["buffers"].tolist()],
    }
    for name, value in found.items():
        np.testing.assert_allclose(value, recorded[name], rtol=1e-6, atol=1e-6 * np.abs(recorded[name]).max(initial=0), err_msg=name)  # fmt: skip
    bas_and_area = values["bas"] + settings.beta * values["area"]
    table = [values["cls"].item(), bas_and_area.item(), values["loss"].item()]
    np.testing.assert_allclose(table, recorded["loss_table"][0, [0, 2, 3]], rtol=1e-4)


@pytest.mark.parametrize(("variant", "dataset", "name"), [
    ("CUB", "cub", "lr_CUB"), ("ILSVRC", "ilsvrc", "lr_ILSVRC"), ("EXT", "cub", "lr_EXT_CUB"),
    ("EXT", "ilsvrc", "lr_EXT_ILSVRC"), ("EXT", "openimages", "lr_EXT_OpenImage"),
])  # fmt: skip
def test_schedules_are_the_recorded_ones(variant, dataset, name):
    recorded = filled.golden("schedule")[name]
    settings = recipe(variant, dataset, "resnet")
    rates = learning_rates(0.001, settings.decay_epochs, 0)
    np.testing.assert_allclose([rates(epoch, 0) for epoch in range(len(recorded))], recorded, rtol=1e-12)
    assert dataset == "openimages" or len(recorded) == settings.epochs


def test_warmup():
    rates = learning_rates(0.001, 10, 4)
    assert [rates(0, step)[0] for step in (0, 1, 3, 9)] == pytest.approx([0.00025, 0.0005, 0.001, 0.001])


def test_options_take_the_released_values_and_given_ones_win(tmp_path):
    options = Train(DataSource("cub", tmp_path), tmp_path, arch="mobilenet")
    filled_in, settings = resolved(options)
    assert (filled_in.epochs, filled_in.beta, filled_in.runtime.seed, settings.batch_size) == (100, 1.5, 6, 32)
    given = replace(options, beta=0.0, epochs=3, runtime=Runtime(seed=0))
    filled_in, settings = resolved(given)
    assert (filled_in.epochs, settings.beta, settings.alpha, settings.seed) == (3, 0.0, 0.5, 0)
    with pytest.raises(UserError, match="no EXT recipe"):
        resolved(replace(options, data=DataSource("list", tmp_path), variant="EXT", arch="alexnet"))


@pytest.mark.slow
def test_batch_norm_in_chunks_is_dataparallels():
    """Two chunks give the mean of the losses of each alone; running statistics are the first's."""
    settings = recipe("ILSVRC", "ilsvrc", "mobilenet")
    pixels = torch.from_numpy(filled.fill.batch(4, 64, 64, 5)).permute(0, 3, 1, 2)
    labels = torch.tensor([0, 2, 1, 2])

    def losses_of(chunks, pixels, labels):
        network = filled.network("ILSVRC", "mobilenet", classes=3).train()
        values = Losses("mobilenet", settings, chunks)(network, pixels, labels)
        return values["loss"].item(), network.state_dict()

    both, state = losses_of(2, pixels, labels)
    first, first_state = losses_of(1, pixels[:2], labels[:2])
    second, _ = losses_of(1, pixels[2:], labels[2:])
    assert both == pytest.approx((first + second) / 2, rel=1e-6)
    assert all(torch.equal(state[name], first_state[name]) for name in state)
    assert both != pytest.approx(losses_of(1, pixels, labels)[0], rel=1e-4)


def test_a_dead_network_is_noticed():
    watch = DeadNetwork()
    for step in range(19):
        watch(step, {"alive": 0.0})
    watch(19, {"alive": 0.5})
    for step in range(20, 39):
        watch(step, {"alive": 0.0})
    with pytest.raises(UserError, match="the network is dead: for 20 steps.*Lower --lr or raise --warmup-steps"):
        watch(39, {"alive": 0.0})


@pytest.fixture(scope="module")
def root(tmp_path_factory):
    return small_cub.make(tmp_path_factory.mktemp("bas") / "CUB", train=5, test=2)


def options(root, out, **changes):
    chosen = {
        "arch": "mobilenet", "pretrained": "none", "epochs": 2, "batch_size": 4, "warmup_steps": 10,
        "augmentation": Augmentation(72, 64), "runtime": Runtime(device="cpu", workers=0), **changes,
    }  # fmt: skip
    return Train(DataSource("cub", root, "train", held_per_class=1), out, **chosen)


@pytest.mark.slow
def test_training_resumes_to_the_same_weights(root, tmp_path, monkeypatch):
    whole = checkpoints.read(train(options(root, tmp_path / "whole")))
    assert whole["config"]["method"] == "bas"
    assert whole["config"]["options"]["beta"] == 1.5
    saved = checkpoints.write_step

    def dying(folder, step, content):
        saved(folder, step, content)
        raise KeyboardInterrupt

    monkeypatch.setattr(checkpoints, "write_step", dying)
    with pytest.raises(KeyboardInterrupt):
        train(options(root, tmp_path / "run"))
    monkeypatch.undo()
    resumed = checkpoints.read(train(options(root, tmp_path / "run")))
    assert all(torch.equal(value, resumed["model"][name]) for name, value in whole["model"].items())
    with pytest.raises(UserError, match=r'options differ \(options: {"beta": [\d.]+}, not {"beta": 0.1}\)'):
        train(options(root, tmp_path / "run", beta=0.1))


@pytest.mark.slow
def test_validation_keeps_the_best_epoch_and_the_last(root, tmp_path, capsys):
    train(options(root, tmp_path, validate="test", validate_from=2, epochs=3))
    lines = [json.loads(line) for line in (tmp_path / "validation.jsonl").read_text().splitlines()]
    assert [line["epoch"] for line in lines] == [2, 3]
    assert all(line["loc"] == line["top1"] + line["gt"] for line in lines)
    best = checkpoints.read(tmp_path / "best_loc.pth")
    assert best["config"]["chosen"] == max(lines, key=lambda line: line["loc"])
    assert (tmp_path / "final.pth").is_file()
    assert "an oracle's" in capsys.readouterr().out
    test = DataSource("cub", root, "test")
    for name, chosen in (("best_loc.pth", 6), ("final.pth", 0)):
        said = test.described(test.load(), tmp_path / name)["trained_images"]
        assert (len(said["chosen"]), len(said["images"])) == (chosen, 0)


@pytest.mark.slow
def test_a_training_stopped_before_a_validation_makes_up_for_it(root, tmp_path, monkeypatch):
    """Killed between an epoch's checkpoint and its measurement; the order of random numbers is the same too."""
    train(options(root, tmp_path / "whole", validate="test"))
    measure = Validation.measure

    def dying(self):
        raise KeyboardInterrupt

    monkeypatch.setattr(Validation, "measure", dying)
    with pytest.raises(KeyboardInterrupt):
        train(options(root, tmp_path / "run", validate="test"))
    monkeypatch.setattr(Validation, "measure", measure)
    train(options(root, tmp_path / "run", validate="test"))
    for name in ("validation.jsonl", "log.jsonl"):
        assert (tmp_path / "run" / name).read_text() == (tmp_path / "whole" / name).read_text()
    names = ("best_top1.pth", "best_gt.pth", "best_loc.pth", "final.pth", "step-00000006.pth")
    for name in names:
        found, expected = (checkpoints.read(tmp_path / folder / name) for folder in ("run", "whole"))
        assert found["config"] == expected["config"]
        assert all(torch.equal(found["model"][key], value) for key, value in expected["model"].items())
    assert torch.equal(found["random"]["torch"], expected["random"]["torch"])


@pytest.mark.slow
def test_validation_on_held_out_images_says_no_oracle(root, tmp_path, capsys, monkeypatch):
    seen, look = [], BasLocalizer.look
    monkeypatch.setattr(BasLocalizer, "look", lambda self, images: seen.append(images.shape[1:]) or look(self, images))
    train(options(root, tmp_path, validate="held", epochs=1))
    assert set(seen) == {(3, 64, 64)}, "the size that it is trained at"
    assert "oracle" not in capsys.readouterr().out
    assert (tmp_path / "best_gt.pth").is_file()


@pytest.mark.slow
@pytest.mark.parametrize(("arch", "same_steps"), [("vgg", 6), ("mobilenet", 1)])
def test_two_processes_are_two_chunks(root, tmp_path, arch, same_steps):
    """As the release's GPUs: batch norm by process. VGG has none, so there they are one process with the whole batch.

    With batch norm over two images the first step's loss is compared alone: later ones amplify the last digits.
    """
    epochs = -(-same_steps // 3)  # of three steps each
    one = train(options(root, tmp_path / "one", arch=arch, epochs=epochs, bn_chunks=1 if arch == "vgg" else 2))
    arguments = [
        "--arch", arch, "--pretrained", "none", "--epochs", str(epochs), "--batch-size", "4", "--warmup-steps", "10",
        "--augmentation.resize", "72", "--augmentation.crop", "64", "--runtime.device", "cpu", "--runtime.workers", "0",
        "--data.name", "cub", "--data.root", str(root), "--data.split", "train", "--data.held-per-class", "1",
        "--bn-chunks", "1" if arch == "vgg" else "2", "--out", str(tmp_path / "two"),
    ]  # fmt: skip
    done = subprocess.run(
        [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc_per_node", "2", "-m", "bas.train", *arguments],
        cwd=ROOT, capture_output=True, text=True,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr[-3000:]
    curves = [
        [json.loads(line)["loss"] for line in (folder / "log.jsonl").read_text().splitlines()][:same_steps]
        for folder in (one.parent, tmp_path / "two")
    ]
    assert len(curves[0]) == same_steps
    assert curves[0] == pytest.approx(curves[1], rel=1e-4)


@pytest.mark.slow
@pytest.mark.parametrize(("changes", "message"), [
    ({"pretrained": "tf-slim", "arch": "vgg"}, "no TF-Slim weights for vgg"),
    ({"sync_bn": True}, "--sync-bn needs CUDA"),
])  # fmt: skip
def test_refusals(root, tmp_path, changes, message):
    with pytest.raises(UserError, match=message):
        train(options(root, tmp_path, **changes))


@pytest.mark.slow
def test_the_command_line_shows_every_option():
    done = subprocess.run([sys.executable, "-m", "bas.train", "--help"], cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 0
    for name in Train.__dataclass_fields__:
        assert f"--{name.replace('_', '-')}" in done.stdout
    assert command.__doc__.splitlines()[0] in done.stdout


@pytest.mark.slow
def test_batch_norm_sees_a_layout_that_it_sums_exactly(root, tmp_path, monkeypatch):
    seen = layouts.contiguous_in_training(monkeypatch)
    train(options(root, tmp_path, epochs=1))
    assert seen
    assert all(seen)
