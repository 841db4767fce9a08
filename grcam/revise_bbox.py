"""GRCAM's step 4: predicted boxes revised towards the pseudo boxes, and localization errors with and without.

    python -m grcam.revise_bbox --data.name cub --data.root CUB_200_2011 --bounding-box-save-path out/boxes/ \\
        --classify-save-path out/class.txt --pseudo-bounding-box-save-path out/pseudo.txt --out out/revised

prints the released line for each of the nine thresholds, GT-known error added; then the lowest errors, which are an
oracle's, since the release picks its threshold on the images that it reports; and with --validation the errors at the
thresholds picked on held-out images. With --out the boxes become predictions, which `python -m common.evaluate` scores.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Annotated, Any, Literal

import numpy as np

from common.datasets import DataSource, Sample, trained
from common.measuring.boxes import aligned_iou, from_x0x1y0y1
from common.measuring.geometry import GROUND_TRUTH_RULES, Frame
from common.measuring.protocols import GRCAM
from common.results.scoring import without_boxes
from common.runs.manifest import MANIFEST
from common.runs.reader import Places, Predictions
from common.runs.record import Prediction
from common.runs.writer import PredictionsWriter, finish, skipped_lines
from common.system.errors import UserError, run_command, say
from common.system.files import read_json, sha256, write_json
from common.system.options import also, parse
from common.system.progress import bar
from grcam import handover
from grcam.config import BOXES_PREFIX, CLASS_FILE, PSEUDO_FILE, THRESHOLDS, Images, Mode
from grcam.revision import revise, revise_together

MEASURES = ("top1", "top5", "gt_known")


@dataclass(frozen=True, kw_only=True)
class Revise(Images):
    """Revise boxes, and measure them with and without the revision."""

    bounding_box_save_path: str
    """Step 1's prefix: th and `.txt` are appended."""
    classify_save_path: Path
    """Step 1's class file."""
    pseudo_bounding_box_save_path: Path
    """Step 3's file."""
    revise: Literal["released", "intended", "average", "off"] = "released"
    """released: 4 pixels more where a coordinate is smaller than the pseudo box's. intended: both norms over the four
    coordinates. average: half way to the pseudo box, for comparison."""
    doubled_lines: Literal["refuse", "best"] = "refuse"
    """An image that stands in several lines of a box file; best: as released, all its boxes are revised together and
    the best one counts."""
    validation: Path | None = None
    """A folder that run_test.sh filled from held-out images, to choose thresholds on."""
    validation_split: str | None = None
    """The split it was filled from; by default the one that its predictions name."""
    out: Path | None = None
    """Folder for predictions: boxes/ as step 1 made them, revised/ and pseudo/."""
    json: Path | None = None
    """Also write the errors here."""
    th: Annotated[float | None, also("threshold")] = None
    """Threshold whose boxes become predictions; that of the lowest GT-known error if omitted, on --validation where
    given."""
    mode: Annotated[Mode | None, also("arch")] = None
    """Step 1's classifier, to be named in tables."""
    overwrite: bool = False
    """Replace predictions of other boxes."""
    check: bool = False
    """Only check that everything is there that this step needs and that steps 1 to 3 don't make."""
    batch_size: int = 1
    """No effect, as in the release."""
    eval: bool = True
    """No effect, as in the release."""


@dataclass(frozen=True)
class Files:
    """Results of steps 1 and 3 for N images.

    Attributes:
        samples: the data set's, N of them.
        classified: (N, 3) Top-1 and Top-5 correct, predicted class; `handover.UNKNOWN` for what is unknown.
        boxes: (9, N, L, 4) x0 y0 x1 y1; L is 1 unless lines are doubled.
        present: (9, N, L) False where an image has fewer than L boxes.
        pseudo: (N, 4) x0 y0 x1 y1.
        left_out: samples that are not among these, by the reason: no file speaks of them, or they have no true box.
        classes_known: False where the class file says so, or every predicted class is beyond the data set's and none is
            right, as of a classifier of other classes: then no class is wrong either.
    """

    samples: tuple[Sample, ...]
    classified: np.ndarray
    boxes: np.ndarray
    present: np.ndarray
    pseudo: np.ndarray
    left_out: dict[str, tuple[Sample, ...]]
    classes_known: bool = True


def read_files(prefix: str, class_file: Path, pseudo_file: Path, source: DataSource, doubled: bool = False) -> Files:
    """Read and compare the hand-over files.

    Args:
        prefix: of the box files.
        class_file, pseudo_file: the others.
        source: the data set that they are about.
        doubled: let images stand in several lines of the class and box files.

    Raises:
        UserError: a malformed or doubled line, an image that stands in one file and not in another or not in the data
            set, pseudo boxes that step 3 made of other classes than the class file's, or no image with a ground-truth
            box.
    """
    dataset = source.load()
    boxes = [handover.read_boxes(handover.box_file(prefix, th), doubled) for th in THRESHOLDS]
    classes = handover.read_classes(class_file, doubled=doubled)
    pseudo = handover.read_boxes(pseudo_file, doubled)
    handover.same_images([classes, *boxes, pseudo])
    handover.need_same_groups(pseudo_file, classes)
    known = {sample.image_id for sample in dataset}
    for name, rows in classes.rows.items():
        if name not in known:
            raise UserError(f"{name} is not in {dataset.name} {dataset.split}", where=class_file, line=rows[0].line)
    spoken_of = [sample for sample in dataset if sample.image_id in classes.rows]
    samples = tuple(sample for sample in spoken_of if len(sample.boxes))
    if not samples:
        raise UserError(f"none of the {len(spoken_of)} images has a ground-truth box", where=source.root)
    left_out = {"no file speaks of it": tuple(s for s in dataset if s.image_id not in classes.rows)}
    for sample in spoken_of:
        if len(sample.boxes) == 0:
            reason = without_boxes(sample)
            left_out[reason] = (*left_out.get(reason, ()), sample)
    ids = [sample.image_id for sample in samples]
    stacked, present = _stack(boxes, ids)
    classified = np.array([classes.first(name) for name in ids])
    said = (classified[:, :2] != handover.UNKNOWN).all(axis=1)
    if said.any() and not said.all():
        raise UserError(f"Top-1 and Top-5 are unknown (-) of {ids[int(said.argmin())]}, and known of other images",
                        where=class_file, do="write the whole file in one run of step 1")  # fmt: skip
    return Files(
        samples,
        classified,
        stacked,
        present,
        from_x0x1y0y1([pseudo.first(name) for name in ids]),
        left_out,
        bool(said.all() and ((classified[:, 2] < len(dataset.class_names)) | classified[:, :2].any(axis=1)).any()),
    )


def _stack(tables: Sequence[handover.Table], ids: Sequence[str]) -> tuple[np.ndarray, np.ndarray]:
    most = max(len(table.rows[name]) for table in tables for name in ids)
    boxes, present = np.zeros((len(tables), len(ids), most, 4)), np.zeros((len(tables), len(ids), most), bool)
    for number, table in enumerate(tables):
        for place, name in enumerate(ids):
            rows = [row.values for row in table.rows[name]]
            boxes[number, place, : len(rows)] = from_x0x1y0y1(rows)
            present[number, place, : len(rows)] = True
    return boxes, present


def revised_boxes(files: Files, form: str) -> np.ndarray:
    """The boxes (9, N, L, 4) revised; images with several are revised together where the form is `released`."""
    revised = revise(files.boxes, files.pseudo[:, None], form)
    if form == "released":
        for number, place in np.argwhere(files.present.sum(axis=2) > 1):
            several = files.present[number, place]
            revised[number, place, several] = revise_together(files.boxes[number, place, several], files.pseudo[place])
    return revised


def best_iou(files: Files, boxes: np.ndarray) -> np.ndarray:
    """(9, N): the best over an image's boxes (9, N, L, 4) and its ground truths, in the 224 x 224 frame."""
    rule = GROUND_TRUTH_RULES[GRCAM.ground_truth]
    truths = [rule(sample.boxes, Frame.squash(sample.size)) for sample in bar(files.samples, total=len(files.samples),
                                                                              desc="ground truth")]  # fmt: skip
    counts = [len(truth) for truth in truths]
    owner, first = np.repeat(np.arange(len(truths)), counts), np.cumsum([0, *counts[:-1]])
    truth = np.concatenate(truths)
    best = np.zeros(boxes.shape[:2])
    for line in range(boxes.shape[2]):
        iou = aligned_iou(boxes[:, owner, line], truth, GRCAM.iou) * files.present[:, owner, line]
        best = np.maximum(best, np.maximum.reduceat(iou, first, axis=1))
    return best


def correct_counts(files: Files, iou: np.ndarray) -> dict[str, np.ndarray]:
    """Number of images (9,) that count as localized, by measure: Top-1 and Top-5 want the class right as well."""
    hit = GRCAM.correct(iou)[..., 0]
    top1, top5 = files.classified[:, 0] > 0, files.classified[:, 1] > 0
    return {"top1": (hit & top1).sum(axis=1), "top5": (hit & top5).sum(axis=1), "gt_known": hit.sum(axis=1)}


def error(count: float, images: int) -> float:
    """Error as the release prints it: 1 - count / images, to five places."""
    return round(1 - count / images, 5)


def released_line(th: float, revised: dict[str, float], original: dict[str, float]) -> str:
    """The line that the release prints for a threshold; `_o` is without the revision."""
    return (f" th: {th}, err1:{revised['top1']},err1_o:{original['top1']},"
            f" err5: {revised['top5']}, err5_o: {original['top5']}")  # fmt: skip


Errors = dict[str, dict[str, list[float]]]
"""`revised` and `original`, by measure, an error for each threshold."""


def measure(files: Files, form: str) -> Errors:
    """Errors at the nine thresholds, with and without the revision; GT-known's alone where classes are unknown."""
    errors: Errors = {}
    for name, boxes in (("revised", revised_boxes(files, form)), ("original", files.boxes)):
        counts = correct_counts(files, best_iou(files, boxes))
        measures = MEASURES if files.classes_known else ("gt_known",)
        errors[name] = {key: [error(count, len(files.samples)) for count in counts[key]] for key in measures}
    return errors


def revise_command(options: Revise) -> dict[str, Any]:
    """Revise boxes, and return what --json writes."""
    if options.batch_size != 1 or not options.eval:
        print("note: --batch-size and --eval have no effect, as in the release")
    if options.th is not None and options.th not in THRESHOLDS:
        raise UserError(f"--th {options.th}", expected=" ".join(map(str, THRESHOLDS)))
    with TemporaryDirectory() as scratch:
        source = options.source(Path(scratch) if options.check or not options.out else options.out)
        return check(options, source) if options.check else _revise(options, source)


def check(options: Revise, source: DataSource) -> dict[str, Any]:
    """Read the annotations, and with --validation all of its files; gives an empty report.

    Raises:
        UserError: what `_revise` would refuse after the steps before it.
    """
    dataset = source.load()
    if without := [sample.image_id for sample in dataset if len(sample.boxes) == 0]:
        raise UserError(f"{len(without)} of {len(dataset)} images have no ground-truth box, {without[0]} among them",
                        where=source.root, do="name boxes with --data.boxes, or say SCORE=no")  # fmt: skip
    if options.validation is not None:
        _read_validation(options, options.validation, source)
    return {}


def _read_validation(options: Revise, folder: Path, source: DataSource) -> "Files":
    """The hand-over files of held-out images in a folder, read with the split that they were made from."""
    if not (folder / CLASS_FILE).is_file():
        raise UserError(
            "no such file", where=folder / CLASS_FILE, do="fill the folder with run_test.sh, on held-out images"
        )
    held = replace(source, split=options.validation_split or "held")
    if options.validation_split is None:
        manifests = sorted((folder / "predictions").glob(f"*/{MANIFEST}"))
        if manifests:
            held = Predictions.open(manifests[0].parent).source_in(Places(root=source.root))
    doubled = options.doubled_lines == "best"
    return read_files(f"{folder}/{BOXES_PREFIX}", folder / CLASS_FILE, folder / PSEUDO_FILE, held, doubled)


def _revise(options: Revise, source: DataSource) -> dict[str, Any]:
    doubled = options.doubled_lines == "best"
    files = read_files(options.bounding_box_save_path, options.classify_save_path,
                       options.pseudo_bounding_box_save_path, source, doubled)  # fmt: skip
    errors = measure(files, options.revise)
    _print_table(files, errors, options.revise)
    left_out = [sample.image_id for samples in files.left_out.values() for sample in samples]
    report: dict[str, Any] = {
        "revise": options.revise, "images": len(files.samples), "th": THRESHOLDS, **errors, "left_out": left_out,
    }  # fmt: skip
    report["oracle"] = _at(errors, errors)
    _print_choice("oracle, the lowest on these very images", report["oracle"])
    if options.validation is not None:
        held_files = _read_validation(options, options.validation, source)
        report["validation"] = _at(errors, measure(held_files, options.revise))
        _print_choice(f"chosen on {len(held_files.samples)} held-out images", report["validation"])
    if options.json is not None:
        write_json(options.json, report)
    if options.out is not None:
        _write(options, options.out, source, files, report)
    return report


def _print_table(files: Files, errors: Errors, form: str) -> None:
    left_out = {reason: [sample.image_id for sample in samples] for reason, samples in files.left_out.items()}
    say(skipped_lines(left_out, len(files.samples) + sum(map(len, left_out.values()))))
    if not files.classes_known:
        print("note: the predicted classes are none that the data set has, so no Top-1 and no Top-5 is shown")
    print(f"{len(files.samples)} images, revision {form}; errors with it and, _o, without:")
    for number, th in enumerate(THRESHOLDS):
        at = {name: {key: values[number] for key, values in each.items()} for name, each in errors.items()}
        classified = released_line(th, at["revised"], at["original"]) if files.classes_known else f" th: {th}"
        print(f"{classified}, gt_known: {at['revised']['gt_known']}, gt_known_o: {at['original']['gt_known']}")


def _at(errors: Errors, chosen_on: Errors) -> dict[str, dict[str, dict[str, float]]]:
    """Each error at the threshold where the same error of `chosen_on` is lowest, the first among equals."""
    result: dict[str, dict[str, dict[str, float]]] = {}
    for name, each in errors.items():
        for key, values in each.items():
            if key not in chosen_on[name]:  # held-out images of which no class is known
                continue
            number = int(np.argmin(chosen_on[name][key]))
            result.setdefault(name, {})[key] = {"th": THRESHOLDS[number], "error": values[number]}
    return result


def _print_choice(title: str, at: dict[str, dict[str, dict[str, float]]]) -> None:
    for name, each in at.items():
        cells = ", ".join(f"{key} {value['error']} (th {value['th']})" for key, value in each.items())
        print(f"{title}, {name}: {cells}")


def _write(options: Revise, folder: Path, source: DataSource, files: Files, report: dict[str, Any]) -> None:
    """Three predictions directories below a folder, of the boxes of one threshold."""
    chosen_from = "oracle" if "validation" not in report else "validation"
    revised = revised_boxes(files, options.revise)
    method = {"boxes": "grcam boxes", "revised": f"grcam revised ({options.revise})", "pseudo": "grcam pseudo"}
    for name, boxes in (("boxes", files.boxes), ("revised", revised), ("pseudo", None)):
        side = "revised" if name == "revised" else "original"
        th = options.th or report[chosen_from][side]["gt_known"]["th"]
        if boxes is None:
            one = files.pseudo
        elif boxes.shape[2] > 1:
            raise UserError("predictions hold one box an image, and lines are doubled", do="leave --out away")
        else:
            one = boxes[THRESHOLDS.index(th), :, 0]
        header = {"method": method[name], **_header(options, source, th)}
        origin = "given" if options.th else chosen_from
        header["options"] = {"th": None if boxes is None else th, "th_from": origin, **header["options"]}
        writer = PredictionsWriter(folder / name, header, options.overwrite)
        _write_boxes(writer, files, one, 0.0 if boxes is None else 1 - th, options.classify_save_path)


def _header(options: Revise, source: DataSource, th: float) -> dict[str, Any]:
    """Contents of all three manifests, but for the method and the threshold."""
    data = source.described(source.load())
    said = handover.trained_file(options.classify_save_path)
    data["trained_images"] = trained.joined([read_json(said) if said.is_file() else None])
    classes = sha256(options.classify_save_path)
    return {
        "architecture": options.mode or "unnamed",
        "data": data,
        "checkpoint": {"name": str(options.classify_save_path), "sha256": classes},
        "classifier": handover.classifier_of(options.classify_save_path)
        or {"name": options.mode or "class file", "crops": None},
        "frame": GRCAM.frame,
        "options": {
            "class_file": classes,
            "box_file": sha256(handover.box_file(options.bounding_box_save_path, th)),
            "pseudo_file": sha256(options.pseudo_bounding_box_save_path),
        },
    }


def _write_boxes(writer: PredictionsWriter, files: Files, boxes: np.ndarray, threshold: float, where: Path) -> None:
    for sample, classified, box in zip(files.samples, files.classified, boxes, strict=True):
        if sample.image_id not in writer.done:
            said = classified if files.classes_known else None
            writer.write(_prediction(sample, said, box, threshold, where))
    for reason, samples in files.left_out.items():
        for sample in samples:
            if sample.image_id not in writer.done:
                writer.skip(sample.image_id, reason)
    finish([writer])


def _prediction(
    sample: Sample, classified: np.ndarray | None, box: np.ndarray, threshold: float, where: Path
) -> Prediction:
    """A line; of the classes only those are known that the class file speaks of: the best one and the true one."""
    frame = Frame.squash(sample.size)
    if classified is None:
        return Prediction(sample.image_id, sample.label, sample.size, frame, None, None, box, threshold)
    top1, top5, predicted = (int(value) for value in classified)
    if predicted == sample.label and not top1:
        raise UserError(f"{sample.image_id} has its true class predicted, and Top-1 wrong", where=where)
    classes = (sample.label,) if top1 else (predicted, sample.label) if top5 else (predicted,)
    return Prediction(sample.image_id, sample.label, sample.size, frame, classes, None, box, threshold)


def main() -> None:
    """Run the command line."""
    revise_command(parse(Revise, prog="python -m grcam.revise_bbox", description=__doc__))


if __name__ == "__main__":
    run_command(main)
