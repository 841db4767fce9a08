"""One training in several processes, started by torchrun; without torchrun nothing here does anything.

    torchrun --nproc_per_node 4 -m bas.train ...

Each process takes its share of every batch. Gradients and logged losses are means over processes, of equal weight.
"""

import os
from collections.abc import Iterator
from contextlib import contextmanager

import torch
import torch.distributed as dist

from common.system.errors import UserError


def world_size() -> int:
    """Number of processes that train together."""
    return dist.get_world_size() if dist.is_initialized() else 1


def rank() -> int:
    """Number of this process, torchrun's before and after the group is there; 0 writes files and shows progress."""
    return dist.get_rank() if dist.is_initialized() else int(os.environ.get("RANK", "0"))


@contextmanager
def processes(device: torch.device) -> Iterator[torch.device]:
    """Join the other processes for as long as the block lasts; gives this process's device.

    Args:
        device: as chosen for the command; on CUDA each process takes the GPU of its local rank.
    """
    if int(os.environ.get("WORLD_SIZE", "1")) == 1:
        yield device
        return
    if device.type == "cuda":
        local = int(os.environ["LOCAL_RANK"])
        if local >= torch.cuda.device_count():
            raise UserError(f"process {local} has no GPU, there are {torch.cuda.device_count()}",
                            do="start as many processes as GPUs with torchrun --nproc_per_node")  # fmt: skip
        device = torch.device("cuda", local)
        torch.cuda.set_device(device)
    dist.init_process_group("nccl" if device.type == "cuda" else "gloo")
    try:
        yield device
    finally:
        dist.destroy_process_group()


def averaged(values: dict[str, float], device: torch.device) -> dict[str, float]:
    """Named numbers, the mean over all processes."""
    if world_size() == 1:
        return values
    numbers = torch.tensor(list(values.values()), dtype=torch.float64, device=device)
    dist.all_reduce(numbers)
    return dict(zip(values, (numbers / world_size()).tolist(), strict=True))


def wait_for_all() -> None:
    """Return when every process has come here."""
    if world_size() > 1:
        dist.barrier()
