"""Time that `wsol.load(...)(photograph)` takes on a warm model, beside decoding and the forward pass that it needs.

    python -m benchmarks.localize

`many` takes eight photographs at a time. Contenders take turns, and of each the quickest turn counts, in seconds of the
processor and by the clock: with one thread there is nothing to overlap but decoding.
"""

import time
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path

import torch
import tyro

import wsol
from common.measuring.geometry import Frame
from common.pictures.images import read_photograph
from common.pytorch.data import channels_first, frame_pixels, normalized
from common.system.errors import run_command


@dataclass(frozen=True)
class Benchmark:
    """Compare a call, and `many`, with decoding and the forward pass alone."""

    images: int = 16
    """Photographs a turn."""
    repeats: int = 5
    """Turns of each contender."""
    threads: int = 1
    """Threads of PyTorch."""


def main() -> None:
    """Print seconds a photograph and how many times the floor they are."""
    options = tyro.cli(Benchmark, prog="python -m benchmarks.localize", description=__doc__)
    torch.set_num_threads(options.threads)
    data = Path(find_spec("skimage").submodule_search_locations[0]) / "data"
    paths = [data / "chelsea.png", data / "coffee.png"] * (options.images // 2)
    localize = wsol.load("imagenet:mobilenet_v1", device="cpu")
    method = localize.method
    model = method.of_choice.model

    @torch.no_grad()
    def floor() -> None:
        for path in paths:
            image = read_photograph(path)
            pixels = channels_first(frame_pixels(image, Frame.squash(image.shape[1::-1])))[None]
            model(normalized(pixels, model.mean, model.std, torch.device("cpu")))

    contenders = {
        "decoding and the forward pass": floor,
        "a call": lambda: [localize(path) for path in paths],
        "many, 8 at a time": lambda: list(localize.many(paths, batch_size=8)),
    }
    taken: dict[str, list[tuple[float, float]]] = {name: [] for name in contenders}
    for turn in range(options.repeats + 1):
        for name, run in contenders.items():
            clock, processor = time.perf_counter(), time.process_time()
            run()
            if turn:  # the first warms up
                taken[name].append((time.process_time() - processor, time.perf_counter() - clock))
    best = {name: [min(column) / len(paths) for column in zip(*turns, strict=True)] for name, turns in taken.items()}
    for name, (processor, clock) in best.items():
        times = processor / best["decoding and the forward pass"][0]
        print(
            f"{name}: {1000 * processor:.1f} ms of the processor ({times:.2f} times the floor), {1000 * clock:.1f} ms"
        )


if __name__ == "__main__":
    run_command(main)
