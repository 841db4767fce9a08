"""Two processes under torchrun train as one process does with the whole batch."""

import json
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import torch
import torch.nn.functional as F
from torch import nn

from common.datasets import DataSource
from common.pytorch import checkpoints, distributed
from common.pytorch.data import Augmentation, EpochBatches, training_loader
from common.pytorch.runtime import Runtime, seed_everything
from common.pytorch.training import fit
from common.system.errors import UserError
from tests import small_cub

ROOT = Path(__file__).resolve().parents[3]


def losses(model, images, labels):
    return {"loss": F.cross_entropy(model(images.float() / 255), labels)}


def train(root, folder, **runtime):
    with distributed.processes(torch.device("cpu")):
        seed_everything(1)
        model = nn.Sequential(
            nn.Conv2d(3, 4, 3, stride=4), nn.ReLU(), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(4, 3)
        )
        optimizer = torch.optim.SGD(model.parameters(), lr=0.1, momentum=0.9)
        samples = DataSource("cub", root, "train").load().samples
        loader = training_loader(samples, Augmentation(40, 32), batch_size=2, seed=1, workers=0)
        return fit(model, optimizer, loader, losses, lambda epoch, step: [0.1], 3, folder, {}, Runtime(**runtime))


@pytest.mark.slow
def test_two_processes_are_one(tmp_path):
    root = small_cub.make(tmp_path / "CUB")
    one = checkpoints.read(train(root, tmp_path / "one"))["model"]
    script = "import sys\nfrom pathlib import Path\nfrom tests.common.pytorch.test_distributed import train\ntrain(Path(sys.argv[1]), Path(sys.argv[2]))\n"
    (tmp_path / "script.py").write_text(script)
    done = subprocess.run(
        [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc_per_node", "2", tmp_path / "script.py",
         root, tmp_path / "two"], cwd=ROOT, env={"PYTHONPATH": str(ROOT), "PATH": "", "OMP_NUM_THREADS": "1"},
        capture_output=True, text=True,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr[-3000:]
    two = checkpoints.read(tmp_path / "two/final.pth")["model"]
    for name, weights in one.items():
        torch.testing.assert_close(two[name], weights, rtol=1e-5, atol=1e-6)
    curves = [
        [json.loads(line)["loss"] for line in (tmp_path / name / "log.jsonl").read_text().splitlines()]
        for name in ("one", "two")
    ]
    assert curves[0] == pytest.approx(curves[1], rel=1e-5)


def test_shares_cover_the_batch_and_nothing_twice(monkeypatch):
    whole = list(EpochBatches(10, seed=3, batch_size=4))
    monkeypatch.setattr(distributed, "world_size", lambda: 2)
    shares = []
    for number in (0, 1):
        monkeypatch.setattr(distributed, "rank", lambda number=number: number)
        shares.append(list(EpochBatches(10, seed=3, batch_size=4)))
    assert [first + second for first, second in zip(*shares, strict=True)] == whole
    assert [len(share) for share in shares[0]] == [2, 2, 1]
    with pytest.raises(UserError, match="2 processes can't share a batch of 1"):
        EpochBatches(1, seed=3, batch_size=4)


def test_a_last_batch_of_one_image_is_left_out_and_that_is_said(monkeypatch, capsys):
    """Other images in other epochs, the same number of steps with any number of processes; nothing else is left out."""
    batches = EpochBatches(9, seed=3, batch_size=4)
    assert "of 9 images it leaves out one" in capsys.readouterr().out
    seen = []
    for epoch in range(3):
        batches.epoch = epoch
        each = list(batches)
        assert [len(batch) for batch in each] == [4, 4]
        seen.append(frozenset(index for batch in each for _, index in batch))
    assert len(set(seen)) > 1
    assert [EpochBatches(length, 3, 4).batches for length in (1, 8, 10, 11, 12)] == [1, 2, 3, 3, 3]
    assert EpochBatches(5, 3, 1).batches == 5
    assert capsys.readouterr().out == ""
    monkeypatch.setattr(distributed, "world_size", lambda: 2)
    assert EpochBatches(9, seed=3, batch_size=4).batches == 2


@pytest.mark.slow
@pytest.mark.skipif(not shutil.which("c++"), reason="torch.compile needs a C++ compiler, c++ is not on PATH")
def test_a_compiled_step_trains_the_same(tmp_path):
    root = small_cub.make(tmp_path / "CUB")
    plain, compiled = (
        checkpoints.read(train(root, tmp_path / str(flag), compile=flag))["model"] for flag in (False, True)
    )
    for name, weights in plain.items():
        torch.testing.assert_close(compiled[name], weights, rtol=1e-4, atol=1e-5)
