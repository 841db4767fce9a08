"""Maps of a MobileNetV1: images a second of the dual-gradient map at one layer and at all, beside the forward pass.

    python -m benchmarks.maps

Beside them TensorFlow's, of the same weights at the same layers, where TensorFlow is installed, and Grad-CAM by the
package grad-cam (pytorch-grad-cam), where that is: `pip install grad-cam` into an environment of the benchmark's own.
Contenders take turns, and of each the quickest turn counts, in seconds of the processor: other work disturbs little.
"""

import importlib.util
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import torch
import tyro

from common.measuring.extraction import min_max
from common.pytorch import maps, twins
from common.pytorch.cam_classifier import CamClassifier
from common.pytorch.runtime import for_inference, pick_device
from common.system.errors import run_command
from common.tensorflow_files.architectures import LAYERS
from common.tensorflow_files.checkpoint import IMAGENET

ARCH = "mobilenetv1"
TOLERANCE = 1e-3
"""Mean difference of stretched maps between frameworks; see tests/cross/test_maps.py."""


@dataclass(frozen=True)
class Benchmark:
    """Compare maps a second with the forward pass, TensorFlow's and pytorch-grad-cam's."""

    layer: int = 4
    """Number in the released list; 2 is the release's default, 4 (Conv2d_9) the best one in the root README."""
    images: int = 16
    """Images in a batch; with fewer, PyTorch on one thread computes 1 x 1 convolutions by another, slower routine."""
    repeats: int = 5
    """Turns of each contender."""
    threads: int = 1
    """Threads of each framework."""
    device: str = "cpu"
    """Device of PyTorch: cpu, cuda or cuda:N."""


def contenders(options: Benchmark, pixels: np.ndarray) -> dict[str, Callable[[], np.ndarray | None]]:
    """Contenders that take turns, by name: functions that give the one layer's maps where they make any.

    Args:
        options: of the command.
        pixels: (N, 224, 224, 3) float32 RGB in [0, 255].
    """
    device = pick_device(options.device)
    torch.set_num_threads(options.threads)
    model = for_inference(twins.load(IMAGENET, ARCH), device)
    images = torch.from_numpy(pixels.transpose(0, 3, 1, 2).copy()).to(device) / 127.5 - 1
    images = images.contiguous(memory_format=torch.channels_last)
    layer, every = twins.layer(ARCH, options.layer), [twins.layer(ARCH, name) for name in LAYERS[ARCH]]
    one, all_of_them = maps.Mapper(model, ("dgl",), (layer,)), maps.Mapper(model, ("dgl",), every)
    grad_cam = maps.Mapper(model, ("grad-cam",), (layer,))

    def forward() -> None:
        with torch.inference_mode():
            model(images).scores.cpu()

    made = {
        "forward pass, PyTorch": forward,
        f"DGL at {layer}, PyTorch": lambda: one(images).maps["dgl", layer].cpu().numpy(),
        f"DGL at all {len(every)} layers, PyTorch": lambda: all_of_them(images).maps["dgl", layer].cpu().numpy(),
        f"Grad-CAM at {layer}, PyTorch": lambda: _nothing(grad_cam(images).maps["grad-cam", layer].cpu()),
    }
    if importlib.util.find_spec("pytorch_grad_cam") is not None:
        made[f"Grad-CAM at {layer}, pytorch-grad-cam"] = _other_grad_cam(model, layer, images)
    if importlib.util.find_spec("tensorflow") is not None:
        made |= _in_tensorflow(options, pixels)
    return made


def _nothing(_values: torch.Tensor) -> None:
    """Result of a contender whose maps are not compared."""


def _other_grad_cam(model: CamClassifier, layer: str, images: torch.Tensor) -> Callable[[], None]:
    from pytorch_grad_cam import GradCAM

    class Scores(torch.nn.Module):
        """The scores alone, which that package takes."""

        def __init__(self):
            super().__init__()
            self.model = model

        def forward(self, values: torch.Tensor) -> torch.Tensor:
            return self.model(values).scores

    other = GradCAM(Scores().eval(), [model.get_submodule(layer)])
    return lambda: _nothing(other(input_tensor=images, targets=None))


def _in_tensorflow(options: Benchmark, pixels: np.ndarray) -> dict[str, Callable[[], np.ndarray | None]]:
    from dgl_tf import localization, registry, sessions, weights

    tf = sessions.tf
    placeholder = tf.placeholder(tf.float32, [None, None, None, 3])
    checkpoint = weights.open_checkpoint(weights.IMAGENET)
    network = registry.build_for(checkpoint, ARCH, registry.normalized(placeholder))
    session = sessions.session(options.threads)
    registry.load(session, network, checkpoint)
    fed = {placeholder: pixels[..., ::-1]}
    (one,) = localization.dual_gradients(network, [options.layer])
    every = [found.localization for found in localization.dual_gradients(network, list(LAYERS[ARCH]))]
    return {
        "forward pass, TensorFlow": lambda: _nothing(session.run(network.logits, fed)),
        f"DGL at {one.layer}, TensorFlow": lambda: session.run(one.localization, fed),
        f"DGL at all {len(every)} layers, TensorFlow": lambda: session.run(every, fed)[options.layer],
    }


def measure(turns: dict[str, Callable[[], np.ndarray | None]], repeats: int) -> tuple[dict[str, float], dict]:
    """Least seconds of each contender, and its maps; each has one turn first that doesn't count."""
    results = {name: turn() for name, turn in turns.items()}
    seconds = dict.fromkeys(turns, float("inf"))
    clock = time.perf_counter if torch.cuda.is_available() else time.process_time
    for _ in range(repeats):
        for name, turn in turns.items():
            start = clock()
            turn()
            seconds[name] = min(seconds[name], clock() - start)
    return seconds, {name: result for name, result in results.items() if result is not None}


def main() -> int:
    """Run the command line; 1 where maps differ by more than the tolerance."""
    options = tyro.cli(Benchmark, prog="python -m benchmarks.maps", description=__doc__)
    coarse = np.random.RandomState(0).rand(options.images, 28, 28, 3)
    pixels = (255 * coarse.repeat(8, axis=1).repeat(8, axis=2)).astype(np.float32)
    seconds, results = measure(contenders(options, pixels), options.repeats)
    for name, spent in seconds.items():
        bare = seconds["forward pass, TensorFlow" if name.endswith("TensorFlow") else "forward pass, PyTorch"]
        print(f"{name:<50} {options.images / spent:8.1f} images/s {spent / bare:6.2f} forward passes")
    for package in ("tensorflow", "pytorch_grad_cam"):
        if importlib.util.find_spec(package) is None:
            print(f"{package} is not installed here: left out")
    first = next(iter(results.values()))
    apart = max(np.abs(min_max(a) - min_max(b)).mean() for r in results.values() for a, b in zip(first, r, strict=True))
    print(f"maps apart by {apart:.1e} in the mean")
    return int(apart > TOLERANCE)


if __name__ == "__main__":
    sys.exit(run_command(main))
