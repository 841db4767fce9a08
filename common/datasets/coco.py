"""MS COCO for semantic segmentation: labels and label maps from the annotation files of instances.

    annotations/instances_<split>2014.json (or 2017)   <split>2014/<file name>

Classes are the categories in the order of their ids, 80 of them. An image's labels are the categories of its objects;
images without an object are left out and counted. A label map is drawn from the objects' outlines, the largest first,
so that a small object on a large one is seen; pixels of a crowd are ignored.
"""

from collections import defaultdict
from pathlib import Path
from typing import Any

from common.datasets.sample import Dataset, OnProblem, Outlines, Sample, raise_problem
from common.system.errors import UserError, inside
from common.system.files import read_json

YEARS = ("2014", "2017")


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
    objects = _objects(content["annotations"], number_of, path, on_problem)
    samples, empty = [], 0
    for entry in content["images"]:
        try:
            key, name, size = _image(entry, path)
            found = objects.get(key, [])
            empty += not found
            if found:
                labels = tuple(sorted({label for label, *_ in found}))
                found.sort(key=lambda each: -each[3])
                outlines = Outlines(size, tuple((label + 1, shape, crowd) for label, shape, crowd, _ in found))
                place = inside(images, name, where=path)
                stem = name.rsplit(".", 1)[0]
                samples.append(Sample(stem, place, labels[0], labels=labels, truth=outlines, declared_size=size))
        except UserError as problem:
            on_problem(problem)
    samples.sort(key=lambda sample: sample.image_id)
    left_out = {"no object is annotated": empty} if empty else {}
    return Dataset("coco", split, tuple(samples), names, left_out, multi_label=True)


def _places(root: Path, split: str) -> tuple[Path, Path]:
    for year in YEARS:
        path = root / "annotations" / f"instances_{split}{year}.json"
        if path.is_file():
            return path, root / f"{split}{year}"
    raise UserError(f"no annotations of the split {split!r}", where=root,
                    expected=f"annotations/instances_{split}2014.json")  # fmt: skip


def _categories(entries: list[Any], path: Path) -> tuple[tuple[str, ...], dict[int, int]]:
    try:
        ordered = sorted((int(entry["id"]), str(entry["name"])) for entry in entries)
    except (TypeError, KeyError, ValueError) as error:
        raise UserError("a category has no id or name", where=path) from error
    if not 1 <= len(ordered) <= 254:
        raise UserError(f"{len(ordered)} categories", where=path, expected="1 to 254")
    return tuple(name for _, name in ordered), {key: number for number, (key, _) in enumerate(ordered)}


def _objects(
    entries: list[Any], number_of: dict[int, int], path: Path, on_problem: OnProblem
) -> dict[int, list[tuple[int, tuple, bool, float]]]:
    """(class, outline, crowd, area) of every object, by its image."""
    found = defaultdict(list)
    for entry in entries:
        try:
            label, image, area = number_of[entry["category_id"]], int(entry["image_id"]), float(entry.get("area", 0))
            shape = _outline(entry["segmentation"])
            found[image].append((label, shape, bool(entry.get("iscrowd", 0)), area))
        except (TypeError, KeyError, ValueError, AttributeError) as error:
            number = entry.get("id") if isinstance(entry, dict) else entry
            on_problem(UserError(f"the annotation {str(number)[:60]} is not one of an object ({error})", where=path))
    return found


def _outline(value: Any) -> tuple:
    if isinstance(value, dict):
        if not isinstance(value["counts"], list):
            raise ValueError("compressed run lengths, expected plain ones")
        return tuple(int(count) for count in value["counts"])
    polygons = tuple(tuple(float(number) for number in polygon) for polygon in value)
    if any(len(polygon) % 2 or len(polygon) < 6 or max(map(abs, polygon)) > 1e6 for polygon in polygons):
        raise ValueError("a polygon of fewer than three points, or beyond any image")
    return polygons


def _image(entry: Any, path: Path) -> tuple[int, str, tuple[int, int]]:
    try:
        size = int(entry["width"]), int(entry["height"])
        if min(size) < 1 or size[0] * size[1] > 100_000_000:
            raise ValueError(f"its size is {size[0]}x{size[1]}")
        return int(entry["id"]), str(entry["file_name"]), size
    except (TypeError, KeyError, ValueError) as error:
        raise UserError(f"an image's entry can't be read ({error})", where=path) from error
