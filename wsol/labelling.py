"""Make a detection data set of class folders without boxes: localize every image, write the data set, and a page.

    wsol label birds --checkpoint runs/bas/final.pth --format yolo --out labelled
    wsol label birds --checkpoint imagenet:mobilenet_v1 --method dgl --layer 5 --format coco --out labelled

writes, below --out:

    predictions/SPLIT/  maps, boxes and classes of the images, which `wsol report` and `wsol export` read again
    dataset/            images, boxes and splits in the format asked for
    page.html           the images with their boxes; its gallery shows the unsure ones first, and saves a review of
                        images to drop, which the same command takes with --review

FOLDER holds class folders, or train/, val/ or test/ that hold them. A box is of the folder's class: the map is made
for that class where the network knows one of that name, and for the network's own choice otherwise, which is said.
The command goes on where it was stopped.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Annotated, Literal

import numpy as np
import tyro

from common.datasets import Dataset, DataSource, Sample, trained
from common.datasets.splits import WHOLE, present
from common.exporting.dataset import MADE, DetectionOptions, export_dataset, need_exportable
from common.pictures.images import ImageError, is_turned, read_rgb
from common.report.page import Report, build
from common.results.evaluation import EvaluationOptions
from common.runs.localizing import Classes, Localizing
from common.runs.writer import PredictionsWriter
from common.system.errors import UserError, run_command, say
from common.system.files import sha256, write_text
from common.system.options import also, parse
from wsol.loading import load
from wsol.localizer import Localizer, Seen

TURNED = "turned by its EXIF tag: trainers follow it, boxes of the stored picture do not"


@dataclass(frozen=True)
class Label:
    """Make a detection data set of class folders without boxes."""

    folder: tyro.conf.Positional[Path]
    """Folder of class folders, or of train/, val/ or test/ with class folders in them."""
    checkpoint: Annotated[str, also("load", "snapshot")]
    """Checkpoint, as `wsol localize` takes it."""
    out: Path
    """Folder for predictions/, dataset/ and page.html."""
    format: Literal["yolo", "coco", "voc", "labelme", "csv", "wsoleval"] = "yolo"
    """Format of the data set."""
    method: Literal["cam", "bas", "spol", "dgl", "grcam", "grad-cam"] | None = None
    """The method; what the checkpoint was trained for if omitted, and CAM of a classifier."""
    layer: str | None = None
    """Layer of DGL and Grad-CAM: a module's name, or a number counted from the last map down."""
    arch: str | None = None
    """Architecture of a plain state dict: timm:<name>, torchvision:<name> or yourmodule:build."""
    class_names: Path | None = None
    """File with a class name a line, where the checkpoint does not say."""
    classifier: str | None = None
    """Classifier beside SPOL: a final.pth of stage cls, or imagenet:<arch>."""
    input_size: int | None = None
    """Side of the input of a classifier of your own; the library's if omitted."""
    mean: tuple[float, float, float] | None = None
    """RGB mean that its images in [0, 1] are normalized with; the library's if omitted."""
    std: tuple[float, float, float] | None = None
    """RGB deviation that its images are normalized with; the library's if omitted."""
    sigmoid: bool = False
    """Probabilities of a classifier of your own are each score's sigmoid, as where it gives several labels at once."""
    detection: tyro.conf.OmitArgPrefixes[DetectionOptions] = field(default_factory=DetectionOptions)
    """Rules by which maps become boxes."""
    pictured: int = 2000
    """Images on the page at most."""
    batch_size: int = 8
    """Images at a time."""
    device: str = "auto"
    """PyTorch device: auto, cpu, cuda or cuda:N."""
    overwrite: bool = False
    """Start anew where there are other results."""


@dataclass(frozen=True)
class _Loaded:
    """One image as `Localizing` takes it."""

    sample: Sample
    problem: str | None
    pixels: np.ndarray | None


def label(options: Label) -> list[str]:
    """Localize, write the data set and the page, and say in lines what is in them.

    Raises:
        UserError: a folder or checkpoint that can't be used, or results of something else in `out`.
    """
    localizer = load(
        options.checkpoint, options.method, layer=options.layer, arch=options.arch, class_names=options.class_names,
        classifier=options.classifier, device=options.device, threshold=options.detection.threshold,
        input_size=options.input_size, mean=options.mean, std=options.std, sigmoid=options.sigmoid,
    )  # fmt: skip
    sources = [DataSource("folder", options.folder, split) for split in present(options.folder) or [WHOLE]]
    datasets = [source.load() for source in sources]
    _refuse_other_classes(datasets, options.folder)
    _refuse_among_classes(options, sources)
    target = options.out / "dataset"
    again = options.overwrite or (target / MADE).is_file()  # its own earlier result, perhaps before a review
    ids = {dataset.split: [each.image_id for each in dataset if _opens(each)] for dataset in datasets}
    need_exportable(options.detection, options.format, target, ids, again)  # before hours of localizing
    directories, notes = [], []
    for source, dataset in zip(sources, datasets, strict=True):
        directory, note = _localize(options, localizer, source, dataset)
        directories.append(directory)
        notes += note
    asked = EvaluationOptions(tuple(directories))
    detection = replace(options.detection, threshold=None)  # the stored boxes were made with it already
    notes += export_dataset(asked, detection, options.format, target, again, boxes_at="stored")
    page = options.out / "page.html"
    write_text(page, build(Report(tuple(directories), out=page, gallery=options.pictured)))
    return [*notes, f"data set: {target}", f"page: {page.resolve()}#gallery?order=unsure"]


def _refuse_other_classes(datasets: Sequence[Dataset], folder: Path) -> None:
    """Refuse (`UserError`) splits of different classes before hours of localizing: no data set can be made of them."""
    first = datasets[0]
    for other in datasets[1:]:
        if apart := sorted(set(first.class_names) ^ set(other.class_names)):
            only = first.split if apart[0] in first.class_names else other.split
            raise UserError(f"the splits {first.split} and {other.split} have different classes: {apart[0]} is one of "
                            f"{only} alone", where=folder, do="give both splits all class folders that hold images, or "
                            "label them apart")  # fmt: skip


def _refuse_among_classes(options: Label, sources: Sequence[DataSource]) -> None:
    """Refuse (`UserError`) an `out` among the class folders, where it would be a class the next time."""
    for source in sources:
        images = options.folder if source.split == WHOLE else options.folder / source.split
        if options.out.resolve().is_relative_to(images.resolve()):
            raise UserError("--out lies among the class folders", where=options.out,
                            do=f"choose one outside {images}")  # fmt: skip


def _opens(sample: Sample) -> bool:
    """Whether an image's header tells of nothing for which it will be left out."""
    try:
        return not is_turned(sample.path)
    except ImageError:
        return False


def _record(checkpoint: str) -> dict[str, str | None]:
    """Name and sha256 of a checkpoint of any kind; no sha256 of what a library brings."""
    path = Path(checkpoint)
    if path.is_file():
        return {"name": path.name, "sha256": sha256(path)}
    if path.is_dir() or Path(f"{checkpoint}.index").is_file():
        from common.tensorflow_files.checkpoint import open_checkpoint

        opened = open_checkpoint(checkpoint)
        return {"name": opened.name, "sha256": opened.fingerprint()}
    return {"name": path.name, "sha256": None}


def _localize(options: Label, localizer: Localizer, source: DataSource, dataset: Dataset) -> tuple[Path, list[str]]:
    method, numbers = localizer.method, _numbers(localizer, dataset)
    known = {dataset.class_names[label]: number for label, number in numbers.items()}
    classifier = None if options.classifier is None else _record(options.classifier)
    images = {name: getattr(options, name) for name in ("input_size", "mean", "std", "sigmoid")}
    checkpoints = [each for each in (options.checkpoint, options.classifier) if each is not None]
    header = {
        "method": method.name,
        "architecture": method.architecture,
        "checkpoint": _record(options.checkpoint),
        "data": {**source.described(dataset), "trained_images": trained.compared(dataset, checkpoints),
                 "training_steps": [trained.steps(each) for each in checkpoints]},
        "classifier": None if method.num_classes is None else {"name": method.architecture, "crops": 1},
        "frame": localizer.kind,
        "options": {
            "layer": options.layer, "threshold": localizer.rule.threshold, "classes": known, "classifier": classifier,
            **{name: value for name, value in images.items() if value},
        },
    }  # fmt: skip
    directory = options.out / "predictions" / source.split
    writers = {"run": PredictionsWriter(directory, header, options.overwrite)}
    with Localizing(dataset, writers, options.batch_size, box=localizer.rule) as run:
        for items in run.batches(_batches(run.left, options.batch_size)):
            for item, seen in zip(items, _look(localizer, items, numbers), strict=True):
                run.write("run", item.sample, seen.frame, _classes(seen, numbers), seen.localization_map)
    run.finish()
    unknown = len(dataset.class_names) - len(numbers)
    if method.num_classes is None or not unknown:
        return directory, []
    return directory, [f"{source.split}: the network knows no class called as {unknown} of {len(dataset.class_names)} "
                       "folders; their maps are of the class that it takes the image for, and their boxes' score is "
                       f"{int(not numbers)}"]  # fmt: skip


def _numbers(localizer: Localizer, dataset: Dataset) -> dict[int, int]:
    """The network's class of each label, for folders that are called as one."""
    names = localizer.class_names or ()
    known = {name: number for number, name in enumerate(names)}
    if twice := [name for name in dataset.class_names if names.count(name) > 1]:
        raise UserError(f"the network has {names.count(twice[0])} classes that are called {twice[0]!r}",
                        do="tell them apart with --class-names")  # fmt: skip
    return {number: known[name] for number, name in enumerate(dataset.class_names) if name in known}


def _batches(samples: Sequence[Sample], size: int) -> Iterator[list[_Loaded]]:
    for start in range(0, len(samples), size):
        yield [_loaded(sample) for sample in samples[start : start + size]]


def _loaded(sample: Sample) -> _Loaded:
    try:
        if is_turned(sample.path):
            return _Loaded(sample, TURNED, None)
        return _Loaded(sample, None, read_rgb(sample.path))
    except ImageError as problem:
        return _Loaded(sample, problem.found, None)


def _look(localizer: Localizer, items: Sequence[_Loaded], numbers: dict[int, int]) -> list[Seen]:
    """Maps of the folders' classes, and of the network's choice where it knows no class of that name."""
    seen: dict[int, Seen] = {}
    known = [place for place, item in enumerate(items) if item.sample.label in numbers]
    rest = [place for place in range(len(items)) if place not in set(known)]
    for places, labels in ((known, [numbers[items[place].sample.label] for place in known]), (rest, None)):
        if places:
            pixels = [image for place in places if (image := items[place].pixels) is not None]
            seen |= dict(zip(places, localizer.method.look(pixels, localizer.kind, labels), strict=True))
    return [seen[place] for place in range(len(items))]


def _classes(seen: Seen, numbers: dict[int, int]) -> Classes:
    """The best classes among the folders' that the network knows, by the folders' numbers."""
    if seen.probabilities is None or not numbers:
        return Classes()
    labels = list(numbers)
    scores = seen.probabilities[[numbers[label] for label in labels]]
    order = np.argsort(-scores, kind="stable")[:5]
    return Classes(tuple(labels[place] for place in order), tuple(float(scores[place]) for place in order))


def main() -> None:
    """Run the command line."""
    say(label(parse(Label, prog="wsol label", description=__doc__)))


if __name__ == "__main__":
    run_command(main)
