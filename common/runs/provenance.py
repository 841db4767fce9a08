"""Provenance of a result: the command, versions, commit and machine of each process that had a part in it."""

import functools
import hashlib
import importlib.metadata
import json
import os
import platform
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

from common.datasets import classes
from common.system.files import read_json, write_json
from common.tensorflow_files import converted
from common.tensorflow_files.converted import Converted

TRAINING, PROCESSES = "training.json", "processes.json"
"""Files of a training's folder: what identifies it, and the processes that made it."""

_VERSIONED = (
    "numpy", "opencv-python-headless", "opencv-python", "opencv-contrib-python-headless", "opencv-contrib-python",
    "pillow", "torch", "torchvision", "timm", "tensorflow", "tensorflow-cpu", "tensorpack", "matplotlib",
)  # fmt: skip


def provenance() -> dict[str, Any]:
    """Versions, commit and command of this process, for a manifest; a run that goes on need not have the same ones."""
    return {
        "command": _command(),
        "versions": dict(_versions()),
        "git_commit": _git_commit(),
        "machine": f"{platform.machine()} {platform.system()}",
    }


def training_of(config: dict[str, Any]) -> dict[str, Any] | None:
    """A training's seed, and a digest of all else that it was told; trainings that differ in the seed alone share it.

    Args:
        config: `method`, `architecture`, `class_names`, `trained_on` and `options`, as checkpoints hold them.

    Returns:
        `seed` and `recipe`, None where the checkpoint does not say its options.
    """
    options = config.get("options")
    if not isinstance(options, dict) or options.get("seed") is None:
        return None
    told = {name: config.get(name) for name in ("method", "architecture", "class_names")}
    told["images"] = (config.get("trained_on") or {}).get("fingerprint")
    told["options"] = {name: value for name, value in options.items() if name != "seed"}
    text = json.dumps(told, sort_keys=True, default=str)
    return {"seed": options["seed"], "recipe": hashlib.sha256(text.encode()).hexdigest()}


def known_of(checkpoint: Path | str) -> Converted:
    """Facts about a TensorFlow checkpoint that lie beside it: in its own record, else in its training's.

    Args:
        checkpoint: a file, a checkpoint's prefix, a training's folder, or `imagenet:<arch>`, of which nothing is known.
    """
    told, place = converted.read(checkpoint), Path(checkpoint)
    path = (place if place.is_dir() else place.parent) / TRAINING
    record = None if str(checkpoint).startswith("imagenet:") or not path.is_file() else read_json(path)
    if not isinstance(record, dict):
        return told
    return replace(
        told, class_names=told.class_names or classes.names_of(record), training=told.training or training_of(record)
    )


def _command() -> dict[str, Any]:
    """Command line of this process, and its folder; `processes` is how many of them torchrun or horovodrun started."""
    spec = getattr(sys.modules["__main__"], "__spec__", None)
    return {
        "module": None if spec is None else spec.name,
        "arguments": sys.argv[1:],
        "folder": os.getcwd(),
        "processes": int(os.environ.get("WORLD_SIZE") or os.environ.get("HOROVOD_SIZE", "1")),
    }


def note_process(folder: Path) -> None:
    """Add this process to `processes.json`, which a training's folder has in place of a manifest."""
    path = folder / PROCESSES
    earlier = read_json(path)["processes"] if path.is_file() else []
    write_json(path, {"processes": [*earlier, provenance()]})


@functools.cache
def _versions() -> dict[str, str]:
    versions = {"python": platform.python_version()}
    for package in _VERSIONED:
        try:
            versions[package] = importlib.metadata.version(package)
        except importlib.metadata.PackageNotFoundError:
            continue
    return versions


@functools.cache
def _git_commit() -> str | None:
    """This repository's commit, with `-dirty` where tracked files differ from it; None outside a checkout.

    Asked once: what a process has imported stays as it was, whatever is committed later.
    """
    here = Path(__file__).resolve().parent
    try:
        said = subprocess.run(
            ["git", "describe", "--always", "--dirty", "--abbrev=40", "--exclude=*"],
            cwd=here, capture_output=True, text=True, timeout=10, check=True,
        )  # fmt: skip
    except (OSError, subprocess.SubprocessError):
        return None
    return said.stdout.strip() or None
