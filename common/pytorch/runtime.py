"""The machine's side of a PyTorch command: device, seeds, memory."""

import ctypes
import random
import sys
from collections.abc import Callable
from dataclasses import dataclass
from typing import Annotated, Literal, TypeVar

import numpy as np
import torch
from torch import nn

from common.system.errors import UserError
from common.system.options import also

Network = TypeVar("Network", bound=nn.Module)


@dataclass(frozen=True)
class Runtime:
    """Running of a training on the machine; none of it is meant to change the numbers, `amp` and `seed` excepted."""

    device: Annotated[str, also("device")] = "auto"
    """auto, cpu, cuda or cuda:N."""
    workers: Annotated[int, also("workers")] = 2
    """Processes that load images."""
    seed: Annotated[int | None, also("seed")] = None
    """Seed of weights, order, augmentation and dropout; the method's own if omitted, else 0."""
    amp: Annotated[Literal["off", "fp16", "bf16"], also("amp")] = "off"
    """Mixed precision; fp16 needs CUDA."""
    save_every: Annotated[int, also("save-every")] = 0
    """Steps between checkpoints; 0 saves after each epoch only."""
    compile: Annotated[bool, also("compile")] = False
    """Run the step through torch.compile."""


def pick_device(name: str) -> torch.device:
    """A device by name; `auto` is CUDA where there is one.

    Raises:
        UserError: no such device.
    """
    if name == "auto":
        name = "cuda" if torch.cuda.is_available() else "cpu"
    try:
        device = torch.device(name)
        torch.empty(1, device=device)
    except (RuntimeError, AssertionError, NotImplementedError) as error:
        reason = str(error).splitlines()[0]
        raise UserError(f"the device {name!r} can't be used ({reason})", do="say --device cpu") from error
    if device.type == "cpu":
        keep_freed_memory()
    return device


def precision(device: torch.device, amp: str) -> torch.autocast:
    """The context in which a network runs: mixed precision, or with `off` none.

    Raises:
        UserError: fp16 on another device than CUDA.
    """
    if amp == "fp16" and device.type != "cuda":
        raise UserError("fp16 mixed precision needs CUDA", do="say --amp bf16 or off")
    dtype = {"fp16": torch.float16, "bf16": torch.bfloat16}.get(amp, torch.float32)
    return torch.autocast(device.type, dtype=dtype, enabled=amp != "off")


def for_inference(network: Network, device: torch.device) -> Network:
    """The same network in eval mode on a device, its weights laid out by pixel, as convolutions are fastest."""
    # Of the two at once torch has no type.
    return network.to(device, memory_format=torch.channels_last).eval()  # type: ignore[call-overload]


def training_layout(device: torch.device) -> torch.memory_format:
    """Memory layout of a training's weights and images on a device: by pixel on CUDA, by channel elsewhere.

    By pixel, PyTorch's batch norm on a CPU sums a channel's variance in one float32 run: 1e-4 off at batch 32.
    """
    return torch.channels_last if device.type == "cuda" else torch.contiguous_format


def for_training(network: Network, device: torch.device) -> Network:
    """The same network in training mode on a device, its weights laid out as `training_layout` says."""
    return network.to(device, memory_format=training_layout(device)).train()  # type: ignore[call-overload]


def compiled(look: Callable) -> Callable:
    """A network, or a method of one, through torch.compile, for inference in eval mode.

    Its weights are taken as constants, so that batch norm is worked into the convolutions before it. Maps of CAM, BAS
    and SPOL moved by 5e-6 at most where it was tried, no box did. `benchmarks.spol` times it.
    """
    return torch.compile(look, options={"freezing": True})


def seed_everything(seed: int) -> None:
    """Seed Python's, numpy's and torch's generators."""
    random.seed(seed)
    np.random.seed(seed % 2**32)
    torch.manual_seed(seed)


def keep_freed_memory() -> None:
    """Ask glibc to keep the memory that tensors free instead of returning it to the system at once.

    Without this, each large activation is mapped and zeroed anew by the kernel, which takes about half the time of a
    MobileNet step on two cores. Elsewhere than on glibc nothing happens.
    """
    if not sys.platform.startswith("linux"):
        return
    try:
        mallopt = ctypes.CDLL("libc.so.6").mallopt
    except (OSError, AttributeError):
        return
    trim_threshold, top_pad, mmap_threshold = -1, -2, -3  # malloc.h
    mallopt(mmap_threshold, 32 * 2**20)
    mallopt(trim_threshold, 2**31 - 1)
    mallopt(top_pad, 256 * 2**20)
