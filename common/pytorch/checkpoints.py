"""Checkpoints: read without ever unpickling code, written whole, the last two kept.

A checkpoint of this project is a dict of tensors and plain values:
`format`, `config` (plain values: what was trained and how), `model` (state dict), and while training goes on
`optimizer`, `scaler`, `random`, `epoch`, `step`.
"""

import io
import pickle
import re
import warnings
import zipfile
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from common.pytorch import foreign_files, pickles, state_dicts
from common.pytorch.state_dicts import UNUSED
from common.system.errors import UserError
from common.system.files import need_file, write_atomically
from common.weights import check_safetensors_names

FORMAT = 1
KEPT = 2
MOST_UNPACKED = 10
"""Times its own size that a file may unpack to."""


def read(path: Path) -> Any:
    """Read tensors and plain values, as `torch.load` gives them; anything else in the file is refused, not run.

    Raises:
        UserError: missing, damaged, a file that would run code when unpickled, or one that unpacks to much more than
            it is.
    """
    need_file(path)
    if path.is_file() and _is_safetensors(path):
        return _read_safetensors(path)
    foreign_files.refuse(path)
    _refuse_bomb(path)
    try:
        _check_pickles(path)
        with warnings.catch_warnings(), torch.serialization.safe_globals(state_dicts.NUMPY_SCALARS):
            warnings.simplefilter("ignore")  # of pickles of another protocol, which are then refused
            return torch.load(_in_protocol_2(path), map_location="cpu", weights_only=True)
    except FileNotFoundError as error:
        raise UserError(
            "no such checkpoint", where=path, do="name the file that a training wrote, final.pth"
        ) from error
    except pickle.UnpicklingError as error:
        if not _begins_as_pickle(path):
            raise UserError("not a checkpoint", where=path, expected="what torch.save writes",
                            do="fetch it again") from error  # fmt: skip
        names = _global_names(path)
        held = f" ({', '.join(names[:3])}{' ...' if len(names) > 3 else ''})" if names else ""
        raise UserError(
            f"the file holds more than tensors and plain values{held}, and loading that would run code from it",
            where=path,
            expected="a state dict",
            do="don't load it; if you trust it, save its state_dict() alone on another machine",
        ) from error
    except Exception as error:  # torch's reader of tensors and plain values fails in many ways on a damaged file
        raise UserError(f"not a readable checkpoint ({_reason(error)})", where=path,
                        do="name the file that a training wrote, or fetch it again") from error  # fmt: skip


def _check_pickles(path: Path) -> None:
    """Every pickle that torch would read: in a zip those called `data.pkl`, in an older file the five it begins with.

    Raises:
        ValueError: one of them would end Python or keep it for hours, or is damaged.
    """
    with open(path, "rb") as file:
        if file.read(4) != b"PK\x03\x04":
            file.seek(0)
            for _ in range(5):
                if file.peek(1):  # a single pickle is none of torch's, which its reader will say
                    pickles.check(file)
            return
    with zipfile.ZipFile(path) as archive:
        for member in archive.infolist():
            if member.filename.lower().endswith("data.pkl"):
                pickles.check(archive.read(member))


def _in_protocol_2(path: Path) -> Path | io.BytesIO:
    """The file, or where its pickle is of a later protocol, which torch's safe reader lacks, a copy in memory."""
    with open(path, "rb") as file:
        if file.read(4) != b"PK\x03\x04":
            return path
    with zipfile.ZipFile(path) as archive:
        later = {member: archive.read(member) for member in archive.infolist() if member.filename.endswith("/data.pkl")}
        later = {
            member: content
            for member, content in later.items()
            if content[:2] in (b"\x80\x03", b"\x80\x04", b"\x80\x05")
        }
        if not later:
            return path
        copy = io.BytesIO()
        with zipfile.ZipFile(copy, "w") as made:
            for member in archive.infolist():
                content = pickles.as_protocol_2(later[member]) if member in later else archive.read(member)
                made.writestr(member.filename, content)
    copy.seek(0)
    return copy


def _global_names(path: Path) -> list[str]:
    """Classes and functions in a file's pickle that are none of torch's and numpy's for tensors and numbers."""
    try:
        if zipfile.is_zipfile(path):
            with zipfile.ZipFile(path) as archive:
                found = [name for member in archive.namelist() if member.endswith("data.pkl")
                         for name in pickles.global_names(archive.read(member))]  # fmt: skip
        else:
            with open(path, "rb") as file:
                found = [name for _ in range(5) if file.peek(1) for name in pickles.global_names(file)]
    except Exception:  # a damaged one, which is being refused already
        return []
    known = re.compile(
        r"torch(\._utils\._rebuild_\w+|\.\w+Storage)|collections\.OrderedDict|numpy\S*\.(scalar|dtype)|_codecs\.encode"
    )
    return [name[:60] for name in dict.fromkeys(found) if not known.fullmatch(name)]


def _is_safetensors(path: Path) -> bool:
    """Whether a file begins with a header of JSON after its length, as safetensors' do."""
    with open(path, "rb") as file:
        length, brace = int.from_bytes(file.read(8), "little"), file.read(1)
    return brace == b"{" and length <= path.stat().st_size


def _read_safetensors(path: Path) -> dict[str, Tensor]:
    from safetensors.torch import load_file

    try:
        state = load_file(path)
        check_safetensors_names(path)
    except Exception as error:  # the library's own error is a bare Exception
        raise UserError(f"not a readable safetensors file ({_reason(error)})", where=path) from error
    return state


def _begins_as_pickle(path: Path) -> bool:
    """Whether the file is a pickle, bare or in a zip, by its first bytes."""
    with open(path, "rb") as file:
        return file.read(2).startswith((b"\x80", b"PK"))


def _reason(error: Exception) -> str:
    """The first line of an error's text, without torch's advice to unpickle."""
    text = (str(error).splitlines() or [""])[0]
    if "weights_only" in text:
        return "it would have to be unpickled, which can run code"
    return text or type(error).__name__


def _refuse_bomb(path: Path) -> None:
    """torch's files are stored, not compressed; one that was packed to unpack to much more is no checkpoint."""
    try:
        with zipfile.ZipFile(path) as archive:
            unpacked = sum(member.file_size for member in archive.infolist())
    except Exception:  # no zip, which torch's own reader will say
        return
    if unpacked > MOST_UNPACKED * max(path.stat().st_size, 2**20):
        raise UserError(f"the file unpacks to {unpacked:,} bytes", where=path, expected="a file that torch.save wrote")


def read_state_dict(path: Path) -> dict[str, Tensor]:
    """The state dict of a file, out of the wrappers and prefixes that `state_dicts.find` knows.

    Raises:
        UserError: as `read`, or no state dict in it.
    """
    return state_dict_of(read(path), path)


def state_dict_of(content: Any, path: Path) -> dict[str, Tensor]:
    """The state dict in what `read` gave of `path`, as `read_state_dict` finds it."""
    state = state_dicts.find(content, path)
    _check_tensors(state, path)
    return state


def is_own(content: Any) -> bool:
    """Whether `read` gave a checkpoint of this project."""
    return isinstance(content, dict) and "format" in content and "config" in content


def _check_tensors(state: dict[Any, Tensor], where: Path) -> None:
    """Refuse tensors that say they are larger than the numbers that the file holds, or that hold none."""
    for name, value in state.items():
        plain = isinstance(name, str) and value.layout == torch.strided and value.device.type == "cpu"
        plain = plain and not value.is_quantized
        if not plain or value.numel() * value.element_size() > value.untyped_storage().nbytes():
            raise UserError(f"the tensor {name!r} is not plain numbers of its shape", where=where,
                            expected="a state dict")  # fmt: skip


def read_trained(path: Path, method: str) -> tuple[dict[str, Any], dict[str, Tensor]]:
    """The configuration and state dict of one of this project's own checkpoints.

    Raises:
        UserError: as `read`, or a checkpoint of something else.
    """
    content = read(path)
    if not isinstance(content, dict) or content.get("format") != FORMAT or not isinstance(content.get("config"), dict):
        raise UserError("not a checkpoint of this project", where=path)
    config, state = content["config"], content.get("model")
    if config.get("method") != method:
        raise UserError(f"a checkpoint of {config.get('method')!r}", where=path, expected=f"one of {method!r}")
    wrong = [name for name, kind in _CONFIG.items() if name in config and not isinstance(config[name], kind)]
    if wrong or not all(isinstance(name, str) for name in config.get("class_names", ())):
        raise UserError(f"the checkpoint's {(wrong or ['class_names'])[0]} is of another kind", where=path)
    if not isinstance(state, dict) or not all(isinstance(value, Tensor) for value in state.values()):
        raise UserError("no state dict in this checkpoint", where=path)
    _check_tensors(state, path)
    return config, state


_CONFIG = {"architecture": str, "class_names": list | tuple, "options": dict, "variant": str}
"""Types of a configuration's entries, where they are there."""


def need(config: dict[str, Any], where: Path, *names: str) -> None:
    """Make sure that a configuration has some entries.

    Raises:
        UserError: it lacks one.
    """
    if lacking := [name for name in names if name not in config]:
        raise UserError(f"the checkpoint does not say its {' and '.join(lacking)}", where=where)


def outputs(state: dict[str, Tensor], name: str, where: Path) -> int:
    """Number of classes that a head's weight, `state[name]`, gives scores for.

    Raises:
        UserError: there is no such tensor, or it has no rows.
    """
    if name not in state or state[name].ndim == 0 or len(state[name]) == 0:
        raise UserError("the head is missing", where=where, expected=f"a tensor {name} with a row for each class")
    return len(state[name])


def load_strictly(model: nn.Module, state: dict[str, Tensor], where: Path) -> None:
    """`load_state_dict`, with names and shapes that differ in the message.

    Raises:
        UserError: a name is missing or unexpected, a shape differs, or a number is none.
    """
    own = model.state_dict()
    missing = [name for name in own if name not in state and not name.endswith(UNUSED)]
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
    for name, value in state.items():
        if value.is_complex() or not bool(torch.isfinite(value.to(torch.float32)).all()):
            raise UserError(f"{name} holds NaN, infinity or complex numbers", where=where, do="take another checkpoint")
    model.load_state_dict({**{name: own[name] for name in own if name.endswith(UNUSED)}, **state})


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
