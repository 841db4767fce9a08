import json
import math
import os
import subprocess
import sys

import pytest
import torch
import torch.nn.functional as F
from torch import nn

from common.datasets import DataSource, trained
from common.pytorch import checkpoints
from common.pytorch.data import Augmentation, training_loader
from common.pytorch.runtime import Runtime, pick_device, seed_everything
from common.pytorch.training import fit
from common.system.errors import UserError
from common.system.files import read_json
from tests import small_cub


def tiny_model():
    """A convolution, batch norm and dropout: everything that has a state or draws random numbers."""
    return nn.Sequential(
        nn.Conv2d(3, 4, 3, stride=4), nn.BatchNorm2d(4), nn.ReLU(), nn.Dropout(0.5), nn.AdaptiveAvgPool2d(1),
        nn.Flatten(), nn.Linear(4, 3),
    )  # fmt: skip


def losses(model, images, labels):
    scores = model(images.float() / 255)
    return {"loss": F.cross_entropy(scores, labels), "accuracy": (scores.argmax(1) == labels).float().mean()}


def train(root, folder, epochs=3, save_every=0, loss=losses, **config):
    seed_everything(1)
    model = tiny_model()
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1, momentum=0.9)
    samples = DataSource("cub", root, "train").load().samples
    loader = training_loader(samples, Augmentation(40, 32), batch_size=2, seed=1, workers=0)
    rates = lambda epoch, step: [0.1 / (1 + step)]  # noqa: E731
    return fit(model, optimizer, loader, loss, rates, epochs, folder, config, Runtime(seed=1, save_every=save_every))


@pytest.fixture
def root(tmp_path):
    return small_cub.make(tmp_path / "CUB")


def weights(path):
    return checkpoints.read(path)["model"]


def test_training_writes_what_it_says(root, tmp_path):
    final = train(root, tmp_path / "run", save_every=2)
    written = ["final.pth", "log.jsonl", "processes.json", "step-00000008.pth", "step-00000009.pth", "training.json"]
    assert sorted(os.listdir(tmp_path / "run")) == written
    assert read_json(tmp_path / "run/training.json") == checkpoints.read(final)["config"]
    assert read_json(tmp_path / "run/processes.json")["processes"][0]["command"]["folder"] == os.getcwd()
    log = [json.loads(line) for line in (tmp_path / "run/log.jsonl").read_text().splitlines()]
    assert [(line["step"], line["epoch"]) for line in log] == [(step, step // 3) for step in range(9)]
    assert set(checkpoints.read(final)) == {"format", "config", "model"}


def test_a_figure_that_is_not_a_number_is_never_shown(root, tmp_path, capsys):
    """Of two figures beside the loss one is NaN: the bar leaves it out, and the log, which is JSON, holds null."""

    def loss(model, images, labels):
        return {**losses(model, images, labels), "unknown": torch.tensor(float("nan")), "known": torch.tensor(0.5)}

    train(root, tmp_path / "run", epochs=1, loss=loss)
    assert "nan" not in capsys.readouterr().err.lower().replace(str(tmp_path), "")
    log = [
        json.loads(line, parse_constant=pytest.fail) for line in (tmp_path / "run/log.jsonl").read_text().splitlines()
    ]
    assert [(line["unknown"], line["known"]) for line in log] == [(None, 0.5)] * 3


def test_every_epoch_has_a_line(root, tmp_path, capsys):
    train(root, tmp_path / "run", epochs=2)
    lines = capsys.readouterr().out.splitlines()
    assert [line.split(":")[0] for line in lines] == ["epoch 1 of 2", "epoch 2 of 2"]
    log = [json.loads(line) for line in (tmp_path / "run/log.jsonl").read_text().splitlines()]
    for number, line in enumerate(lines):
        values = [each["loss"] for each in log if each["epoch"] == number]
        assert f"loss {sum(values) / len(values):.3f}" in line
        assert "images/s" in line
        assert ("left" in line) == (number == 0)


class KilledError(Exception):
    pass


@pytest.mark.parametrize("log_is_there", [True, False])
def test_the_line_of_an_epoch_that_was_gone_on_with_is_of_all_its_steps(root, tmp_path, capsys, log_is_there):
    """Its second process took the last of three steps; without the first one's log the line says so."""
    calls = iter(range(9))

    def dying(model, images, labels):
        if next(calls) == 5:
            raise KilledError
        return losses(model, images, labels)

    with pytest.raises(KilledError):
        train(root, tmp_path / "run", epochs=2, save_every=1, loss=dying)
    if not log_is_there:
        (tmp_path / "run/log.jsonl").unlink()
    capsys.readouterr()
    train(root, tmp_path / "run", epochs=2, save_every=1)
    (line,) = [line for line in capsys.readouterr().out.splitlines() if line.startswith("epoch ")]
    log = [json.loads(line) for line in (tmp_path / "run/log.jsonl").read_text().splitlines()]
    values = [each["loss"] for each in log if each["epoch"] == 1]
    assert len(values) == (3 if log_is_there else 1)
    words = "epoch 2 of 2" if log_is_there else "epoch 2 of 2 from step 3 on"
    assert line.startswith(f"{words}: loss {sum(values) / len(values):.3f}, ")


@pytest.fixture(scope="module", params=[0, 2])
def whole(request, tmp_path_factory):
    """Every how many steps a checkpoint is written, the data, and the folder of an uninterrupted training."""
    folder = tmp_path_factory.mktemp("whole")
    root = small_cub.make(folder / "CUB")
    train(root, folder / "whole", save_every=request.param)
    return request.param, root, folder / "whole"


@pytest.mark.slow
@pytest.mark.parametrize("killed_at", [0, 1, 2, 4, 5, 8])
def test_resumed_weights_are_those_of_an_uninterrupted_training(whole, tmp_path, killed_at):
    save_every, root, folder = whole
    expected = weights(folder / "final.pth")
    calls = 0

    def dying(model, images, labels):
        nonlocal calls
        if calls == killed_at:
            raise KilledError
        calls += 1
        return losses(model, images, labels)

    with pytest.raises(KilledError):
        train(root, tmp_path / "run", save_every=save_every, loss=dying)
    resumed = weights(train(root, tmp_path / "run", save_every=save_every))
    assert all(torch.equal(expected[name], resumed[name]) for name in expected)
    assert (folder / "log.jsonl").read_text() == (tmp_path / "run/log.jsonl").read_text()


@pytest.mark.slow
def test_killed_with_sigkill(root, tmp_path):
    script = (
        "import os, sys\nfrom pathlib import Path\nfrom tests.common.pytorch.test_training import *\n"
        "left = int(sys.argv[3])\n"
        "def dying(model, images, labels):\n    global left\n    left -= 1\n"
        "    left or os.kill(os.getpid(), 9)\n    return losses(model, images, labels)\n"
        "train(Path(sys.argv[1]), Path(sys.argv[2]), save_every=1, loss=dying)\n"
    )
    command = [sys.executable, "-c", script, str(root), str(tmp_path / "run")]
    assert subprocess.run([*command, "6"], capture_output=True).returncode == -9
    assert subprocess.run([*command, "-1"], capture_output=True).returncode == 0
    whole = weights(train(root, tmp_path / "whole", save_every=1))
    resumed = weights(tmp_path / "run" / "final.pth")
    assert all(torch.equal(whole[name], resumed[name]) for name in whole)


def test_a_finished_training_returns_at_once(root, tmp_path):
    train(root, tmp_path / "run")
    assert train(root, tmp_path / "run", loss=None) == tmp_path / "run" / "final.pth"


def test_another_training_in_the_folder_is_refused(root, tmp_path):
    train(root, tmp_path / "run", lr=0.1, arch="a")
    with pytest.raises(UserError, match="holds another training: lr differ"):
        train(root, tmp_path / "run", lr=0.2, arch="a")
    (tmp_path / "run" / "final.pth").unlink()
    with pytest.raises(UserError, match="holds another training: arch, lr differ"):
        train(root, tmp_path / "run", lr=0.2, arch="b")


def test_the_record_of_images_is_of_the_training_that_is_there(root, tmp_path):
    """Where somebody deleted an earlier training's checkpoints and left its record, that record is not believed."""
    run = tmp_path / "run"
    other = DataSource("cub", root, "test").load().samples
    trained.note(run, other, {"name": "cub", "split": "test"})
    train(root, run, trained_on={"name": "cub", "split": "train"})
    record, dataset = trained.read(run / "final.pth"), DataSource("cub", root, "train").load()
    assert record.split == "train"
    assert record.among(dataset) == [sample.image_id for sample in dataset]
    (run / "final.pth").unlink()
    trained.note(run, other, {"name": "cub", "split": "test"}, anew=True)
    train(root, run, trained_on={"name": "cub", "split": "train"})  # goes on: what it was trained on is not asked again
    assert trained.read(run / "final.pth").split == "test"


def test_a_loss_that_is_not_finite_stops_with_advice(root, tmp_path):
    def diverging(model, images, labels):
        return {"loss": losses(model, images, labels)["loss"] * math.inf}

    with pytest.raises(UserError, match="the loss is inf at step 0.*Lower the learning rate"):
        train(root, tmp_path / "run", loss=diverging)


def test_an_unreadable_image_stops_with_its_name(root, tmp_path):
    path = root / "images/001.Red_Bird/bird_0.png"
    path.write_bytes(b"")
    with pytest.raises(UserError, match="bird_0.png: the file is empty"):
        train(root, tmp_path / "run")


def test_learning_rates_reach_the_optimizer(root, tmp_path):
    train(root, tmp_path / "run", epochs=1)
    stored = checkpoints.latest_step(tmp_path / "run")
    assert stored["optimizer"]["param_groups"][0]["lr"] == pytest.approx(0.1 / 3)


def test_bf16_trains_on_a_cpu_and_fp16_is_refused(root, tmp_path):
    samples = DataSource("cub", root, "train").load().samples
    for amp in ("bf16", "fp16"):
        model = tiny_model()
        optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
        loader = training_loader(samples, Augmentation(40, 32), 2, 1, 0)
        arguments = (
            model,
            optimizer,
            loader,
            losses,
            lambda epoch, step: [0.1],
            1,
            tmp_path / amp,
            {},
            Runtime(amp=amp),
        )
        if amp == "fp16":
            with pytest.raises(UserError, match="fp16 mixed precision needs CUDA"):
                fit(*arguments)
        else:
            assert fit(*arguments).is_file()


def test_devices():
    assert pick_device("cpu").type == "cpu"
    with pytest.raises(UserError, match="the device 'abacus' can't be used"):
        pick_device("abacus")
    if not torch.cuda.is_available():
        with pytest.raises(UserError, match=r"the device 'cuda:0' can't be used.*--device cpu"):
            pick_device("cuda:0")


def test_images_and_weights_of_a_step_are_laid_out_for_the_device(root, tmp_path):
    """On a CPU by channel, where batch norm's sums are exact."""
    seen = []

    def loss(model, images, labels):
        seen.extend([images.is_contiguous(), all(parameter.is_contiguous() for parameter in model.parameters())])
        return losses(model, images, labels)

    train(root, tmp_path, epochs=1, loss=loss)
    assert seen
    assert all(seen)
