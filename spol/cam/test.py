"""Make the pseudo masks of training images, from the map of each image's true class.

    python -m spol.cam.test --checkpoint runs/spol/cam/final.pth --data.name cub --datapath CUB_200_2011 \\
        --masks runs/spol/masks

The network runs in batches; processes of their own turn maps into masks. A run that is stopped goes on where it ended.
"""

import json
from collections import deque
from concurrent.futures import Future, ProcessPoolExecutor
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, Literal

import cv2
import numpy as np
import torch

from common.datasets import Dataset, Sample, alike, classes, trained
from common.pytorch.runtime import compiled, for_inference, keep_freed_memory, pick_device, precision
from common.runs.provenance import provenance
from common.runs.writer import batches_left
from common.system.errors import UserError, run_command
from common.system.files import holds_files, read_json, write_json, write_text
from common.system.options import also, parse
from common.system.parallel import pool_of
from common.system.progress import bar
from common.system.wording import number_of
from spol import pseudo_masks, weights
from spol.data import MASK_ENDINGS, MASK_MANIFEST, Images, Item, image_batches, mask_path, stacked, without_problems
from spol.options import InferenceOptions

ENDINGS = dict(zip(("png", "jpeg"), MASK_ENDINGS, strict=True))


@dataclass(frozen=True, kw_only=True)
class MakeMasks(InferenceOptions):
    """Make pseudo masks."""

    snapshot: Annotated[Path, also("checkpoint")]
    """A final.pth or model-<number> of the train command, or an authors' file."""
    out: Annotated[Path, also("masks", "savepath")]
    """Folder for the pseudo masks, one for each image; the original's is DATAPATH/seg."""
    resize: int | None = None
    """Side that images are squashed to; 256 as released, or that of our own training."""
    mask_format: Literal["png", "jpeg"] = "png"
    """jpeg loses up to 80 grey levels at edges, as the release does on ImageNet, by a slip."""
    holes: bool = True
    """Borders of holes count as contours with a Gaussian of their own, as released."""
    truncate: bool = True
    """Cut grey levels to whole numbers, as released; otherwise round them."""
    processes: int = 2
    """Processes that turn maps into masks."""


@torch.no_grad()
def make_masks(options: MakeMasks) -> Path:
    """Make pseudo masks, and return their folder.

    Raises:
        UserError: an unusable checkpoint, two images with one mask, or a folder that holds another run's masks.
    """
    device = pick_device(options.device)
    precise = precision(device, options.amp)
    source = options.data.plain()
    dataset = source.load()
    loaded = weights.load(options.snapshot, "cam")
    outputs = loaded.network.outputs
    weights.check_outputs(loaded, 1, options.clsnum, options.snapshot)
    matching = classes.match(dataset, loaded.class_names, outputs, options.snapshot, index=source.class_index)
    classes.which_map("label", matching)
    ending = ENDINGS[options.mask_format]
    _refuse_shared_masks(dataset, options.out, ending)
    side = options.resize or loaded.options.get("resize", 256)
    header = _header(options, loaded, source.described(dataset), matching, side)
    _claim(options.out, header, options.overwrite)
    if record := trained.place(options.snapshot):  # a network that learns from these masks learns from those images
        write_text(options.out / trained.FILE, record.read_text(encoding="utf-8"))
    network = for_inference(loaded.network, device)
    network.dropout.train(options.mode == "train")
    label_maps = compiled(network.label_maps) if options.compile else network.label_maps

    def unmade(sample: Sample) -> bool:
        return not mask_path(options.out, sample.image_id, ending).is_file()

    pending = batches_left(matching.for_network(dataset), unmade, options.batch_size)
    images = Images(pending, [f"resize {side}"], options.preprocessing)
    skipped: dict[str, str] = {}
    progress = bar(total=len(dataset), initial=len(dataset) - len(pending), desc="pseudo masks")
    with progress, precise, _Writers(options, ending, progress) as writers:
        for items in image_batches(images, options.batch_size, options.workers):
            usable = without_problems(items, skipped.__setitem__)
            progress.update(len(items) - len(usable))
            if usable:
                labels = torch.tensor([item.sample.label for item in usable], device=device)
                maps = label_maps(stacked(usable, 0, device), labels).float().cpu().numpy()
                for item, raw in zip(usable, maps, strict=True):
                    writers.submit(item, raw)
    return _finish(options.out, header, skipped, len(dataset))


def _header(
    options: MakeMasks, loaded: weights.Loaded, data: dict[str, Any], matching: classes.Matching, side: int
) -> dict[str, Any]:
    """Entries of the manifest that say whose masks these are."""
    return {
        "method": weights.METHODS["cam"],
        "architecture": loaded.backbone,
        "checkpoint": loaded.record,
        "data": data,
        "options": {
            **vars(options.preprocessing), "resize": side, "mask_format": options.mask_format,
            "holes": options.holes, "truncate": options.truncate, "mode": options.mode, "amp": options.amp,
            **({} if matching.record is None else {"classes": matching.record}),
        },
    }  # fmt: skip


class _Writers:
    """A pool of processes that turn maps into mask files, with as many waiting as keep it busy."""

    def __init__(self, options: MakeMasks, ending: str, progress: Any):
        self.options, self.ending, self.progress = options, ending, progress
        self.waiting: deque[Future] = deque()
        self.pool: ProcessPoolExecutor | None = None
        self.stack = ExitStack()

    def __enter__(self) -> "_Writers":
        if self.options.processes > 0:
            cv2.setNumThreads(1)  # before the fork, which copies the setting and none of the threads
            self.pool = self.stack.enter_context(pool_of(self.options.processes, begin=keep_freed_memory))
        return self

    def __exit__(self, *problem: Any) -> None:
        if problem[0] is not None:
            self.stack.__exit__(*problem)
            return
        with self.stack:
            while self.waiting:
                self._take()

    def submit(self, item: Item, raw: np.ndarray) -> None:
        options = self.options
        path = mask_path(options.out, item.sample.image_id, self.ending)
        job = (path, raw, item.frames[0].original, options.mask_format, options.holes, options.truncate)
        if self.pool is None:
            pseudo_masks.write(*job)
            self.progress.update()
            return
        self.waiting.append(self.pool.submit(pseudo_masks.write, *job))
        while len(self.waiting) > 32 * options.processes:
            self._take()

    def _take(self) -> None:
        self.waiting.popleft().result()
        self.progress.update()


def _refuse_shared_masks(dataset: Dataset, folder: Path, ending: str) -> None:
    owners: dict[Path, Sample] = {}
    for sample in dataset:
        path = mask_path(folder, sample.image_id, ending)
        if path in owners:
            raise UserError(f"{owners[path].image_id} and {sample.image_id} would share the pseudo mask {path.name}",
                            do="give them names that differ before the ending")  # fmt: skip
        owners[path] = sample


def _claim(folder: Path, header: dict[str, Any], overwrite: bool) -> None:
    """Say whose masks the folder holds; another run's are refused, or with `overwrite` removed."""
    path, header = folder / MASK_MANIFEST, json.loads(json.dumps(header))  # tuples become lists, as in the file
    if path.is_file():
        found = read_json(path)
        stored = found if isinstance(found, dict) else {}
        differing = [key for key, value in header.items() if not alike(stored.get(key), value)]
        if not differing:
            return
        if not overwrite:
            raise UserError(f"the folder holds another run's pseudo masks: {', '.join(differing)} differ", where=folder,
                            do="choose another --masks, or say --overwrite")  # fmt: skip
        for ending in MASK_ENDINGS:
            for mask in folder.rglob(f"*{ending}"):
                mask.unlink()
    elif holds_files(folder):
        raise UserError("the folder is not empty and holds no pseudo masks of ours", where=folder,
                        do="choose another --masks")  # fmt: skip
    write_json(path, {**header, "complete": False})


def _finish(folder: Path, header: dict[str, Any], skipped: dict[str, str], count: int) -> Path:
    for image_id, reason in skipped.items():
        print(f"left out: {image_id}: {reason}")
    made = {"images": count - len(skipped), "skipped": skipped}
    write_json(folder / MASK_MANIFEST, {**header, **provenance(), **made, "complete": True})
    left_out = number_of(len(skipped), "image", "images")
    print(f"{number_of(count - len(skipped), 'pseudo mask', 'pseudo masks')}, {left_out} left out: {folder}")
    return folder


def main() -> None:
    """Run the command line."""
    make_masks(parse(MakeMasks, prog="python -m spol.cam.test", description=__doc__))


if __name__ == "__main__":
    run_command(main)
