"""Time that `wsol.load(...)(photograph)` takes on a warm model, beside decoding and the forward pass that it needs.

    python -m benchmarks.localize
    python -m benchmarks.localize --threads 2 --networks resnet18 efficientnet_lite0

`many` takes eight photographs at a time. Contenders take turns, and of each the quickest turn counts, in seconds of the
processor and by the clock: with one thread there is nothing to overlap but decoding.
"""

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path

import torch
import tyro
from torch import nn

import wsol
from common.measuring.geometry import Frame
from common.pictures.images import read_photograph
from common.pytorch.data import channels_first, frame_pixels, normalized
from common.system.errors import run_command
from wsol.localizer import Localizer


@dataclass(frozen=True)
class Benchmark:
    """Compare a call, and `many`, with decoding and the forward pass alone."""

    images: int = 8
    """Photographs a turn."""
    repeats: int = 15
    """Turns of each contender."""
    threads: int = 1
    """Threads of PyTorch."""
    networks: tuple[str, ...] = ()
    """Classifiers of timm, of random weights, that are timed after MobileNetV1."""


def main() -> None:
    """Print, for each network, milliseconds a photograph and how many times the floor they are."""
    options = tyro.cli(Benchmark, prog="python -m benchmarks.localize", description=__doc__)
    torch.set_num_threads(options.threads)
    data = Path(find_spec("skimage").submodule_search_locations[0]) / "data"
    paths = [data / "chelsea.png", data / "coffee.png"] * (options.images // 2)
    ours = wsol.load("imagenet:mobilenet_v1", device="cpu")
    model = ours.method.of_choice.model
    compare("imagenet:mobilenet_v1", ours, floor_of(model, model.mean, model.std, paths), paths, options.repeats)
    for name in options.networks:
        import timm

        network = timm.create_model(name, pretrained=False)
        localize = wsol.cam(network, device="cpu")
        # Mean and deviation are ImageNet's here: they cost the same, whatever they are.
        compare(name, localize, floor_of(network, model.mean, model.std, paths), paths, options.repeats)


def floor_of(
    model: nn.Module, mean: Sequence[float], std: Sequence[float], paths: Sequence[Path]
) -> Callable[[], None]:
    """Decoding and the forward pass alone, one photograph at a time."""

    @torch.no_grad()
    def floor() -> None:
        for path in paths:
            image = read_photograph(path)
            pixels = channels_first(frame_pixels(image, Frame.squash(image.shape[1::-1])))[None]
            model(normalized(pixels, mean, std, torch.device("cpu")))

    return floor


def compare(name: str, localize: Localizer, floor: Callable[[], None], paths: Sequence[Path], repeats: int) -> None:
    """Print what each of the three costs."""
    contenders: dict[str, Callable[[], object]] = {
        "decoding and the forward pass": floor,
        "a call": lambda: [localize(path) for path in paths],
        "many, 8 at a time": lambda: list(localize.many(paths, batch_size=8)),
    }
    taken: dict[str, list[tuple[float, float]]] = {contender: [] for contender in contenders}
    for turn in range(repeats + 1):
        for contender, run in contenders.items():
            clock, processor = time.perf_counter(), time.process_time()
            run()
            if turn:  # the first warms up
                taken[contender].append((time.process_time() - processor, time.perf_counter() - clock))
    best = {each: [min(column) / len(paths) for column in zip(*turns, strict=True)] for each, turns in taken.items()}
    print(name)
    for contender, (processor, clock) in best.items():
        times = processor / best["decoding and the forward pass"][0]
        print(
            f"  {contender}: {1000 * processor:.1f} ms of the processor ({times:.2f} times the floor), "
            f"{1000 * clock:.1f} ms"
        )
    print(f"  photographs of many in the time of one of a loop: {best['a call'][1] / best['many, 8 at a time'][1]:.2f}")


if __name__ == "__main__":
    run_command(main)
