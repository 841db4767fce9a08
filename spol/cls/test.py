"""Classify a split: the verdicts that stage seg is scored with.

    python -m spol.cls.test --checkpoint runs/spol/cls/final.pth --data.name cub --datapath CUB_200_2011 --out verdicts
    python -m spol.cls.test --checkpoint imagenet:efficientnet-b7 --data.name ilsvrc --datapath ImageNet \\
        --data.split val --out verdicts

Writes `classification.json`, and with `--npy` the original's `top1top5.npy`. Images are squashed, never cropped.
"""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import torch
from torch import nn

from common.datasets import classes
from common.pytorch.runtime import compiled, for_inference, pick_device, precision
from common.runs.localizing import Localizing, best_classes
from common.runs.reader import Predictions
from common.runs.writer import PredictionsWriter
from common.system.errors import UserError, run_command
from common.system.options import also, parse
from spol import verdicts
from spol.cls import networks
from spol.cls.checkpoint import METHOD, load
from spol.config import recipe
from spol.data import Images, image_batches, stacked
from spol.options import InferenceOptions
from spol.verdicts import Verdict


@dataclass(frozen=True, kw_only=True)
class Classify(InferenceOptions):
    """Classify a split."""

    snapshot: Annotated[str, also("checkpoint")]
    """A final.pth or model-<number> of spol.cls.train, an authors' file, or imagenet:<arch>."""
    arch: str = "efficientnet-b7"
    """Architecture of a bare state dict."""
    resize: int | None = None
    """Side that images are squashed to; 685 as released, or that of our own training."""
    padded_for: int | None = None
    """efficientnet-b7: the input side that its padding is made for; by default as it was trained, 600."""
    npy: bool = False
    """Also write the original's top1top5.npy, which is a pickle."""


@torch.no_grad()
def classify(options: Classify) -> Path:
    """Classify a split, and return the path of `classification.json`.

    Raises:
        UserError: an unusable image, or a checkpoint that does not fit.
    """
    device = pick_device(options.device)
    precise = precision(device, options.amp)
    source = options.data.plain()
    dataset = source.load()
    found = load(options.snapshot, 1, options.arch, options.padded_for)
    matching = classes.match(
        dataset, found.class_names, found.outputs, options.snapshot, index=source.class_index,
        imagenet=options.snapshot.startswith("imagenet:"),
    )  # fmt: skip
    if not matching.labelled:
        raise UserError("the data set's classes are none of the network's", where=options.snapshot,
                        expected="synset ids or ImageNet names, or --data.class-index")  # fmt: skip
    kind = f"resize {options.resize or found.resize or recipe('cls', 'cub').resize}"
    network = _in_inference(found.network, options, device)
    header = {
        "method": METHOD,
        "architecture": found.arch,
        "checkpoint": found.record,
        "data": source.described(dataset, options.snapshot),
        "classifier": {"name": found.arch, "crops": 1},
        "frame": kind,
        "options": {
            **vars(options.preprocessing),
            "padded_for": options.padded_for,
            "mode": options.mode,
            "amp": options.amp,
        },
    }
    writer = PredictionsWriter(options.out / "images", header, options.overwrite, classes=matching)
    with (
        Localizing(matching.for_network(dataset), {None: writer}, options.batch_size, doing="classifying") as run,
        precise,
    ):
        images = Images(run.left, [kind], options.preprocessing)
        for items in run.batches(image_batches(images, options.batch_size, options.workers)):
            scores = network(stacked(items, 0, device)).float()
            samples, probabilities = [item.sample for item in items], scores.softmax(dim=1).cpu().numpy()
            for item, best in zip(items, best_classes(probabilities, samples, scores.cpu().numpy()), strict=True):
                run.write(None, item.sample, item.frames[0], best)
    if not writer.complete:
        writer.finish()
    return _hand_over(options, writer.directory, found.arch, header)


def _in_inference(network: nn.Module, options: Classify, device: torch.device) -> Callable[..., torch.Tensor]:
    """The network as it classifies: without dropout, unless `--mode train` asks for it."""
    network = for_inference(network, device)
    if options.mode == "train":
        for module in network.modules():
            module.train(isinstance(module, nn.Dropout))
    return compiled(network) if options.compile else network


def _hand_over(options: Classify, directory: Path, arch: str, header: dict) -> Path:
    read = Predictions.open(directory)
    found = {entry.image_id: Verdict(entry.top5, entry.top5_scores) for entry in read.entries if entry.top5}
    if not found:
        raise UserError("no image could be classified", where=directory, do="look at its predictions.jsonl")
    path = options.out / "classification.json"
    labels = {entry.image_id: entry.label for entry in read.entries}
    verdicts.write_results(path, found, arch, header, read.skipped, labels)
    if options.npy:
        verdicts.write_npy(options.out / "top1top5.npy", found, labels)
    print(f"{arch}: Top-1 {read.accuracy(1):.2f}, Top-5 {read.accuracy(5):.2f} of {len(found)} images, "
          f"{len(read.skipped)} left out: {path}")  # fmt: skip
    return path


def main() -> None:
    """Run the command line."""
    classify(parse(Classify, prog="python -m spol.cls.test", description=__doc__, architectures=networks.ARCHITECTURES))


if __name__ == "__main__":
    run_command(main)
