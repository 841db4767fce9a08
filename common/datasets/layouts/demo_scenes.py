"""The embedded data set for segmentation: pictures of one to three kinds of invented bird, in VOC's own layout.

Rendered from a seed, free of any licence, in the looks of `layouts.demo`. `layouts.voc` reads it.
"""

import functools
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np

from common.datasets.layouts.demo import render_all, save_picture
from common.system.files import write_text

VERSION = 1
"""Raised when the same seed gives other pictures."""
SPECIES_SHOWN = 5
SPLITS = ("train", "val", "test")


@dataclass(frozen=True)
class SceneRecipe:
    """Sizes and numbers of what is rendered."""

    train: int = 240
    """Training images."""
    val: int = 60
    """Images to choose thresholds on."""
    test: int = 100
    """Images to measure on."""
    seed: int = 0
    """Everything in the pictures follows from it."""


def render(root: Path, recipe: SceneRecipe = SceneRecipe(), workers: int = 2) -> None:
    """Render the data set into `root`, or return at once where it is already there; see `demo.render_all`."""
    counts = {split: getattr(recipe, split) for split in SPLITS}
    jobs = [(split, number) for split, count in counts.items() for number in range(count)]
    paint = functools.partial(_paint_one, root, recipe.seed)
    record = {"scenes": VERSION, **asdict(recipe)}
    render_all(root, record, paint, jobs, workers, functools.partial(_write_lists, root, jobs))


def class_names() -> tuple[str, ...]:
    """The species that are shown, without their numbers."""
    from common.datasets.layouts.demo_art import SPECIES

    return tuple(species.name.split(".")[1] for species in SPECIES[:SPECIES_SHOWN])


def _paint_one(root: Path, seed: int, job: tuple[str, int]) -> None:
    from common.datasets.layouts.demo_art import SPECIES, paint_scene

    split, number = job
    rng = np.random.default_rng((seed, SPLITS.index(split), number))
    shown = rng.choice(SPECIES_SHOWN, int(rng.integers(1, 4)), replace=False)
    scene = paint_scene([SPECIES[label] for label in shown], rng)
    labels = np.concatenate([[0], shown + 1]).astype(np.uint8)[scene.labels]
    seen, names, image_id = set(np.unique(labels)) - {0}, class_names(), _image_id(job)
    save_picture(root / "JPEGImages" / f"{image_id}.jpg", scene.image, format="JPEG", quality=92)
    save_picture(root / "SegmentationClass" / f"{image_id}.png", labels, format="PNG")
    objects = "".join(f"  <object><name>{names[label - 1]}</name></object>\n" for label in sorted(seen))
    write_text(root / "Annotations" / f"{image_id}.xml", f"<annotation>\n{objects}</annotation>\n")


def _image_id(job: tuple[str, int]) -> str:
    return f"{job[0]}_{job[1] + 1:05d}"


def _write_lists(root: Path, jobs: list[tuple[str, int]], _painted: list[None]) -> None:
    for split in SPLITS:
        ids = [_image_id(job) for job in jobs if job[0] == split]
        write_text(root / "ImageSets" / "Segmentation" / f"{split}.txt", "".join(f"{each}\n" for each in ids))
    write_text(root / "classes.txt", "".join(f"{name}\n" for name in class_names()))
