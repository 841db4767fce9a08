"""A whole data set checked: each split, the splits against each other, and all against what is known of such a set."""

from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Literal

import tyro

from common.datasets import Dataset, DataSource, checks, classes, splits, trained
from common.datasets.copies import copies_within, shared_images
from common.datasets.layouts import LAYOUTS, ilsvrc, lists
from common.system.errors import UserError
from common.system.options import also
from common.system.wording import number_of, some

Checked = Literal[
    "demo", "cub", "ilsvrc", "photographs", "folder", "wsoleval", "stanford-dogs", "stanford-cars", "fgvc-aircraft",
    "openimages", "imagenetv2", "voc", "coco", "demo-scenes",
]  # fmt: skip
CONTAINED = {frozenset(pair) for pair in (("train", "train_aug"), ("train", "trainval"), ("val", "trainval"))}
"""Splits of which the one is a part of the other."""


@dataclass(frozen=True)
class Checking:
    """Data set to check, and how closely."""

    name: tyro.conf.Positional[Checked]
    """Kind of data set."""
    root: Annotated[Path, also("data.root")]
    """The folder that holds it."""
    splits: Annotated[tuple[str, ...], also("data.split")] = ()
    """Splits to prepare; all that such a data set has if omitted. A folder without splits is `all`."""
    classes: Annotated[int | None, also("data.classes")] = None
    """Number of classes to take, the first ones; all if omitted."""
    subset: bool = False
    """The data are a part of the whole set, such as ImageNet-100: what is missing is a note and no problem."""
    metadata: Annotated[Path | None, also("data.metadata")] = None
    """wsoleval, openimages: the folder that holds train/, val/ and test/."""
    boxes: Annotated[Path | None, also("data.boxes")] = None
    """folder, imagenetv2: a CSV file path,x0,y0,x1,y1."""
    leave_out: Annotated[tuple[Literal["blacklist", "odd"], ...], also("data.leave-out")] = ()
    """ilsvrc: leave out the devkit's blacklisted images, or files known to be odd."""
    decode: checks.Decode = "all"
    """Decode every image, read headers only, or don't open images."""
    workers: int = 2
    """Processes."""


@dataclass(frozen=True)
class Report:
    """Findings about a data set.

    Attributes:
        rows: the table, one list of cells a split.
        problems: one line each.
        notes: worth knowing, but no problem.
        splits: the data sets as read, faulty lines left out.
    """

    rows: list[list[str]]
    problems: list[str]
    notes: list[str]
    splits: dict[str, Dataset]


HEADER = ["split", "images", "classes", "boxes", "images of several boxes", "least and most a class", "sizes"]


def check(options: Checking) -> Report:
    """Read every split, look for what is wrong, and compare with what is known of the data set."""
    report = Report([], [], [], {})
    for split in _splits(options):
        dataset = _read(options, split, report.problems)
        if dataset is None:
            continue
        report.splits[split] = dataset
        report.notes.extend(dataset.all_notes(options.root))
        report.notes.extend(checks.without_annotations(dataset))
        sizes, turned, undecodable = checks.look_at_images(dataset, options.decode, options.workers, report.notes)
        report.problems.extend(undecodable)
        report.problems.extend(checks.check_turned(dataset, sizes, turned, report.notes))
        report.problems.extend(checks.check_boxes(dataset, sizes, report.notes))
        report.rows.append(_row(dataset, sizes))
    _compare_with_known(options, report)
    if options.name != "photographs":  # five images of a thousand classes
        _compare_splits(report, options)
    _compare_lists(options, report)
    return report


def _read(options: Checking, split: str, problems: list[str]) -> Dataset | None:
    """One split; every problem is noted once, though splits share files."""

    def note(problem: UserError) -> None:
        """Note it with the options as this command has them."""
        text = str(problem).replace("--data.split", "--splits").replace("--data.", "--")
        if text not in problems:
            problems.append(text)

    source = DataSource(
        options.name,
        options.root,
        split,
        classes=options.classes,
        metadata=options.metadata,
        boxes=options.boxes,
        leave_out=options.leave_out,
    )
    try:
        return source.load(on_problem=note, multi_label=LAYOUTS[options.name].multi_label)
    except UserError as problem:
        note(problem)
        return None


def _splits(options: Checking) -> Sequence[str]:
    if "held" in options.splits and options.name not in ("wsoleval", "openimages"):
        raise UserError("the split 'held' is a part of 'train', which is checked whole", do="say --splits train")
    if options.splits:
        return options.splits
    if options.name == "folder" and options.root.is_dir():
        return splits.present(options.root) or [splits.WHOLE]
    if options.name == "wsoleval" and options.metadata:
        found = sorted(path.parent.name for path in options.metadata.glob("*/image_ids.txt"))
        return found or LAYOUTS[options.name].splits
    return LAYOUTS[options.name].splits


def _row(dataset: Dataset, sizes: dict[str, tuple[int, int]]) -> list[str]:
    counts = Counter(label for sample in dataset for label in sample.labels or (sample.label,))
    boxes = [len(sample.boxes) for sample in dataset]
    span = "-"
    if sizes:
        smallest, largest = (pick(sizes.values(), key=lambda size: size[0] * size[1]) for pick in (min, max))
        span = f"{smallest[0]}x{smallest[1]} to {largest[0]}x{largest[1]}"
    return [
        dataset.split,
        str(len(dataset)),
        f"{len(counts)} of {len(dataset.class_names)}",
        str(sum(boxes)),
        str(sum(count > 1 for count in boxes)),
        f"{min(counts.values())} {max(counts.values())}" if counts else "-",
        span,
    ]


def _compare_with_known(options: Checking, report: Report) -> None:
    """Totals that are not the data set's; a subset of CUB's classes is worth a note only."""
    known = LAYOUTS[options.name].counts
    if known is None or options.classes is not None:
        return
    for split, dataset in report.splits.items():
        found = {split: len(dataset) + sum(dataset.left_out.values()), "classes": len(dataset.class_names)}
        if "boxes" in known and split == "val" and not dataset.left_out:
            found["boxes"] = sum(len(sample.boxes) for sample in dataset)
        subset = options.subset or (options.name == "cub" and found["classes"] < known["classes"])
        for what, count in found.items():
            if count != known[what]:
                unit = what if what in ("classes", "boxes") else f"{what} images"
                line = f"{options.root}: {count} {unit}, the whole data set has {known[what]}"
                lines = report.notes if subset else report.problems
                if line not in lines:
                    lines.append(line)
        advice = f"{options.root}: say --subset where a part of the data set is meant"
        if found != {what: known[what] for what in found} and not subset and advice not in report.notes:
            report.notes.append(advice)
    if options.name == "ilsvrc":
        present = {sample.path.name for dataset in report.splits.values() for sample in dataset}
        report.notes.extend(f"{name} is {why}" for name, why in ilsvrc.ODD_FILES.items() if name in present)


def _compare_classes(one: Dataset, other: Dataset, report: Report) -> None:
    """Classes of a split that another lacks; what `classes.match` would map by name is a note only."""
    if not (one.names_known and other.names_known):
        if len(one.class_names) != len(other.class_names):
            report.problems.append(
                f"{one.split} has {len(one.class_names)} classes, {other.split} {len(other.class_names)}"
            )
        numbers = ({folder: label for label, folder in trained.folders(each).items()} for each in (one, other))
        first, second = numbers
        if differing := [folder for folder in second if first.get(folder, second[folder]) != second[folder]]:
            report.problems.append(
                f"images of {differing[0]!r} have the label {first[differing[0]]} in {one.split}, "
                f"{second[differing[0]]} in {other.split}"
            )
        return
    strange, lacking = classes.differing(other.class_names, one.class_names)
    if strange:
        what = number_of(len(strange), "class", "classes")
        report.problems.append(
            f"{other.split} has {what} that {one.split} lacks: {', '.join(strange[:3])}"
            + (f"; and lacks {', '.join(lacking[:3])}" if lacking else "")
        )
    elif lacking:
        what = number_of(len(lacking), "class", "classes")
        report.notes.append(f"{other.split} lacks {what} of {one.split}: {', '.join(lacking[:3])}; the others are "
                            "taken by name")  # fmt: skip


def _compare_splits(report: Report, options: Checking) -> None:
    """Images that stand in two splits or twice in one, splits that disagree on the classes, empty classes."""
    loaded = list(report.splits.values())
    for dataset in loaded if options.decode != "none" else ():
        if pairs := copies_within(dataset):
            labels = {sample.image_id: sample.labels or sample.label for sample in dataset}
            other = sum(labels[one] != labels[twin] for one, twin in pairs)
            what = number_of(len(pairs), "image is a copy of another", "images are copies of others")
            report.notes.append(f"{dataset.split}: {what}, {other} of another class: {' and '.join(pairs[0])}")
    for position, one in enumerate(loaded):
        paths = {sample.path.resolve() for sample in one}
        for other in loaded[position + 1 :]:
            names = (one.split, other.split)
            if frozenset(names) in CONTAINED:
                continue
            if shared := sum(sample.path.resolve() in paths for sample in other):
                what = number_of(shared, "image stands", "images stand")
                report.problems.append(f"{what} in both {names[0]} and {names[1]}")
            elif options.decode != "none" and (copies := shared_images(other, one)):
                what = number_of(len(copies), f"image of {other.split} is", f"images of {other.split} are")
                report.notes.append(f"{what} in {one.split} too, by the files' content: {', '.join(copies[:3])}")
            _compare_classes(one, other, report)
    for dataset in loaded:
        labels = {label for sample in dataset for label in sample.labels or (sample.label,)}
        without = [name for label, name in enumerate(dataset.class_names) if label not in labels]
        if without:
            (report.notes if options.subset else report.problems).append(
                f"{dataset.split}: no image of {number_of(len(without), 'class', 'classes')}: {some(without, 1)}"
            )


def _compare_lists(options: Checking, report: Report) -> None:
    """The papers' own list files, where they lie in the folder, against the annotations beside them."""
    if options.name != "cub" or options.classes is not None:
        return
    root = options.root
    readers: dict[tuple[str, str], Callable[[], list[lists.Entry]]] = {
        ("train", "train.txt"): lambda: lists.read_spol(root / "train.txt"),
        ("test", "val.txt"): lambda: lists.read_spol(root / "val.txt"),
        ("test", "test_list.txt"): lambda: lists.read_bas(root / "test_list.txt", root / "test_gt.txt"),
    }
    for (split, name), read in readers.items():
        if split not in report.splits or not (root / name).is_file():
            continue
        try:
            listed = {image_id: (label, box.astype(int).tolist()) for image_id, label, box in read()}
        except UserError as problem:
            report.problems.append(str(problem))
            continue
        ours = {sample.image_id: (sample.label, sample.boxes.astype(int).tolist()) for sample in report.splits[split]}
        differing = [image_id for image_id in ours | listed if ours.get(image_id) != listed.get(image_id)]
        if differing:
            what = number_of(len(differing), "image differs", "images differ")
            report.problems.append(f"{root / name}: {what} from the annotations: {some(differing, 1)}")
