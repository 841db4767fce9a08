"""Writers of detection data sets: one class a format, an image at a time, so that memory stays flat.

| format | files | read by |
|---|---|---|
| coco | images/SPLIT/, annotations/instances_SPLIT.json | pycocotools, torchvision's CocoDetection, FiftyOne |
| yolo | images/SPLIT/, labels/SPLIT/, data.yaml | Ultralytics, FiftyOne |
| voc | VOCdevkit/VOC2012/{JPEGImages,Annotations,ImageSets/Main} | torchvision's VOCDetection |
| labelme | SPLIT/, a .json beside each image | labelme, X-AnyLabeling |
| csv | images/SPLIT/, boxes.csv | spreadsheets; this project as `--data.name folder` |
| wsoleval | images/SPLIT/, metadata/SPLIT/ | wsolevaluation; this project as `--data.name wsoleval` |

Beside these lies export.json: whose predictions the boxes are, which images they were trained on, what was left out.
"""

import csv
import json
import os
import shutil
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path, PurePosixPath
from typing import Any, BinaryIO, Literal, Protocol
from xml.sax.saxutils import escape

import numpy as np

from common.datasets import Dataset, Sample, splits
from common.datasets.layouts import wsoleval
from common.exporting.detections import LabelledImage
from common.system.errors import UserError
from common.system.files import write_atomically, write_text, writing
from common.system.wording import number_of

Transfer = Literal["link", "copy"]


class Writer(Protocol):
    """Interface of every format: images one by one, then the rest."""

    def add(self, split: str, image: LabelledImage) -> None:
        """Write one image and what belongs to it."""

    def finish(self) -> Sequence[str]:
        """Write what can only be written at the end; gives what its user should know, a line each."""


def put_image(source: Path, target: Path, transfer: Transfer) -> None:
    """Link or copy an image; what a stopped run left is replaced."""
    with writing(target):
        target.parent.mkdir(parents=True, exist_ok=True)
        if transfer == "link":
            target.unlink(missing_ok=True)
            target.symlink_to(source.resolve())
            return
    with open(source, "rb") as image:
        write_atomically(target, lambda file: shutil.copyfileobj(image, file))


def check_names(splits: Mapping[str, Sequence[str]], kind: str) -> None:
    """Refuse image ids that a format, whose annotations are files of the same name, can't tell apart or list.

    Raises:
        UserError: two of one split differ in their ending alone, or, in VOC's lists, one has a blank before its ending.
    """
    for split, image_ids in splits.items():
        seen: dict[str, str] = {}
        for image_id in image_ids:
            stem = str(PurePosixPath(image_id).with_suffix(""))
            if kind == "voc" and stem != stem.rstrip():
                raise UserError(f"{image_id!r} of the split {split!r} has a blank before its ending, which readers of "
                                "VOC's lists drop", do="rename it, or take --format coco or csv")  # fmt: skip
            other = seen.setdefault(stem, image_id)
            if other != image_id:
                raise UserError(f"{other} and {image_id} of the split {split!r} would share one annotation file",
                                do="rename one of them, or take --format coco or csv")  # fmt: skip


class Coco:
    """COCO's instances: categories are numbered from 1, boxes are `x y width height`; `score` is an additional key."""

    def __init__(self, out: Path, class_names: Sequence[str], transfer: Transfer):
        self._out, self._names, self._transfer = out, class_names, transfer
        self._parts: dict[str, dict[str, Any]] = {}
        self._count: dict[str, dict[str, int]] = {}

    def _append(self, split: str, kind: str, record: dict[str, Any]) -> int:
        parts = self._parts.setdefault(split, {})
        counts = self._count.setdefault(split, {"images": 0, "annotations": 0})
        if kind not in parts:
            path = self._part(split, kind)
            with writing(path):
                path.parent.mkdir(parents=True, exist_ok=True)
                parts[kind] = open(path, "w", encoding="utf-8")  # noqa: SIM115, closed by finish
        counts[kind] += 1
        text = json.dumps({"id": counts[kind], **record}, ensure_ascii=False)
        parts[kind].write(("" if counts[kind] == 1 else ",\n") + text)
        return counts[kind]

    def _part(self, split: str, kind: str) -> Path:
        return self._out / "annotations" / f".{split}-{kind}.part"

    def add(self, split: str, image: LabelledImage) -> None:
        """One image and its annotations."""
        put_image(image.sample.path, self._out / "images" / split / image.sample.image_id, self._transfer)
        width, height = image.size
        name = image.sample.image_id
        number = self._append(split, "images", {"file_name": name, "width": width, "height": height})
        for box, score in zip(image.boxes, image.scores, strict=True):
            x0, y0, x1, y1 = map(float, box)
            self._append(split, "annotations", {
                "image_id": number, "category_id": image.sample.label + 1, "bbox": [x0, y0, x1 - x0, y1 - y0],
                "area": (x1 - x0) * (y1 - y0), "iscrowd": 0, "score": round(float(score), 6),
            })  # fmt: skip

    def finish(self) -> tuple[()]:
        """Put each split's parts together."""
        categories = [{"id": number, "name": name} for number, name in enumerate(self._names, start=1)]
        for split, parts in self._parts.items():
            for part in parts.values():
                part.close()

            def write(file: BinaryIO, split: str = split) -> None:
                file.write(b'{"info": {"description": "boxes predicted by weakly supervised localization"},\n')
                for kind in ("images", "annotations"):
                    file.write(f'"{kind}": [\n'.encode())
                    with open(self._part(split, kind), "rb") as part:
                        shutil.copyfileobj(part, file)
                    file.write(b"],\n")
                file.write(f'"categories": {json.dumps(categories, ensure_ascii=False)}}}\n'.encode())

            write_atomically(self._out / "annotations" / f"instances_{split}.json", write)
            for kind in ("images", "annotations"):
                self._part(split, kind).unlink()
        return ()


ULTRALYTICS = {".avif", ".bmp", ".dng", ".heic", ".heif", ".jp2", ".jpeg", ".jpg", ".mpo", ".png", ".tif", ".tiff",
               ".webp"}  # fmt: skip
"""Endings of the images that Ultralytics looks at (8.4); it passes over any other without a word."""
JPEGS = {".jfif", ".jpe"}
"""Other endings of JPEG files, which become `.jpg`."""


class Yolo:
    """Ultralytics' layout: `class x-centre y-centre width height` as shares of the image, classes from 0."""

    def __init__(self, out: Path, class_names: Sequence[str], transfer: Transfer):
        self._out, self._names, self._transfer = out, class_names, transfer
        self._splits: dict[str, None] = {}
        self._passed_over: Counter[str] = Counter()

    def add(self, split: str, image: LabelledImage) -> None:
        """One image and its label file."""
        self._splits[split] = None
        image_id = PurePosixPath(image.sample.image_id)
        ending = image_id.suffix.lower()
        if ending not in ULTRALYTICS | JPEGS:
            self._passed_over[ending] += 1
        name = str(image_id.with_suffix(".jpg") if ending in JPEGS else image_id)
        put_image(image.sample.path, self._out / "images" / split / name, self._transfer)
        size = np.tile(image.size, 2)
        lines = []
        for box in image.boxes:
            centre, sides = (box[:2] + box[2:]) / 2, box[2:] - box[:2]
            shares = np.concatenate([centre, sides]) / size
            lines.append(" ".join([str(image.sample.label), *(f"{share:.8f}" for share in shares)]) + "\n")
        write_text(self._label_file(split, name), "".join(lines))

    def _label_file(self, split: str, name: str) -> Path:
        """Path at which Ultralytics looks for an image's labels: the last `images` of its path is what it replaces."""
        before, _, after = f"/images/{split}/{name}".rpartition("/images/")
        return (self._out / f"{before}/labels/{after}".lstrip("/")).with_suffix(".txt")

    def finish(self) -> list[str]:
        """`data.yaml`: JSON's strings are YAML's. Without `path`, images are looked for beside it."""
        by_role: dict[str, list[str]] = {}
        for split in self._splits:
            by_role.setdefault(splits.role(split) or "train", []).append(f"images/{split}")
        train = by_role.get("train") or by_role.get("held") or [f"images/{next(iter(self._splits))}"]
        others = (by_role.get(role, train) for role in ("val", "held", "test"))
        val = next((each for each in others if each != train), train)
        places = {"train": train, "val": val, "test": by_role.get("test")}
        lines = [f"{key}: {json.dumps(each if len(each) > 1 else each[0], ensure_ascii=False)}"
                 for key, each in places.items() if each]  # fmt: skip
        lines += [
            "names:",
            *(f"  {number}: {json.dumps(name, ensure_ascii=False)}" for number, name in enumerate(self._names)),
        ]
        write_text(self._out / "data.yaml", "\n".join(lines) + "\n")
        return [*self._on_places(places), *(
            f"{number_of(count, 'image ends', 'images end')} in {ending or 'nothing'}, which Ultralytics passes over"
            for ending, count in sorted(self._passed_over.items())
        )]  # fmt: skip

    def _on_places(self, places: Mapping[str, list[str] | None]) -> list[str]:
        """Lines on what a detector is chosen on, and on splits that it does not see."""
        train, val, test = (places[key] or [] for key in ("train", "val", "test"))
        lines = []
        if val == train:
            lines = [f"data.yaml: val is {', '.join(val)}, images that are trained on: there is no other split"]
        elif val == test:
            lines = [f"data.yaml: val is {', '.join(val)}, as test is: the best epoch is chosen on it"]
        unused = [split for split in self._splits if f"images/{split}" not in {*train, *val, *test}]
        return [*lines, *(f"data.yaml: images/{split} is none of train, val and test" for split in unused)]


class Voc:
    """Pascal VOC 2012's devkit: pixels are counted from 1, and both corners belong to the box.

    An image is `JPEGImages/<id without ending>.jpg` whatever its format, since readers know no other ending and open it
    by its content.
    """

    def __init__(self, out: Path, class_names: Sequence[str], transfer: Transfer):
        self._root, self._names, self._transfer = out / "VOCdevkit" / "VOC2012", class_names, transfer
        self._splits: dict[str, list[str]] = {}

    def add(self, split: str, image: LabelledImage) -> None:
        """One image and its XML file."""
        stem = str(PurePosixPath(split, image.sample.image_id).with_suffix(""))
        self._splits.setdefault(split, []).append(stem)
        put_image(image.sample.path, self._root / "JPEGImages" / f"{stem}.jpg", self._transfer)
        write_text(self._root / "Annotations" / f"{stem}.xml", self._xml(stem, image))

    def _xml(self, stem: str, image: LabelledImage) -> str:
        name = escape(self._names[image.sample.label])
        objects = []
        for box, score in zip(image.boxes, image.scores, strict=True):
            x0, y0, x1, y1 = box
            corners = {"xmin": x0 + 1, "ymin": y0 + 1, "xmax": max(x1, x0 + 1), "ymax": max(y1, y0 + 1)}
            inner = "".join(f"<{key}>{value:.8g}</{key}>" for key, value in corners.items())
            objects.append(
                f"  <object><name>{name}</name><pose>Unspecified</pose><truncated>0</truncated><difficult>0</difficult>"
                f"<score>{score:.6f}</score><bndbox>{inner}</bndbox></object>\n"
            )
        width, height = image.size
        return (
            f"<annotation>\n  <folder>VOC2012</folder>\n  <filename>{escape(stem)}.jpg</filename>\n"
            f"  <size><width>{width}</width><height>{height}</height><depth>3</depth></size>\n"
            f"  <segmented>0</segmented>\n{''.join(objects)}</annotation>\n"
        )

    def finish(self) -> tuple[()]:
        """The lists of each split, and the classes."""
        for split, stems in self._splits.items():
            write_text(self._root / "ImageSets" / "Main" / f"{split}.txt", "".join(f"{stem}\n" for stem in stems))
        write_text(self._root / "classes.txt", "".join(f"{name}\n" for name in self._names))
        return ()


class Labelme:
    """labelme's file beside each image: rectangles by two corners."""

    def __init__(self, out: Path, class_names: Sequence[str], transfer: Transfer):
        self._out, self._names, self._transfer = out, class_names, transfer

    def add(self, split: str, image: LabelledImage) -> None:
        """One image and its JSON file."""
        target = self._out / split / image.sample.image_id
        put_image(image.sample.path, target, self._transfer)
        shapes = [
            {
                "label": self._names[image.sample.label], "points": box.reshape(2, 2).tolist(), "group_id": None,
                "description": f"score {score:.6f}", "shape_type": "rectangle", "flags": {}, "mask": None,
            }
            for box, score in zip(image.boxes, image.scores, strict=True)
        ]  # fmt: skip
        width, height = image.size
        content: dict[str, Any] = {
            "version": "5.4.1", "flags": {}, "shapes": shapes, "imagePath": target.name, "imageData": None,
            "imageHeight": height, "imageWidth": width,
        }  # fmt: skip
        write_text(target.with_suffix(".json"), json.dumps(content, ensure_ascii=False, indent=1) + "\n")

    def finish(self) -> tuple[()]:
        """The list of labels that labelme's `--labels` reads."""
        write_text(self._out / "labels.txt", "".join(f"{name}\n" for name in self._names))
        return ()


class Table:
    """`boxes.csv`, a line a box, which this project's folder reader takes with the images beside it."""

    HEAD = ("path", "x0", "y0", "x1", "y1", "split", "class", "score")

    def __init__(self, out: Path, class_names: Sequence[str], transfer: Transfer):
        self._out, self._names, self._transfer = out, class_names, transfer
        self._part = out / ".boxes.csv.part"
        with writing(self._part):
            out.mkdir(parents=True, exist_ok=True)
            self._file = open(self._part, "w", encoding="utf-8", newline="")  # noqa: SIM115, closed by finish
        self._writer = csv.writer(self._file, lineterminator="\n")
        self._writer.writerow(self.HEAD)

    def add(self, split: str, image: LabelledImage) -> None:
        """One image and its lines."""
        put_image(image.sample.path, self._out / "images" / split / image.sample.image_id, self._transfer)
        name = self._names[image.sample.label]
        for box, score in zip(image.boxes, image.scores, strict=True):
            cells = [f"{value:.12g}" for value in box]
            # A blank at a cell's start is no part of it for readers of CSV, ours among them.
            path = f"./{image.sample.image_id}" if image.sample.image_id.startswith(" ") else image.sample.image_id
            self._writer.writerow([path, *cells, split, name, f"{score:.6f}"])

    def finish(self) -> tuple[()]:
        """Name the file."""
        self._file.close()
        os.replace(self._part, self._out / "boxes.csv")
        return ()


class Wsoleval:
    """wsolevaluation's metadata folders, whose boxes are the predicted ones; it has no place for scores."""

    def __init__(self, out: Path, class_names: Sequence[str], transfer: Transfer):
        self._out, self._names, self._transfer = out, class_names, transfer
        self._samples: dict[str, list[Sample]] = {}

    def add(self, split: str, image: LabelledImage) -> None:
        """One image; its lines are written at the end."""
        put_image(image.sample.path, self._out / "images" / split / image.sample.image_id, self._transfer)
        sample = replace(image.sample, boxes=image.boxes, declared_size=image.size, masks=(), ignore=None)
        self._samples.setdefault(split, []).append(sample)

    def finish(self) -> tuple[()]:
        """Each split's folder."""
        for split, samples in self._samples.items():
            wsoleval.write(Dataset("wsoleval", split, tuple(samples), tuple(self._names)), self._out / "metadata")
        return ()


WRITERS: dict[str, type] = {
    "coco": Coco, "yolo": Yolo, "voc": Voc, "labelme": Labelme, "csv": Table, "wsoleval": Wsoleval,
}  # fmt: skip


TOP: dict[str, tuple[str, ...]] = {
    "coco": ("images", "annotations"), "yolo": ("images", "labels", "data.yaml"), "voc": ("VOCdevkit",),
    "labelme": ("labels.txt",), "csv": ("images", "boxes.csv", ".boxes.csv.part"), "wsoleval": ("images", "metadata"),
}  # fmt: skip
"""Files that a format writes at the top of its folder; labelme also a folder for each split."""


def write_all(
    writer: Writer, images: Iterable[tuple[str, LabelledImage]], counted: dict[str, dict[str, int]]
) -> Sequence[str]:
    """Write every image with its split; `counted` gets images and boxes by split. Gives lines for the user."""
    for split, image in images:
        writer.add(split, image)
        counts = counted.setdefault(split, {"images": 0, "boxes": 0})
        counts["images"] += 1
        counts["boxes"] += len(image.boxes)
    return writer.finish()
