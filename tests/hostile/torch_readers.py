"""Readers of `readers.py` that need PyTorch: checkpoints, and what SPOL and GRCAM hand from step to step."""

from pathlib import Path
from typing import Any

import torch
from torch import nn

from common.pytorch import checkpoints
from spol import verdicts

CONFIG = {"method": "cam", "architecture": "mobilenet_v1", "class_names": ["a", "b"], "trained_on": {}}


def network() -> nn.Module:
    """What the good checkpoints hold."""
    return nn.Sequential(nn.Linear(3, 2), nn.BatchNorm1d(2))


def _load(name: str):
    def read(world: Path) -> None:
        checkpoints.load_strictly(network(), checkpoints.read_state_dict(world / name), world / name)

    return read


def _load_trained(world: Path) -> None:
    config, state = checkpoints.read_trained(world / "ours.pth", "cam")
    checkpoints.need(config, world / "ours.pth", "architecture", "class_names", "trained_on")
    checkpoints.load_strictly(network(), state, world / "ours.pth")


def _verdicts(name: str):
    def read(world: Path) -> Any:
        return verdicts.read(world / name).by_image

    return read


READERS = [
    ("torch-zip", "plain.pth", _load("plain.pth")),
    ("torch-legacy", "legacy.pth.tar", _load("legacy.pth.tar")),
    ("torch-ours", "ours.pth", _load_trained),
    ("verdicts-json", "classification.json", _verdicts("classification.json")),
    ("verdicts-npy", "top1top5.npy", _verdicts("top1top5.npy")),
]


def make(world: Path) -> None:
    """Their good files."""
    torch.manual_seed(0)
    state = network().state_dict()
    torch.save(state, world / "plain.pth")
    torch.save(state, world / "legacy.pth.tar", _use_new_zipfile_serialization=False)
    checkpoints.write(world / "ours.pth", {"config": CONFIG, "model": state})
    found = {f"{k}.jpg": verdicts.Verdict((k, 5), (0.75, 0.25)) for k in range(3)}
    verdicts.write_results(
        world / "classification.json",
        found,
        "efficientnet-b7",
        {},
        {"gone.jpg": "the file is empty"},
        dict.fromkeys(found, 1),
    )
    verdicts.write_npy(world / "top1top5.npy", found, dict.fromkeys(found, 1))
