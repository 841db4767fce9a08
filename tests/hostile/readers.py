"""Every reader of a file that somebody else made, with a small good file for each: what fuzzing starts from.

A `World` is a folder that holds all of them. One file is replaced, its reader called, and the only answers allowed are a
value or a `UserError` of one line that names the file.
"""

import importlib.util
import json
import re
import shutil
import time
import traceback
import unicodedata
from collections.abc import Callable
from dataclasses import dataclass
from enum import Enum
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from common.datasets import DataSource
from common.datasets.label_maps import true_label_map
from common.export import Export, boxes_to_export
from common.exporting.evaluated import coco
from common.measuring.geometry import Frame
from common.pictures.images import read_rgb, read_size
from common.runs.reader import Predictions, read_map
from common.runs.writer import PredictionsWriter
from common.system.errors import UserError
from common.system.files import read_json
from tests import fill, official_sets, runs, scenes, small_cub

CORPUS = Path(__file__).parent / "corpus"
FRAME = Frame.squash((80, 60))
SECONDS = 10.0
"""A reader that takes longer over a small file hangs, for its user's purposes."""

OF_THE_WHOLE = ("the file is empty", "holds no image")
"""Complaints about a text file that are about no line of it."""

TORCH = importlib.util.find_spec("torch") is not None
TENSORFLOW = importlib.util.find_spec("tensorflow") is not None


class Names(Enum):
    """What a complaint names: a text file and its line, any other file or its folder, or where a manifest leads."""

    LINE, FILE, WORLD = range(3)


@dataclass(frozen=True)
class Reader:
    """One kind of file.

    Attributes:
        name: of the folder below `corpus/` with its good files.
        place: where such a file lies in the world.
        read: reads it, given the world.
        names: what a complaint has to name.
        also: files and folders that a complaint may be about instead, when this one disagrees with them.
    """

    name: str
    place: str
    read: Callable[[Path], Any]
    names: Names = Names.LINE
    also: tuple[str, ...] = ()


@dataclass(frozen=True)
class Outcome:
    """What became of one file: `read`, `refused`, or a fault: `crashed`, `slow`, `vague`."""

    kind: str
    message: str = ""

    @property
    def allowed(self) -> bool:
        return self.kind in ("read", "refused")


def attempt(reader: Reader, world: Path, content: bytes) -> Outcome:
    """Put `content` in the place of the reader's file, read it, and put the good file back."""
    return attempt_with(reader, world, lambda path: path.write_bytes(content))


def attempt_with(reader: Reader, world: Path, put: Callable[[Path], Any]) -> Outcome:
    """`attempt` with anything that `put` makes in the place of the file."""
    path = world / reader.place
    kept = path.read_bytes() if path.is_file() else None
    path.unlink(missing_ok=True)
    put(path)
    started = time.monotonic()
    try:
        reader.read(world)
        outcome = Outcome("read")
    except UserError as problem:
        outcome = judged(str(problem), reader, world)
    except Exception:
        outcome = Outcome("crashed", traceback.format_exc(limit=-4))
    finally:
        path.unlink() if path.is_symlink() or not path.is_dir() else path.rmdir()
        if kept is not None:
            path.write_bytes(kept)
    if time.monotonic() - started > SECONDS:
        return Outcome("slow", f"{time.monotonic() - started:.1f} s")
    return outcome


def judged(message: str, reader: Reader, world: Path) -> Outcome:
    """Whether a refusal is one short line that a terminal shows as it is, and names the file, a text file's line too."""
    if len(message) > 2000 or any(unicodedata.category(letter) in ("Cc", "Cs", "Zl", "Zp") for letter in message):
        return Outcome("vague", f"not one short printable line: {message[:300]!r}")
    path = world / reader.place
    other = any(message.startswith(f"{world / place}") for place in reader.also)
    lined = re.match(rf"{re.escape(str(path))}:[1-9]\d*: ", message)
    if reader.names is Names.LINE and not (lined or other or any(phrase in message for phrase in OF_THE_WHOLE)):
        return Outcome("vague", f"names no line: {message[:300]}")
    placed = other or str(path.parent) in message or path.name in message
    if not (re.match(r"\S.*?: ", message) if reader.names is Names.WORLD else placed):
        return Outcome("vague", f"names no file: {message[:300]}")
    return Outcome("refused", message)


# ------------------------------------------------------------------------------------------------------------- readers


def _cub(world: Path) -> None:
    for split in ("train", "test"):
        DataSource("cub", world / "cub", split).load().fingerprint()


def _folder(world: Path) -> None:
    DataSource("folder", world / "folder", "all", boxes=world / "boxes.csv").load().fingerprint()


def _spreadsheet(world: Path) -> None:
    DataSource("folder", world / "splits", boxes=world / "spreadsheet.csv").load().fingerprint()


def _wsoleval(world: Path) -> None:
    DataSource("wsoleval", world / "cub" / "images", metadata=world / "metadata").load().fingerprint()


def _list(file_format: str, boxes: str | None = None) -> Callable[[Path], None]:
    def read(world: Path) -> None:
        source = DataSource("list", world / "cub" / "images", list_file=world / f"{file_format}.txt",
                            list_format=file_format, boxes=world / boxes if boxes else None)  # fmt: skip
        source.load().fingerprint()

    return read


def _ilsvrc(world: Path) -> None:
    DataSource("ilsvrc", world / "ilsvrc", "val").load().fingerprint()


def _official(name: str, split: str = "test") -> Callable[[Path], None]:
    return lambda world: DataSource(name, world / name, split).load().fingerprint()


def _segmented(name: str) -> Callable[[Path], None]:
    """Every sample of a split whose images show several classes, and its label map."""

    def read(world: Path) -> None:
        dataset = DataSource(name, world / name, "val").load(multi_label=True)
        dataset.fingerprint()
        for sample in dataset:
            labels = true_label_map(sample, len(dataset.class_names))
            assert labels.dtype == np.uint8
            assert labels.shape[::-1] == tuple(sample.size)

    return read


def _devkit(world: Path) -> None:
    DataSource("ilsvrc", world / "devkit", "val").load().fingerprint()


def _tiny(world: Path) -> None:
    DataSource("ilsvrc", world / "tiny", "val").load().fingerprint()


def _predictions(world: Path) -> None:
    found = Predictions.open(world / "run")
    for among in (1, 5):
        found.accuracy(among)
    str(found.skipped).encode()
    for entry in found.entries:
        found.map(entry)


def _resumed(world: Path) -> None:
    """A run that goes on in the folder; what the writer changes there is put back."""
    copy = world / "resumed"
    shutil.copytree(world / "run", copy)
    try:
        manifest = read_json(copy / "manifest.json")
        header = {name: manifest[name] for name in ("method", "data")} if isinstance(manifest, dict) else {}
        PredictionsWriter(copy, header).close()
    except KeyError:
        return
    except UserError as problem:
        raise UserError(problem.found, where=str(problem.where).replace("resumed", "run"), line=problem.line) from None
    finally:
        shutil.rmtree(copy)


def _evaluated(world: Path) -> None:
    from common.evaluate import Evaluate, evaluate, in_full, render, side_by_side

    found, baselines = evaluate(Evaluate((world / "run",), protocols=("wsoleval-v1",), workers=1))
    for table in (side_by_side(found, baselines), in_full(found, baselines)):
        render(table, "text").encode()
    json.dumps(coco(found[0], boxes_to_export(found[0], Export((world / "run",)))))


def _image(name: str) -> Callable[[Path], None]:
    def read(world: Path) -> None:
        read_size(world / name)
        pixels = read_rgb(world / name)
        assert pixels.ndim == 3
        assert pixels.shape[2] == 3
        assert pixels.dtype == np.uint8
        assert pixels.size > 0
        read_rgb(world / name, orientation="apply")

    return read


IMAGES = ("grey.png", "palette.png", "deep.png", "plain.jpg", "cmyk.jpg", "turned.jpg", "moving.gif", "plain.bmp",
          "plain.tif", "plain.webp", "plain.ppm")  # fmt: skip

READERS = [
    *(Reader(f"cub-{name}", f"cub/{name}.txt", _cub, also=("cub/images.txt:", "cub/image_class_labels.txt:", "cub/classes.txt:"))
      for name in ("images", "image_class_labels", "train_test_split", "bounding_boxes", "classes")),
    Reader("folder-boxes", "boxes.csv", _folder, also=("boxes.csv: ",)),
    Reader("folder-spreadsheet", "spreadsheet.csv", _spreadsheet, also=("spreadsheet.csv: ",)),
    *(Reader(f"wsoleval-{name}", f"metadata/test/{name}.txt", _wsoleval,
             also=("metadata/test/image_ids.txt:", "metadata/test/class_labels.txt:"))
      for name in ("image_ids", "class_labels", "image_sizes", "localization")),
    Reader("list-bas", "bas.txt", _list("bas"), also=("bas.txt: ",)),
    Reader("list-bas-boxes", "bas_boxes.txt", _list("bas", "bas_boxes.txt"), also=("bas_boxes.txt: ",)),
    Reader("list-spol", "spol.txt", _list("spol"), also=("spol.txt: ",)),
    Reader("list-dgl", "dgl.txt", _list("dgl"), also=("dgl.txt: ",)),
    Reader("list-adl-cub", "adl-cub.txt", _list("adl-cub"), also=("adl-cub.txt: ",)),
    Reader("list-ts-cam", "ts-cam.txt", _list("ts-cam"), also=("ts-cam.txt: ",)),
    Reader("ilsvrc-synsets", "ilsvrc/LOC_synset_mapping.txt", _ilsvrc, also=("ilsvrc/val/",)),
    Reader("ilsvrc-solution", "ilsvrc/LOC_val_solution.csv", _ilsvrc, also=("ilsvrc/val/",)),
    Reader("ilsvrc-tiny", "tiny/val/val_annotations.txt", _tiny),
    Reader("ilsvrc-xml", "ilsvrc/val_xml/ILSVRC2012_val_00000001.xml", _ilsvrc, Names.FILE),
    Reader("ilsvrc-meta", "devkit/ILSVRC2012_devkit_t12/data/meta.mat", _devkit, Names.FILE,
           also=("devkit/ILSVRC2012_devkit_t12/data/ILSVRC2012_validation_ground_truth.txt:",)),
    Reader("dogs-list", "stanford-dogs/test_list.mat", _official("stanford-dogs"), Names.FILE,
           also=("stanford-dogs/train_list.mat: ", "stanford-dogs/Annotation/")),
    Reader("dogs-other-list", "stanford-dogs/train_list.mat", _official("stanford-dogs"), Names.FILE,
           also=("stanford-dogs/test_list.mat: ",)),
    Reader("dogs-xml", "stanford-dogs/Annotation/n02085620-Chihuahua/n02085620_2", _official("stanford-dogs"), Names.FILE),
    Reader("cars-meta", "stanford-cars/devkit/cars_meta.mat", _official("stanford-cars"), Names.FILE,
           also=("stanford-cars/cars_test_annos_withlabels.mat: ",)),
    Reader("cars-annotations", "stanford-cars/cars_test_annos_withlabels.mat", _official("stanford-cars"), Names.FILE),
    *(Reader(f"aircraft-{name}", f"fgvc-aircraft/data/{name}.txt", _official("fgvc-aircraft"),
             also=("fgvc-aircraft/data/images_variant_test.txt:",))
      for name in ("variants", "images_box", "images_variant_test")),
    Reader("voc-list", "voc/ImageSets/Segmentation/val.txt", _segmented("voc"), also=("voc/Annotations/", "voc: ")),
    Reader("voc-classes", "voc/classes.txt", _segmented("voc"), also=("voc/SegmentationClass/", "voc/classes.txt: ")),
    Reader("voc-xml", "voc/Annotations/val_0.xml", _segmented("voc"), Names.FILE),
    Reader("voc-labels", "voc/SegmentationClass/val_0.png", _segmented("voc"), Names.FILE),
    Reader("coco-instances", "coco/annotations/instances_val2014.json", _segmented("coco"), Names.FILE, also=("coco: ",)),
    Reader("manifest", "run/manifest.json", _predictions, Names.FILE),
    Reader("manifest-evaluated", "run/manifest.json", _evaluated, Names.WORLD),
    Reader("manifest-resumed", "run/manifest.json", _resumed, Names.FILE),
    Reader("predictions", "run/predictions.jsonl", _predictions, also=("run/maps/",)),
    Reader("predictions-evaluated", "run/predictions.jsonl", _evaluated, also=("run: ", "run/maps/")),
    Reader("map", "map.npy", lambda world: read_map(world / "map.npy", FRAME), Names.FILE),
    *(Reader(f"image-{name}", name, _image(name), Names.FILE) for name in IMAGES),
]  # fmt: skip
if TORCH:
    from tests.hostile import torch_readers

    READERS += [Reader(name, place, read, Names.FILE) for name, place, read in torch_readers.READERS]
if TENSORFLOW:
    from tests.hostile import tensorflow_readers

    READERS += [
        Reader(name, place, read, Names.LINE if place.endswith(".txt") else Names.FILE)
        for name, place, read in tensorflow_readers.READERS
    ]
BY_NAME = {reader.name: reader for reader in READERS}


# --------------------------------------------------------------------------------------------------------------- world


def make_world(world: Path) -> Path:
    """A folder with a good file in each reader's place."""
    cub = small_cub.make(world / "cub", train=1, test=2)
    source = DataSource("cub", cub, "test")
    dataset = source.load()
    shutil.copytree(cub / "images", world / "folder")
    for split in ("train", "test"):
        shutil.copytree(cub / "images", world / "splits" / split)
    runs.write(world / "run", source, misses=1)
    texts = {
        "boxes.csv": [f"{s.image_id},{','.join(f'{v:g}' for v in s.boxes[0])}" for s in dataset],
        "metadata/test/image_ids.txt": [s.image_id for s in dataset],
        "metadata/test/class_labels.txt": [f"{s.image_id},{s.label}" for s in dataset],
        "metadata/test/image_sizes.txt": [f"{s.image_id},80,60" for s in dataset],
        "metadata/test/localization.txt": [f"{s.image_id},{','.join(f'{v:g}' for v in s.boxes[0])}" for s in dataset],
        "bas.txt": [f"{s.image_id};{s.label}" for s in dataset],
        "bas_boxes.txt": [" ".join(f"{v:g}" for v in (*s.boxes[0], 60, 80)) for s in dataset],
        "spol.txt": [f"{s.image_id},{s.label},{' '.join(f'{v:g}' for v in s.boxes[0])}" for s in dataset],
        "dgl.txt": [f"{s.image_id}\t{s.label}\t" + "\t".join(f"{v:g}" for v in s.boxes[0]) for s in dataset],
        "adl-cub.txt": [f"{s.image_id} {s.label} {' '.join(f'{v:g}' for v in s.boxes[0])}" for s in dataset],
        "ts-cam.txt": [f"{s.image_id} {s.label}" + 2 * f" {' '.join(f'{v:g}' for v in s.boxes[0])}" for s in dataset],
        "spreadsheet.csv": [
            "sep=;", "split;image_path;x;y;width;height",
            *(f"test;{s.image_id};{s.boxes[0][0]:g};2,0;30;40" for s in dataset),
        ],
        "tiny/LOC_synset_mapping.txt": ["n01440764 tench", "n01443537 goldfish"],
        "tiny/val/val_annotations.txt": ["0.JPEG\tn01440764\t1\t2\t30\t40", "1.JPEG\tn01443537\t1\t2\t30\t40"],
        "ilsvrc/LOC_synset_mapping.txt": ["n01440764 tench, Tinca tinca", "n01443537 goldfish"],
        "ilsvrc/LOC_val_solution.csv": ["ImageId,PredictionString", "ILSVRC2012_val_00000001,n01440764 1 2 30 40 "],
        "ilsvrc/val_xml/ILSVRC2012_val_00000001.xml": [
            "<annotation><object><name>n01440764</name><bndbox><xmin>1</xmin><ymin>2</ymin><xmax>30</xmax>"
            "<ymax>40</ymax></bndbox></object></annotation>"
        ],
    }  # fmt: skip
    for name, lines in texts.items():
        (world / name).parent.mkdir(parents=True, exist_ok=True)
        (world / name).write_text("".join(f"{line}\n" for line in lines), encoding="utf-8")
    (world / "ilsvrc" / "val").mkdir()
    Image.fromarray(fill.image(60, 80)).save(world / "ilsvrc" / "val" / "ILSVRC2012_val_00000001.JPEG")
    for name, make in (("stanford-dogs", official_sets.dogs), ("stanford-cars", official_sets.cars),
                       ("fgvc-aircraft", official_sets.aircraft), ("devkit", official_sets.devkit)):  # fmt: skip
        make(world / name)
    scenes.write(world / "voc", {"val": 2})
    _make_coco(world / "coco")
    np.save(world / "map.npy", np.zeros((224, 224), np.float32))
    _make_images(world)
    if TORCH:
        torch_readers.make(world)
    if TENSORFLOW:
        tensorflow_readers.make(world)
    return world


def _make_coco(root: Path) -> None:
    """Two images: objects as a polygon and as a crowd's run lengths, and none."""
    (root / "annotations").mkdir(parents=True)
    (root / "val2014").mkdir()
    images = [{"id": number, "file_name": f"{number}.jpg", "width": 6, "height": 4} for number in (1, 2)]
    objects = [
        {"id": 1, "image_id": 1, "category_id": 3, "area": 6.0, "iscrowd": 0, "segmentation": [[0, 0, 3, 0, 3, 2, 0, 2]]},
        {"id": 2, "image_id": 1, "category_id": 51, "area": 4.0, "iscrowd": 1,
         "segmentation": {"counts": [16, 4, 4], "size": [4, 6]}},
    ]  # fmt: skip
    categories = [{"id": 3, "name": "car"}, {"id": 51, "name": "bowl"}]
    content = {"images": images, "annotations": objects, "categories": categories}
    (root / "annotations/instances_val2014.json").write_text(json.dumps(content))


def _make_images(world: Path) -> None:
    picture = Image.fromarray(fill.image(12, 16))
    exif = Image.Exif()
    exif[0x0112] = 6
    picture.convert("L").save(world / "grey.png")
    picture.convert("P").save(world / "palette.png")
    Image.fromarray(np.arange(192, dtype=np.uint16).reshape(12, 16) * 300).save(world / "deep.png")
    picture.save(world / "plain.jpg")
    picture.convert("CMYK").save(world / "cmyk.jpg")
    picture.save(world / "turned.jpg", exif=exif)
    picture.convert("P").save(world / "moving.gif", save_all=True, append_images=[Image.new("P", (16, 12), 3)])
    for ending in ("bmp", "tif", "webp", "ppm"):
        picture.save(world / f"plain.{ending}")


def fault(reader: Reader, world: Path, line: int, text: str) -> str:
    """The refusal of a reader's good file with one line replaced."""
    rows = (world / reader.place).read_text().splitlines()
    rows[line - 1] = text
    outcome = attempt(reader, world, "".join(f"{row}\n" for row in rows).encode("utf-8", "surrogateescape"))
    assert outcome.kind == "refused", outcome
    return outcome.message
