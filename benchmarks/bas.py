"""BAS: a training step, and one image with ten crops, against a plain re-enactment of the released procedure.

    python -m benchmarks.bas

The release deep-copies f2 at every forward and computes the suppressed pass at inference too; it picks scores and maps
image by image in Python, convolves the generator for all classes, and sends the map image and each crop through the
network one at a time. Both run on the same weights and images in processes of their own, one thread each; the numbers
that come out are compared.
"""

import copy
import multiprocessing
import resource
import time
from dataclasses import dataclass

import numpy as np
import torch
import torch.nn.functional as F
import tyro
from torch import Tensor, nn

from bas import losses
from bas.backbones import build
from bas.config import VARIANTS, recipe
from bas.network import Network, Output
from bas.train import learning_rates, parameter_groups

TOLERANCE = 1e-3
"""Relative, of losses after one step and of scores and maps."""


@dataclass(frozen=True)
class Benchmark:
    """Compare training steps and ten-crop inference with the released procedure."""

    arch: tuple[str, ...] = ("mobilenet",)
    """Backbones; vgg, resnet and inception take some minutes each."""
    batch: int = 4
    """Images of a training step."""
    repeats: int = 1
    """Measurements, of which the least counts; one more before them is not counted."""
    threads: int = 1
    """Threads of PyTorch."""


def released_forward(network: Network, images: Tensor, labels: Tensor, top_k: int | None) -> Output:
    """The three passes as the release makes them, with fresh copies of f2 and a loop over the batch."""
    features = network.extract(images)
    own = (*network.SECOND_HALF, network.head_name)
    tensors = [*network.named_parameters(), *network.named_buffers()]
    shared = {id(value): value for name, value in tensors if not name.startswith(own)}
    frozen = copy.deepcopy(network, shared)  # f2's tensors are copied, the others are not
    for name, parameter in frozen.named_parameters():
        parameter.requires_grad_(not name.startswith(own))
    class_maps = network.classify(features)
    scores = class_maps.mean(dim=(2, 3))
    every_map = network.every_map(features)
    foreground = torch.zeros_like(every_map[:, :1])
    activation, background_activation = torch.zeros(len(images)), torch.zeros(len(images))
    for number in range(len(images)):
        classes = labels[number : number + 1] if top_k is None else scores[number].sort(descending=True).indices[:top_k]
        foreground[number, 0] = every_map[number, classes].mean(dim=0)
        activation[number] = scores[number, labels[number]]
    suppressed = frozen.classify(features.detach() * (1 - foreground)).mean(dim=(2, 3))
    for number in range(len(images)):
        background_activation[number] = suppressed[number, labels[number]]
    guided = (class_maps * F.avg_pool2d(foreground, 2)).mean(dim=(2, 3))
    return Output(scores, foreground, features, class_maps, guided, activation, background_activation)


def training(arch: str, released: bool, options: Benchmark) -> dict[str, object]:
    """Seconds of a step, peak memory in MB, and the losses of two steps."""
    network, images, labels = _prepared(arch, options.batch)
    network.train()
    settings = recipe("CUB", "cub", arch)
    groups = parameter_groups(network)
    for group, rate in zip(groups, learning_rates(1e-6, 100, 0)(0, 0), strict=True):
        group["lr"] = rate
    optimizer = torch.optim.SGD(groups, lr=1e-6, momentum=0.9, weight_decay=5e-4, nesterov=True)
    seconds, values = [], []
    for _ in range(options.repeats + 1):
        start = time.perf_counter()
        output = released_forward(network, images, labels, None) if released else network(images, labels)
        loss = losses.total(output, labels, VARIANTS["CUB"], arch, settings.alpha, settings.beta)["loss"]
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        seconds.append(time.perf_counter() - start)
        values.append(loss.item())
    return {"seconds": min(seconds[1:]), "memory": _peak(), "numbers": np.array(values[:2])}


@torch.no_grad()
def inference(arch: str, released: bool, options: Benchmark) -> dict[str, object]:
    """Seconds for one image's map and ten crops, peak memory in MB, and the scores and the map."""
    network, crops, _ = _prepared(arch, 10)
    network.eval()
    top_k = recipe("CUB", "cub", arch).top_k
    label = torch.tensor([3])
    seconds = []
    for _ in range(options.repeats + 1):
        start = time.perf_counter()
        if released:
            foreground = released_forward(network, crops[4:5], label, top_k).foreground_map
            each = [released_forward(network, crop[None], label, None).scores for crop in crops]
            scores = torch.cat(each).softmax(dim=1).mean(dim=0)
        else:
            each, features = network.look(crops)
            foreground = network.foreground_map(features[4:5], each[4:5], None, top_k)
            scores = each.softmax(dim=1).mean(dim=0)
        seconds.append(time.perf_counter() - start)
    numbers = np.concatenate([scores.numpy(), foreground.flatten().numpy()])
    return {"seconds": min(seconds[1:]), "memory": _peak(), "numbers": numbers}


@torch.no_grad()
def forwards(arch: str, _released: bool, options: Benchmark) -> dict[str, object]:
    """Seconds of the ten crops' way through the classifier, without which there is neither score nor map."""
    network, crops, _ = _prepared(arch, 10)
    network.eval()
    seconds = []
    for _ in range(options.repeats + 1):
        start = time.perf_counter()
        network.classify(network.extract(crops))
        seconds.append(time.perf_counter() - start)
    return {"seconds": min(seconds[1:])}


def _prepared(arch: str, count: int) -> tuple[nn.Module, Tensor, Tensor]:
    torch.manual_seed(0)
    network = build(arch, "CUB", 200).to(memory_format=torch.channels_last)
    images = torch.randn(count, 3, 224, 224).to(memory_format=torch.channels_last)
    return network, images, torch.arange(count) * 17 % 200


def _peak() -> float:
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024


def _measured(job: tuple) -> dict[str, object]:
    work, arch, released, options = job
    torch.set_num_threads(options.threads)
    return work(arch, released, options)


def alone(*job: object) -> dict[str, object]:
    """Run one measurement in a process of its own, so that its peak memory is its own."""
    with multiprocessing.get_context("spawn").Pool(1) as pool:
        return pool.apply(_measured, (job,))


def main() -> None:
    """Print a line for each backbone and kind of work."""
    options = tyro.cli(Benchmark, prog="python -m benchmarks.bas", description=__doc__)
    for arch in options.arch:
        for name, work in (("training step", training), ("ten-crop inference", inference)):
            theirs, ours = (alone(work, arch, released, options) for released in (True, False))
            if not np.allclose(theirs["numbers"], ours["numbers"], rtol=TOLERANCE, atol=1e-6):
                raise SystemExit(f"{arch} {name}: the numbers differ")
            ratio = theirs["seconds"] / ours["seconds"]
            print(f"{arch} {name}: {theirs['seconds']:.2f} s, {theirs['memory']:.0f} MB as released; "
                  f"{ours['seconds']:.2f} s, {ours['memory']:.0f} MB here; {ratio:.2f} times as fast")  # fmt: skip
        print(f"{arch} ten forward passes alone: {alone(forwards, arch, False, options)['seconds']:.2f} s")


if __name__ == "__main__":
    main()
