"""Checkpoints: read without ever unpickling code, written whole, the last two kept.

A checkpoint of this project is a dict of tensors and plain values:
`format`, `config` (plain values: what was trained and how), `model` (state dict), and while training goes on
`optimizer`, `scaler`, `random`, `epoch`, `step`.
"""

import io
import pickle
import re
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from common.errors import UserError
from common.files import write_atomically

FORMAT = 1
KEPT = 2


def read(path: Path) -> Any:
    """What `torch.load` gives for tensors and plain values; anything else in the file is refused, not run.

    Raises:
        UserError: missing, damaged, or a file that would run code when unpickled.
    """
    try:
        return torch.load(path, map_location="cpu", weights_only=True)
    except FileNotFoundError as error:
        raise UserError("no such checkpoint", where=path) from error
    except pickle.UnpicklingError as error:
        raise UserError(
            "the file holds more than tensors and plain values, and loading that would run code from it",
            where=path,
            expected="a state dict",
            do="don't load it; if you trust it, save its state_dict() alone on another machine",
        ) from error
    except (OSError, RuntimeError, EOFError, ValueError, KeyError, AttributeError, IndexError, TypeError) as error:
        reason = str(error).splitlines()[0] if str(error) else type(error).__name__
        raise UserError(f"not a readable checkpoint ({reason})", where=path) from error


def read_state_dict(path: Path) -> dict[str, Tensor]:
    """A state dict, from a file that is one or holds one under `state_dict` or `model`.

    Raises:
        UserError: as `read`, or no state dict in it.
    """
    content = read(path)
    for key in ("state_dict", "model"):
        if isinstance(content, dict) and isinstance(content.get(key), dict):
            content = content[key]
    if not isinstance(content, dict) or not content or not all(isinstance(v, Tensor) for v in content.values()):
        raise UserError("no state dict in this file", where=path, expected="tensors by name")
    return dict(content)


def read_trained(path: Path, method: str) -> tuple[dict[str, Any], dict[str, Tensor]]:
    """The configuration and state dict of one of this project's own checkpoints.

    Raises:
        UserError: as `read`, or a checkpoint of something else.
    """
    content = read(path)
    if not isinstance(content, dict) or content.get("format") != FORMAT or "config" not in content:
        raise UserError("not a checkpoint of this project", where=path)
    if content["config"].get("method") != method:
        raise UserError(
            f"a checkpoint of {content['config'].get('method')!r}", where=path, expected=f"one of {method!r}"
        )
    return content["config"], content["model"]


def load_strictly(model: nn.Module, state: dict[str, Tensor], where: Path) -> None:
    """`load_state_dict`, with names and shapes that differ in the message.

    Raises:
        UserError: a name is missing or unexpected, or a shape differs.
    """
    own = model.state_dict()
    missing = [name for name in own if name not in state]
    unexpected = [name for name in state if name not in own]
    reshaped = [
        f"{name} {tuple(state[name].shape)} for {tuple(own[name].shape)}"
        for name in own
        if name in state and own[name].shape != state[name].shape
    ]
    complaints = [
        f"{len(names)} {what} ({', '.join(names[:3])}{' ...' if len(names) > 3 else ''})"
        for names, what in ((missing, "missing"), (unexpected, "unexpected"), (reshaped, "of another shape"))
        if names
    ]
    if complaints:
        raise UserError(f"the checkpoint is of another network: {'; '.join(complaints)}", where=where)
    model.load_state_dict(state)


def write(path: Path, content: dict[str, Any]) -> None:
    """Save a checkpoint whole or not at all."""
    buffer = io.BytesIO()
    torch.save({"format": FORMAT, **content}, buffer)
    write_atomically(path, lambda file: file.write(buffer.getbuffer()))


def write_step(folder: Path, step: int, content: dict[str, Any]) -> None:
    """Save `step-<number>.pth` and delete all but the last `KEPT`."""
    write(folder / f"step-{step:08d}.pth", content)
    for old in _steps(folder)[:-KEPT]:
        old.unlink(missing_ok=True)


def latest_step(folder: Path) -> dict[str, Any] | None:
    """The newest `step-<number>.pth`, or None; a damaged one is named and the one before it taken.

    Raises:
        UserError: all of them are damaged.
    """
    problems = []
    for path in reversed(_steps(folder)):
        try:
            return read(path)
        except UserError as problem:
            problems.append(problem)
            print(f"warning: {problem}")
    if problems:
        raise UserError("none of the checkpoints can be read", where=folder, do="delete them to start anew")
    return None


def _steps(folder: Path) -> list[Path]:
    if not folder.is_dir():
        return []
    return sorted(path for path in folder.iterdir() if re.fullmatch(r"step-\d+\.pth", path.name))
