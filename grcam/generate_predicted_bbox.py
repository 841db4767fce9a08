"""GRCAM's step 1: refined maps, classes by ten crops, and boxes at nine thresholds.

    python -m grcam.generate_predicted_bbox --mode mobilenetv1 --load runs/dgl/model-1000 --data.name cub \\
        --data.root CUB_200_2011 --bounding-box-save-path out/boxes/ --classify-save-path out/class.txt --out
        out/predictions

writes the class file and nine box files for the steps that follow, and predictions directories for common.evaluate:
OUT/squash, with --frames squash crop OUT/crop, with --cam the same classifier's plain class activation maps beside
them. A run that is stopped goes on after the last whole image.
"""

import json
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

import cv2
import numpy as np

from common.datasets import Dataset, DataSource, Sample, classes
from common.datasets.classes import Matching
from common.measuring.extraction import min_max
from common.measuring.geometry import FRAMES, frame_kinds
from common.measuring.protocols import GRCAM
from common.runs.localizing import Box, Localizing, best_classes, say_side
from common.runs.provenance import known_of
from common.runs.writer import PredictionsWriter
from common.system.errors import UserError, run_command
from common.system.files import parse_json, write_atomically, write_json, writing
from common.system.options import also, parse
from common.tensorflow_files import converted
from grcam import handover
from grcam.config import LABEL_FACTOR, OLDER_GRADIENTS, SIDE, THRESHOLDS, Gradient, Images, Mode
from grcam.views import Layout, Seen, Views, batches, has_fast_decoder, reader

if TYPE_CHECKING:
    from grcam.classifier import Classifier
    from grcam.torch_classifier import TorchClassifier

STORED_TH = 0.9
"""Threshold of the box that stands beside a map; protocols choose their own."""


@dataclass(frozen=True, kw_only=True)
class Generate(Images):
    """Write refined maps, classes and boxes of a split."""

    load: Annotated[str, also("checkpoint")]
    """A TensorFlow checkpoint's prefix, the authors' or of dgl_tf's training; a .npz; or imagenet:mobilenetv1."""
    out: Path
    """Folder for predictions directories."""
    bounding_box_save_path: str
    """Prefix of the nine box files: th and `.txt` are appended."""
    classify_save_path: Path
    """The class file."""
    mode: Annotated[Mode, also("arch")] = "resnet50se"
    """The classifier."""
    map_class: Literal["label", "predicted"] | None = None
    """Class whose map is made: the true class's, as released, or the classifier's first choice; by default the true
    class's, where it is among the network's classes."""
    gradient: Annotated[Gradient, also("loss-gradient")] = "released"
    """released: softmax - 10 onehot, as TensorFlow's kernel has it. true: the derivative, 10 (softmax - onehot). tf and
    exact are their older names."""
    label_factor: Annotated[float, also("alpha")] = LABEL_FACTOR
    """Factor of the one-hot label in the loss."""
    frames: tuple[Literal["squash", "crop"], ...] = ("squash",)
    """squash: resize 224, as released. crop too: resize 256, centre crop 224, for the protocols that measure there."""
    crops: Literal[1, 10] = 10
    """Crops for classification: the mean of ten crops' probabilities, or the squashed image alone."""
    cam: bool = False
    """Also write the plain class activation maps, as OUT/cam-squash and so on."""
    maps: bool = True
    """Store the maps; without them only the one box can be scored."""
    framework: Literal["tensorflow", "torch"] = "tensorflow"
    """Framework of the classifier; both take the same checkpoints, and torch needs no TensorFlow."""
    device: str = "auto"
    """Device of --framework torch: auto, cpu, cuda or cuda:N."""
    jpeg: Literal["auto", "fast", "accurate"] = "auto"
    """fast: TensorFlow's default inverse cosine transform, as released. accurate: the one that other libraries use.
    auto: fast, or accurate where neither TensorFlow nor simplejpeg is installed, which a note says."""
    batch_size: int = 4
    """Images at a time, eleven views each."""
    workers: int = 2
    """Threads that load images."""
    overwrite: bool = False
    """Start anew where there are other results."""
    depth: int = 50
    """No effect, as in the release."""
    data_format: Literal["NHWC", "NCHW"] = "NHWC"
    """No effect, as in the release."""
    weight_decay_norm: bool = False
    """No effect, as in the release."""


@dataclass(frozen=True)
class Localized:
    """The hand-over files' lines about one image.

    Attributes:
        top1, top5: whether the true class is among the best one and the best five; a tie counts as in. None where the
            classifier's classes are not the data set's.
        predicted: the first of the best classes.
        boxes: x0, x1, y0, y1 at each threshold; zeros where nothing was found.
    """

    top1: bool | None
    top5: bool | None
    predicted: int
    boxes: tuple[tuple[int, int, int, int], ...]


class Journal:
    """`Localized` by image, on disk from the first image on, since the hand-over files are written at the end.

    Args:
        path: of the file; begun anew unless `resumed`.
        resumed: go on after its last whole line.
    """

    def __init__(self, path: Path, resumed: bool):
        self.rows: dict[str, Localized] = {}
        content = path.read_bytes() if resumed and path.is_file() else b""
        content = content[: content.rfind(b"\n") + 1]
        for number, line in enumerate(content.splitlines(), start=1):
            try:
                name, top1, top5, predicted, boxes = parse_json(line.decode("utf-8"))
                self.rows[name] = Localized(top1, top5, predicted, tuple(map(tuple, boxes)))
            except (ValueError, TypeError) as error:
                raise UserError(f"not a line of this step's journal ({error})", where=path, line=number,
                                do="delete the file, or say --overwrite") from error  # fmt: skip
        self.path = path
        write_atomically(path, lambda file: file.write(content))
        self._file = open(path, "a", encoding="utf-8")  # noqa: SIM115, closed by close

    def add(self, name: str, row: Localized) -> None:
        """Note an image, unless it stands there."""
        if name not in self.rows:
            with writing(self.path):
                self._file.write(json.dumps([name, row.top1, row.top5, row.predicted, row.boxes]) + "\n")
                self._file.flush()
            self.rows[name] = row

    def close(self) -> None:
        """Close the file."""
        self._file.close()


def in_top(probabilities: np.ndarray, label: int, among: int) -> bool:
    """Whether fewer than `among` classes are more probable (K,) than the label; TensorFlow's `in_top_k`."""
    return bool(np.isfinite(probabilities).all() and (probabilities > probabilities[label]).sum() < among)


def localization_map(raw: np.ndarray) -> np.ndarray:
    """A raw map (h, w) stretched to [0, 1], then enlarged to 224 x 224 bilinearly, float32; a constant one becomes
    zero.

    The box function stretches it once more.
    """
    return cv2.resize(min_max(raw), (SIDE, SIDE), interpolation=cv2.INTER_LINEAR)


def boxes_of(squashed: np.ndarray) -> tuple[tuple[int, int, int, int], ...]:
    """x0, x1, y0, y1 at each of the nine thresholds, of a localization map (224, 224); zeros where nothing is found."""
    found = GRCAM.extractor.boxes(squashed, GRCAM.sweep)
    return tuple(_x0x1y0y1(boxes[0]) if len(boxes) else (0, 0, 0, 0) for boxes in found)


def _x0x1y0y1(box: np.ndarray) -> tuple[int, int, int, int]:
    x0, y0, x1, y1 = (int(value) for value in box)
    return x0, x1, y0, y1


def generate(options: Generate) -> list[Path]:
    """Localize a split, and return the predictions directories."""
    layout = replace(_layout(options), side=converted.read(options.load).input_size)
    say_side(layout.side, layout.side)
    names = {older: name for name, older in OLDER_GRADIENTS.items()}
    options = replace(options, jpeg=_jpeg(options), gradient=names.get(options.gradient, options.gradient))
    read = reader(options.framework, options.jpeg)
    source = options.source(options.out.parent / "ilsvrc")
    dataset = source.load()
    classifier = _classifier(options)
    matching = classes.match(
        dataset, known_of(options.load).class_names, classifier.classes, options.load, index=source.class_index,
        imagenet=options.load.startswith("imagenet:"),
    )  # fmt: skip
    options = replace(options, map_class=classes.which_map(options.map_class, matching))
    writers = _writers(options, layout, source, dataset, classifier, matching)
    squashed = writers["squash"]
    journal = Journal(squashed.directory / "handover.jsonl", resumed=bool(squashed.done))

    def also_left(sample: Sample) -> bool:
        return not (sample.image_id in journal.rows or squashed.complete)

    box, size = Box(GRCAM.extractor, 1 - STORED_TH), options.batch_size
    images = matching.for_network(dataset)
    with Localizing(images, writers, size, box=box, store_maps=options.maps, also_left=also_left) as run:
        for items in run.batches(batches(run.left, layout, read, size, options.workers)):
            _localize_batch(items, layout, classifier, run, journal, options.map_class, matching.labelled)
    journal.close()
    _hand_over(options, dataset, journal, matching)
    said = squashed.header["data"]["trained_images"]
    write_json(handover.trained_file(options.classify_save_path), said)
    return run.finish()


def _classifier(options: Generate) -> "Classifier | TorchClassifier":
    """The network, in the framework asked for, which alone is imported."""
    arguments = (options.mode, options.load, options.gradient, options.label_factor)
    if options.framework == "torch":
        from grcam.torch_classifier import TorchClassifier

        return TorchClassifier(*arguments, options.device)
    from grcam.classifier import Classifier

    return Classifier(*arguments)


def _jpeg(options: Generate) -> Literal["fast", "accurate"]:
    if options.jpeg != "auto":
        return options.jpeg
    if options.framework == "torch" and not has_fast_decoder():
        print("note: JPEG files are decoded accurately, since neither simplejpeg nor TensorFlow is installed; the "
              "released numbers rest on the fast decoding")  # fmt: skip
        return "accurate"
    return "fast"


def _layout(options: Generate) -> Layout:
    if (options.depth, options.data_format, options.weight_decay_norm) != (50, "NHWC", False):
        print("note: --depth, --data-format and --weight-decay-norm have no effect, as in the release")
    if options.batch_size < 1 or options.workers < 1:
        raise UserError(f"--batch-size {options.batch_size} --workers {options.workers}", expected="1 or more of each")
    frame_kinds(options.frames, least="squash")
    return Layout(tuple(sorted(options.frames, reverse=True)), options.crops)


def _writers(
    options: Generate,
    layout: Layout,
    source: DataSource,
    dataset: Dataset,
    classifier: "Classifier | TorchClassifier",
    matching: Matching,
) -> dict[str, PredictionsWriter]:
    """A writer for each frame, and with --cam a second one."""
    settings = {"loss_gradient": OLDER_GRADIENTS[options.gradient], "label_factor": options.label_factor}
    read: dict[str, Any] = {"jpeg": options.jpeg, "maps": options.maps}
    read |= {} if layout.side == SIDE else {"input_size": layout.side}
    writers = {}
    for method in ("grcam", "cam") if options.cam else ("grcam",):
        for frame in layout.frames:
            name = frame if method == "grcam" else f"cam-{frame}"
            header: dict[str, Any] = {
                "method": method,
                "architecture": options.mode,
                "data": source.described(dataset, options.load),
                "checkpoint": {**classifier.record, "training": known_of(options.load).training},
                "classifier": {"name": options.mode, "crops": options.crops},
                "frame": FRAMES[frame],
                "options": {**(settings if method == "grcam" else {}), **read},
            }
            if options.map_class == "predicted":
                header["options"]["map_class"] = options.map_class
            writers[name] = PredictionsWriter(options.out / name, header, options.overwrite, classes=matching)
    return writers


def _localize_batch(
    items: Sequence[Views],
    layout: Layout,
    classifier: "Classifier | TorchClassifier",
    run: Localizing[str],
    journal: Journal,
    map_class: str | None,
    labelled: bool,
) -> None:
    samples, views = [item.sample for item in items], [item.views for item in items if item.views is not None]
    labels = [sample.label for sample in samples]
    if map_class == "predicted":
        labels = [int(seen.probabilities.argmax()) for seen in classifier.look(views, [0] * len(views), layout)]
    found = classifier.look(views, labels, layout)
    of_each = best_classes(np.stack([seen.probabilities for seen in found]), samples)
    for item, seen, best in zip(items, found, of_each, strict=True):
        for name in run.writers:
            frame = layout.frames.index(name.removeprefix("cam-"))
            enlarged = localization_map((seen.plain if name.startswith("cam-") else seen.refined)[frame])
            if name == "squash":
                journal.add(item.sample.image_id, _localized(item, seen, enlarged, labelled))
            run.write(name, item.sample, item.frames[frame], best, enlarged)


def _localized(item: Views, seen: Seen, squashed: np.ndarray, labelled: bool) -> Localized:
    probabilities, label = seen.probabilities, item.sample.label
    first, five = (in_top(probabilities, label, count) if labelled else None for count in (1, 5))
    return Localized(first, five, int(probabilities.argmax()), boxes_of(squashed))


def _hand_over(options: Generate, dataset: Dataset, journal: Journal, matching: Matching) -> None:
    """The class file and nine box files, in the data set's order."""
    rows = {sample.image_id: journal.rows[sample.image_id] for sample in dataset if sample.image_id in journal.rows}
    if not rows:
        raise UserError("no image could be used", where=options.out)
    found = {name: (row.top1, row.top5, matching.label(row.predicted)) for name, row in rows.items()}
    handover.write_classes(options.classify_save_path, found, options.overwrite)
    handover.note_classifier(options.classify_save_path, options.mode, options.crops)
    for number, th in enumerate(THRESHOLDS):
        path = handover.box_file(options.bounding_box_save_path, th)
        handover.write_boxes(path, {name: row.boxes[number] for name, row in rows.items()}, options.overwrite)
    print(f"{len(rows)} images, {len(dataset) - len(rows)} left out: {options.classify_save_path}, "
          f"{options.bounding_box_save_path}*.txt")  # fmt: skip


def main() -> None:
    """Run the command line."""
    generate(parse(Generate, prog="python -m grcam.generate_predicted_bbox", description=__doc__))


if __name__ == "__main__":
    run_command(main)
