"""The embedded data set: pictures of invented birds in CUB's own layout, rendered from a seed, free of any licence.

It has the difficulty that weakly supervised localization is about: all species share one large body and differ most
surely on the head, so a classifier looks there, and so does its class activation map. Boxes and masks are exact.
`load` is CUB's reader; masks are in `segmentations/`.
"""

import functools
import io
import multiprocessing
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from common.system.errors import UserError
from common.system.files import holds_files, read_json, write_atomically, write_json, write_text
from common.system.parallel import left_to_this_process, pool_of
from common.system.progress import bar

RECORD = "demo.json"
VERSION = 1
"""Raised when the same seed gives other pictures."""


@dataclass(frozen=True)
class Recipe:
    """Sizes and numbers of what is rendered."""

    train_per_class: int = 50
    """Training images of each of the eight species."""
    test_per_class: int = 25
    """Test images of each species."""
    seed: int = 0
    """Everything in the pictures follows from it."""


@dataclass(frozen=True)
class Painted:
    """One image that has been written: its line in each of CUB's files."""

    image_id: str
    label: int
    train: bool
    box: tuple[int, int, int, int]


def render(root: Path, recipe: Recipe = Recipe(), workers: int = 2) -> None:
    """Render the data set into `root`, or return at once where it is already there.

    Args:
        root: a new folder, or one that an earlier call left unfinished.
        recipe: how many images, and the seed.
        workers: processes; the pictures do not depend on how many.

    Raises:
        UserError: `root` holds something else, or another recipe.
    """
    jobs = _jobs(recipe)
    render_all(
        root,
        {"version": VERSION, **asdict(recipe)},
        functools.partial(_paint_one, root, recipe.seed),
        jobs,
        workers,
        lambda painted: _write_lists(root, painted),
    )


def render_all(
    root: Path,
    record: dict[str, Any],
    paint_one: Callable[[Any], Any],
    jobs: Sequence[Any],
    workers: int,
    write_lists: Callable[[list[Any]], None],
) -> None:
    """Render a data set into `root`, or return at once where it is already there.

    Args:
        root: a new folder, or one that an earlier call left unfinished.
        record: what tells this data set from others, for `demo.json`.
        paint_one: writes the files of one job.
        jobs: a job an image.
        workers: processes.
        write_lists: given what `paint_one` returned for each job, writes the rest.

    Raises:
        UserError: `root` holds something else, or another recipe.
    """
    if (root / RECORD).is_file():
        found = read_json(root / RECORD)
        if not isinstance(found, dict) or {key: found.get(key) for key in record} != record:
            raise UserError(
                f"the folder holds other demo data ({found})", where=root, do="choose another folder or delete it"
            )
        if found.get("complete"):
            return
    elif holds_files(root):
        raise UserError("the folder is not empty and holds no demo data", where=root, do="choose another folder")
    write_json(root / RECORD, {**record, "complete": False})
    with pool_of(max(1, workers), multiprocessing.get_context("spawn")) as pool:
        with left_to_this_process():
            results = pool.map(paint_one, jobs, chunksize=4)
        painted = list(bar(results, total=len(jobs), desc="rendering the demo data"))
    write_lists(painted)
    write_json(root / RECORD, {**record, "complete": True})


def _jobs(recipe: Recipe) -> list[tuple[int, int, bool]]:
    """(species, number, train) in CUB's order: by class, training and test images mixed."""
    from common.datasets.layouts.demo_art import SPECIES

    count = recipe.train_per_class + recipe.test_per_class
    jobs = []
    for label in range(len(SPECIES)):
        order = np.random.default_rng((recipe.seed, label)).permutation(count)
        jobs += [(label, number, bool(order[number] < recipe.train_per_class)) for number in range(count)]
    return jobs


def _paint_one(root: Path, seed: int, job: tuple[int, int, bool]) -> Painted:
    from common.datasets.layouts.demo_art import SPECIES, paint

    label, number, train = job
    species = SPECIES[label]
    picture = paint(species, np.random.default_rng((seed, label, number)))
    stem = f"{species.name}/{species.name.split('.')[1]}_{number + 1:04d}"
    save_picture(root / "images" / f"{stem}.jpg", picture.image, format="JPEG", quality=92)
    save_picture(root / "segmentations" / f"{stem}.png", picture.mask.astype(np.uint8) * 255, format="PNG")
    return Painted(f"{stem}.jpg", label, train, picture.box)


def save_picture(path: Path, pixels: np.ndarray, **options: Any) -> None:
    """Write pixels as an image file; `options` go to Pillow's `save`."""
    content = io.BytesIO()
    Image.fromarray(pixels).save(content, **options)
    write_atomically(path, lambda file: file.write(content.getbuffer()))


def _write_lists(root: Path, painted: list[Painted]) -> None:
    from common.datasets.layouts.demo_art import SPECIES

    rows = list(enumerate(painted, start=1))
    texts = {
        "images.txt": [f"{number} {item.image_id}" for number, item in rows],
        "image_class_labels.txt": [f"{number} {item.label + 1}" for number, item in rows],
        "train_test_split.txt": [f"{number} {int(item.train)}" for number, item in rows],
        "bounding_boxes.txt": [
            f"{number} {x0:.1f} {y0:.1f} {x1 - x0:.1f} {y1 - y0:.1f}"
            for number, item in rows
            for x0, y0, x1, y1 in [item.box]
        ],
        "classes.txt": [f"{number} {species.name}" for number, species in enumerate(SPECIES, start=1)],
    }
    for name, lines in texts.items():
        write_text(root / name, "".join(f"{line}\n" for line in lines))
