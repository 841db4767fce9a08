"""State dicts as people save them: in wrappers, under prefixes, beside numpy's scalars, in half precision.

What is found is always said by name. Which of several state dicts is meant, or what a file without one holds, is never
guessed.
"""

import re
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
from torch import Tensor

from common.system.errors import UserError
from common.system.wording import number_of, some

WRAPPERS = ("state_dict", "model", "model_state_dict", "net", "network", "model_state", "weights", "params", "module")
"""Keys under which training scripts keep the state dict."""
AVERAGED = ("state_dict_ema", "model_ema", "ema", "ema_state_dict", "params_ema", "ema_model")
"""Keys of the weights' moving average, taken where a file holds nothing else."""
PREFIXES = ("module.", "_orig_mod.")
"""Prefixes that DataParallel, DistributedDataParallel and torch.compile put before every name."""
UNUSED = "num_batches_tracked"
"""Counter that batch norms with a momentum keep and don't use; files of old versions lack it."""
COUNTER = "n_averaged"
"""Counter of torch.optim.swa_utils.AveragedModel, which keeps the network's weights below `module.`."""
_DEEPEST = 3
_SHOWN = 6


def find(content: Any, where: Path) -> dict[str, Tensor]:
    """The state dict in what a file holds, its names without the prefixes of wrappers around the network.

    Args:
        content: of the file.
        where: for messages.

    Raises:
        UserError: none, or several, with what the file holds.
    """
    inner = content
    for _ in range(_DEEPEST):
        if _is_state_dict(inner):
            return without_prefixes(inner)
        held = [key for key in inner if isinstance(inner[key], dict)] if isinstance(inner, dict) else []
        plain = [key for key in WRAPPERS if key in held]
        averaged = [key for key in AVERAGED if key in held]
        if len(plain or averaged) != 1:
            break
        (taken,) = plain or averaged
        if plain and averaged:
            print(f"note: {where} holds {taken} and {' and '.join(averaged)}; {taken} is taken")
        inner = inner[taken]
    raise UserError(f"no state dict in this file, which holds {described(content)}", where=where,
                    expected=f"tensors by name, bare or under one of {', '.join(WRAPPERS[:4])}")  # fmt: skip


def _is_state_dict(content: Any) -> bool:
    return isinstance(content, dict) and bool(content) and all(isinstance(value, Tensor) for value in content.values())


def without_prefixes(state: dict[str, Tensor]) -> dict[str, Tensor]:
    """Take off the prefixes of `PREFIXES` that stand before every name."""
    while prefix := next((prefix for prefix in PREFIXES if all(str(name).startswith(prefix) for name in state)), None):
        state = {name.removeprefix(prefix): value for name, value in state.items()}
    return dict(state)


def of_network(state: dict[str, Tensor], wanted: Mapping[str, Tensor], where: Path) -> dict[str, Tensor]:
    """A network's weights in a state dict that holds them below a prefix, as Lightning's `model.`, beside others.

    They are taken where one prefix has all of the network's names below it and no others; what stands beside it, a
    loss's weights say, is left out and named. Otherwise those below the likeliest prefix are given, for `load_strictly`
    to name what differs.

    Args:
        state: as read.
        wanted: the network's own.
        where: for messages.

    Raises:
        UserError: several prefixes have the network's names.
    """
    if not any("_orig_mod." in name for name in wanted):
        state = {name.replace("_orig_mod.", ""): value for name, value in state.items()}
    below = {prefix: _below(state, prefix) for prefix in _prefixes(state, wanted)}
    needed = {name for name in wanted if not name.endswith(UNUSED)}
    whole = [prefix for prefix, part in below.items() if needed <= part.keys() <= wanted.keys()]
    if len(whole) > 1:
        raise UserError(f"the network's weights stand below {' and below '.join(map(repr, whole))}", where=where,
                        do="save those that are meant alone")  # fmt: skip
    if not whole:
        return max(below.values(), key=lambda part: len(part.keys() & wanted.keys()), default=state)
    (prefix,) = whole
    beside = [name for name in state if not name.startswith(prefix) and name != COUNTER]
    if beside or (prefix and prefix not in PREFIXES):
        left = f"; {number_of(len(beside), 'other is', 'others are')} left out ({some(beside)})"
        print(f"note: {where}: the network's weights are those below {prefix!r}{left if beside else ''}")
    return below[prefix]


def _prefixes(state: Mapping[str, Tensor], wanted: Mapping[str, Tensor]) -> list[str]:
    """Prefixes of the network's first and last name wherever one ends a name in a state dict, the empty one first."""
    endings = [name for name in wanted if not name.endswith(UNUSED)]
    ends = endings[:1] + endings[-1:]
    found = {name.removesuffix(ending) for ending in ends for name in state if name.endswith(ending)}
    return ["", *sorted(prefix for prefix in found if prefix.endswith("."))]


def _below(state: dict[str, Tensor], prefix: str) -> dict[str, Tensor]:
    return {name.removeprefix(prefix): value for name, value in state.items() if name.startswith(prefix)}


def described(content: Any) -> str:
    """Contents of a file, in a few words: `epoch (int), model (dict of 3)`."""
    if not isinstance(content, dict):
        return _kind(content)
    shown = [f"{str(key)[:40]} ({_kind(value)})" for key, value in list(content.items())[:_SHOWN]]
    more = [f"{len(content) - _SHOWN} more"] if len(content) > _SHOWN else []
    return ", ".join(shown + more) or "nothing"


def _kind(value: Any) -> str:
    if isinstance(value, dict | list | tuple):
        return f"{type(value).__name__} of {len(value)}"
    return "tensor" if isinstance(value, Tensor) else type(value).__name__


class _Dtype:
    """A numpy dtype as pickles name it, by its text alone; what else they say of it is passed over."""

    def __init__(self, text: str, *_: Any):
        self.text = text

    def __setstate__(self, _state: Any) -> None:
        """Called by unpicklers with the byte order, which single numbers of the machine's own need not."""


def _scalar(dtype: _Dtype, data: bytes) -> float:
    """A numpy scalar as a plain number, made of its bytes without any of numpy's own unpickling."""
    text = getattr(dtype, "text", None)
    if not (isinstance(text, str) and re.fullmatch(r"[<|=]?(b1|[iu][1248]|f[248])", text) and isinstance(data, bytes)):
        raise ValueError(f"a numpy scalar of {text!r}")
    kind = np.dtype(text)
    if len(data) != kind.itemsize:
        raise ValueError(f"a numpy scalar of {text!r} in {len(data)} bytes")
    return np.frombuffer(data, kind)[0].item()


NUMPY_SCALARS: list[Callable[..., Any] | tuple[Callable[..., Any], str]] = [
    (_scalar, "numpy.core.multiarray.scalar"), (_scalar, "numpy._core.multiarray.scalar"), (_Dtype, "numpy.dtype"),
]  # fmt: skip
"""Stand-ins that `torch.serialization.safe_globals` puts in the place of numpy's functions."""
