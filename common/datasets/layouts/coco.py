"""MS COCO for semantic segmentation: labels and label maps from the annotation files of instances.

    annotations/instances_<split>2014.json (or 2017, or no year)   <split>2014/<file name>, or in images/<split>2014
    <split>/_annotations.coco.json   <split>/<file name>, as Roboflow has it

Classes are the categories in the order of their ids, 80 of them. An image's labels are the categories of its objects;
images without an object are left out and counted. A label map is drawn from the objects' outlines, filled as COCO's own
tools fill them, the largest first, so that a small object on a large one is seen; pixels of a crowd are ignored. An
image one of whose objects has no outline, as in files for detectors, has labels and no label map.
"""

import math
from collections import defaultdict
from pathlib import Path
from typing import Any

import numpy as np

from common.datasets.files.text import refuse_fractions
from common.datasets.sample import Dataset, OnProblem, Outlines, Sample, raise_problem
from common.system.errors import UserError, inside
from common.system.files import read_json

YEARS = ("2014", "2017")
Box = tuple[float, float, float, float]
Object = tuple[int, tuple, bool, float, Box | None]
"""Class, outline, whether it is a crowd, area, and box `x0 y0 x1 y1` of an object."""


def load(root: Path, split: str, on_problem: OnProblem = raise_problem) -> Dataset:
    """One split of COCO.

    Args:
        root: the folder that holds `annotations/` and the folders of images.
        split: `train` or `val`.
        on_problem: told of every faulty entry, which is then left out.

    Raises:
        UserError: a file is missing, or by default any faulty entry.
    """
    path, images = _places(root, split)
    content = read_json(path)
    if not isinstance(content, dict) or not all(
        isinstance(content.get(name), list) for name in ("images", "annotations", "categories")
    ):
        raise UserError("not a file of instances", where=path, expected="images, annotations and categories")
    names, number_of = _categories(content["categories"], path)
    shapes = {str(entry.get("id")): [entry.get("height"), entry.get("width")]
              for entry in content["images"] if isinstance(entry, dict)}  # fmt: skip
    objects = _objects(content["annotations"], number_of, shapes, path, on_problem)
    shapes = (shape for found in objects.values() for _, shape, *_ in found if shape and isinstance(shape[0], tuple))
    refuse_fractions((np.array(polygon) for shape in shapes for polygon in shape), where=path, what="outlines")
    samples: list[Sample] = []
    seen: dict[int | str, str] = {}
    empty = 0
    for entry in content["images"]:
        try:
            key, name, size = _image(entry, path)
            _refuse_same(key, name, seen, path)
            found = [each for each in objects.get(key, []) if _fits(each, size, name, path, on_problem)]
            empty += not found
            if found:
                samples.append(_sample(name, inside(images, name, where=path), size, found))
        except UserError as problem:
            on_problem(problem)
    samples.sort(key=lambda sample: sample.image_id)
    left_out = {"no object is annotated": empty} if empty else {}
    notes = _notes(path, split, homeless=len(objects.keys() - seen.keys()))
    return Dataset("coco", split, tuple(samples), names, left_out, notes=notes, multi_label=True)


def _refuse_same(key: int, name: str, seen: dict[int | str, str], path: Path) -> None:
    """Refuse (`UserError`) an image whose id or name, the ending apart, is another's; else note it in `seen`."""
    for each in (key, name.rsplit(".", 1)[0]):
        if each in seen:
            raise UserError(f"{seen[each]} and {name} have the same {'id' if each == key else 'name'}", where=path)
        seen[each] = name


def _sample(name: str, place: Path, size: tuple[int, int], found: list[Object]) -> Sample:
    """One image with its objects, of which there is at least one."""
    labels = tuple(sorted({label for label, *_ in found}))
    by_area = sorted(found, key=lambda each: -each[3])
    drawn = tuple((label + 1, shape, crowd) for label, shape, crowd, *_ in by_area)
    outlines = Outlines(size, drawn) if all(shape for _, shape, _ in drawn) else None
    boxes = tuple((label, box) for label, _, crowd, _, box in by_area if box is not None and not crowd)
    return Sample(name.rsplit(".", 1)[0], place, labels[0], labels=labels, objects=boxes, truth=outlines,
                  declared_size=size)  # fmt: skip


def _notes(path: Path, split: str, homeless: int) -> tuple[str, ...]:
    """Notes on objects of images that the file does not list, and on the annotations of another year."""
    notes = [f"the objects of {homeless} images that the file does not list are passed over"] if homeless else []
    years = [year for year in YEARS if (path.parent / f"instances_{split}{year}.json").is_file()]
    if len(years) > 1:
        notes.append(f"{path.name} is read; say --data.split {split}{years[1]} for that year's")
    return tuple(notes)


def _places(root: Path, split: str) -> tuple[Path, Path]:
    for year in (*YEARS, ""):
        path, name = root / "annotations" / f"instances_{split}{year}.json", f"{split}{year}"
        if path.is_file():
            folders = [root / name, root / "images" / name, *([root / "images"] if not year else [])]
            return path, next((folder for folder in folders if folder.is_dir()), folders[0])
    if (root / split / "_annotations.coco.json").is_file():
        return root / split / "_annotations.coco.json", root / split
    raise UserError(f"no annotations of the split {split!r}", where=root,
                    expected=f"annotations/instances_{split}2014.json, with another year or none")  # fmt: skip


def _categories(entries: list[Any], path: Path) -> tuple[tuple[str, ...], dict[int, int]]:
    try:
        ordered = sorted((_whole(entry["id"]), str(entry["name"])) for entry in entries)
    except (TypeError, KeyError, ValueError) as error:
        raise UserError("a category has no id or name", where=path) from error
    if len({key for key, _ in ordered}) != len(ordered):
        raise UserError("two categories have the same id", where=path)
    if not 1 <= len(ordered) <= 254:
        raise UserError(f"{len(ordered)} categories", where=path, expected="1 to 254")
    return tuple(name for _, name in ordered), {key: number for number, (key, _) in enumerate(ordered)}


def _objects(
    entries: list[Any], number_of: dict[int, int], shapes: dict[str, list[Any]], path: Path, on_problem: OnProblem
) -> dict[int, list[Object]]:
    """Every object, by its image, whose height and width are in `shapes`."""
    found = defaultdict(list)
    for entry in entries:
        try:
            label, image = number_of[entry["category_id"]], _whole(entry["image_id"])
            shape = _outline(entry.get("segmentation") or (), shapes.get(str(image)))
            area = float(entry["area"]) if "area" in entry else _area(shape)
            if not math.isfinite(area):
                raise ValueError(f"its area is {area}")
            found[image].append((label, shape, bool(entry.get("iscrowd", 0)), area, _box(entry.get("bbox"))))
        except (TypeError, KeyError, ValueError, OverflowError, AttributeError) as error:
            number = entry.get("id") if isinstance(entry, dict) else entry
            on_problem(UserError(f"the annotation {str(number)[:60]} is not one of an object ({error})", where=path))
    return found


def _box(value: Any) -> Box | None:
    """COCO's `x y width height` as `x0 y0 x1 y1`; None where there is none that makes sense, as maps need none."""
    if not isinstance(value, list) or len(value) != 4 or not all(type(each) in (int, float) for each in value):
        return None
    x, y, width, height = (float(each) for each in value)
    sound = all(abs(each) <= 1e6 for each in (x, y, width, height)) and min(width, height) > 0
    return (x, y, x + width, y + height) if sound else None


def _outline(value: Any, height_and_width: list[Any] | None) -> tuple:
    """Polygons or run lengths; empty where there is no outline."""
    if isinstance(value, dict):
        if value.get("size", height_and_width) != height_and_width:
            raise ValueError(f"run lengths of height and width {str(value['size'])[:40]}, not {height_and_width}")
        if not isinstance(value["counts"], list):
            raise ValueError("compressed run lengths, expected plain ones")
        return tuple(_whole(count) for count in value["counts"])
    polygons = tuple(tuple(float(number) for number in polygon) for polygon in value)
    if any(len(polygon) % 2 or len(polygon) < 6 or not all(abs(x) <= 1e6 for x in polygon) for polygon in polygons):
        raise ValueError("a polygon of fewer than three points, or beyond any image")
    return polygons


def _area(shape: tuple) -> float:
    """Pixels that an outline encloses."""
    if not shape or not isinstance(shape[0], tuple):
        return float(sum(shape[1::2]))
    corners = [np.array(polygon).reshape(-1, 2).T for polygon in shape]
    return float(sum(abs(x @ np.roll(y, -1) - y @ np.roll(x, -1)) / 2 for x, y in corners))


def _image(entry: Any, path: Path) -> tuple[int, str, tuple[int, int]]:
    try:
        size = _whole(entry["width"]), _whole(entry["height"])
        if min(size) < 1 or size[0] * size[1] > 100_000_000:
            raise ValueError(f"its size is {size[0]}x{size[1]}")
        return _whole(entry["id"]), str(entry["file_name"]), size
    except (TypeError, KeyError, ValueError) as error:
        raise UserError(f"an image's entry can't be read ({error})", where=path) from error


def _whole(value: Any) -> int:
    """A whole number, which some programs write with a fraction of 0.

    Raises:
        ValueError: it is none.
    """
    if isinstance(value, float) and value.is_integer():
        return int(value)
    if isinstance(value, bool) or not isinstance(value, int):
        raise ValueError(f"{str(value)[:40]!r} is no whole number")
    return value


def _fits(found: Object, size: tuple[int, int], name: str, path: Path, on_problem: OnProblem) -> bool:
    """Whether run lengths are those of an image of this size; polygons may stick out."""
    shape = found[1]
    if not shape or isinstance(shape[0], tuple) or (min(shape) >= 0 and sum(shape) == size[0] * size[1]):
        return True
    on_problem(UserError(f"an object of {name} has run lengths of another size than the image's", where=path,
                         expected=f"{size[0] * size[1]} pixels"))  # fmt: skip
    return False
