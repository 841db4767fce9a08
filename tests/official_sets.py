"""Small copies of data sets' official layouts, whose boxes are worked out by hand where they are tested."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image
from scipy.io import savemat

from common.datasets.classes import imagenet_classes
from tests import fill

DOGS = ("n02085620-Chihuahua", "n02085782-Japanese_spaniel")
CARS = ("AM General Hummer SUV 2000", "Ram C/V Cargo Van Minivan 2012")
AIRCRAFT = ("707-320", "Cessna 172", "F/A-18")


def picture(path: Path, seed: int = 0, width: int = 80, height: int = 60) -> None:
    """A picture at `path`, whose folder is made."""
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(fill.image(height, width, seed)).save(path)


def cells(values: Sequence[Any]) -> np.ndarray:
    """A cell array of N rows, as MATLAB stores it."""
    array = np.empty((len(values), 1), object)
    array[:, 0] = list(values)
    return array


def records(rows: Sequence[dict[str, Any]]) -> np.ndarray:
    """A struct array of one row, as MATLAB stores it."""
    return np.array([tuple(row.values()) for row in rows], dtype=[(name, object) for name in rows[0]])[None]


def dogs(root: Path, train: int = 2, test: int = 1, packed: bool = True) -> Path:
    """Stanford Dogs: image k of class c has the object `k c+1 30 40`, and the last of a class `0 0 9 9` before it."""
    for split, numbers in (("train", range(train)), ("test", range(train, train + test))):
        ids = [(f"{name}/{name[:9]}_{k}.jpg", label, k) for label, name in enumerate(DOGS) for k in numbers]
        for image_id, label, k in ids:
            picture(root / "Images" / image_id, 10 * label + k)
            boxes = [(k, label + 1, 30, 40)] if k < numbers[-1] else [(0, 0, 9, 9), (k, label + 1, 30, 40)]
            objects = "".join(
                f"<object><name>{DOGS[label][10:]}</name><bndbox><xmin>{x0}</xmin><ymin>{y0}</ymin><xmax>{x1}</xmax>"
                f"<ymax>{y1}</ymax></bndbox></object>" for x0, y0, x1, y1 in boxes
            )  # fmt: skip
            place = root / "Annotation" / image_id.removesuffix(".jpg")
            place.parent.mkdir(parents=True, exist_ok=True)
            place.write_text(f"<annotation>{objects}</annotation>")
        savemat(root / f"{split}_list.mat", {
            "file_list": cells([image_id for image_id, _, _ in ids]),
            "annotation_list": cells([image_id.removesuffix(".jpg") for image_id, _, _ in ids]),
            "labels": np.array([[label + 1] for _, label, _ in ids], np.float64),
        }, do_compression=packed)  # fmt: skip
    return root


def cars_annotations(path: Path, rows: Sequence[tuple[int, int, int, int, int, str]]) -> None:
    """A file of annotations: x1 y1 x2 y2, class, file name."""
    path.parent.mkdir(parents=True, exist_ok=True)
    names = ("bbox_x1", "bbox_y1", "bbox_x2", "bbox_y2", "class", "fname")
    savemat(path, {"annotations": records([dict(zip(names, row, strict=True)) for row in rows])}, do_compression=True)


def cars(root: Path) -> Path:
    """Stanford Cars: three training images and two to test on."""
    rows = {
        "train": [(1, 1, 80, 60, 1, "00001.jpg"), (11, 6, 50, 40, 2, "00002.jpg"), (2, 3, 9, 9, 2, "00003.jpg")],
        "test": [(21, 16, 60, 50, 2, "00001.jpg"), (1, 2, 3, 4, 1, "00002.jpg")],
    }
    for number, (split, each) in enumerate(rows.items()):
        for row in each:
            picture(root / f"cars_{split}" / row[-1], 100 * number + row[0])
    cars_annotations(root / "devkit/cars_train_annos.mat", rows["train"])
    cars_annotations(root / "cars_test_annos_withlabels.mat", rows["test"])
    savemat(root / "devkit/cars_meta.mat", {"class_names": cells(CARS).T})
    return root


def aircraft(root: Path) -> Path:
    """FGVC-Aircraft: image `k` of a split of a variant, with the box `k 2 60 40` in pixels counted from 1."""
    data, number, boxes = root / "data", 0, []
    lists: dict[str, list[str]] = {"train": [], "val": [], "trainval": [], "test": []}
    for split, count in (("train", 2), ("val", 1), ("test", 1)):
        for variant in AIRCRAFT:
            for _ in range(count):
                number += 1
                picture(data / "images" / f"{number:07d}.jpg", number)
                boxes.append(f"{number:07d} {number} 2 60 40")
                for each in (split, "trainval") if split != "test" else (split,):
                    lists[each].append(f"{number:07d} {variant}")
    texts = {
        "variants": AIRCRAFT,
        "images_box": boxes,
        **{f"images_variant_{key}": each for key, each in lists.items()},
    }
    for name, rows in texts.items():
        (data / f"{name}.txt").write_text("".join(f"{row}\n" for row in rows))
    return root


def imagenetv2(root: Path, classes: Sequence[int] = (0, 2, 10)) -> Path:
    """ImageNetV2: two images in each numbered folder."""
    for number in classes:
        for each in range(2):
            picture(root / str(number) / f"{each:040x}.jpeg", 10 * number + each)
    return root


def openimages(repository: Path) -> Path:
    """OpenImages30k as wsolevaluation's repository has it: one image a split and class, with a mask in val and test."""
    root = repository / "dataset/OpenImages"
    for seed, split in enumerate(("train", "val", "test")):
        ids = [f"{split}/m_0{number}x/{split}{number}.jpg" for number in range(2)]
        for number, image_id in enumerate(ids):
            picture(root / image_id, 10 * seed + number)
        texts = {
            "image_ids": ids,
            "class_labels": [f"{image_id},{number}" for number, image_id in enumerate(ids)],
            "image_sizes": [f"{image_id},80,60" for image_id in ids],
        }
        if split != "train":
            texts["localization"] = [f"{image_id},{image_id[:-4]}_mask.png," for image_id in ids]
            for image_id in ids:
                mask = Image.new("L", (80, 60))
                mask.paste(255, (10, 10, 50, 40))
                mask.save(root / f"{image_id[:-4]}_mask.png")
        folder = repository / "metadata/OpenImages" / split
        folder.mkdir(parents=True)
        for name, rows in texts.items():
            (folder / f"{name}.txt").write_text("".join(f"{row}\n" for row in rows))
    return root


def devkit(root: Path, wnids: Sequence[str] = imagenet_classes()[:3]) -> Path:
    """ILSVRC2012's devkit `t12`: `meta.mat` numbers the wnids from 1 backwards, and one inner node comes last; flat
    validation images of the classes 2, 1, 3 by its numbers.
    """
    numbered = [*reversed(wnids), "n00001740"]
    rows = [{
        "ILSVRC2012_ID": number, "WNID": wnid, "words": f"words of {wnid}", "gloss": "x",
        "num_children": int(number > len(wnids)),
    } for number, wnid in enumerate(numbered, start=1)]  # fmt: skip
    data = root / "ILSVRC2012_devkit_t12/data"
    data.mkdir(parents=True)
    savemat(data / "meta.mat", {"synsets": records(rows).T})
    (data / "ILSVRC2012_validation_ground_truth.txt").write_text("2\n1\n3\n")
    for number in (1, 2, 3):
        picture(root / "val" / f"ILSVRC2012_val_{number:08d}.JPEG", number)
    return root
