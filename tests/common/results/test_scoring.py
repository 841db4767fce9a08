import pickle
from dataclasses import replace
from typing import ClassVar

import numpy as np
import pytest
from PIL import Image

from common.datasets import DataSource, Sample
from common.datasets.masks import object_and_ignore, same_proportions
from common.evaluate import Evaluate
from common.measuring.geometry import Frame
from common.measuring.metrics import LocalizationEvaluator, score_boxes
from common.measuring.pixel_metrics import PixelEvaluator
from common.measuring.protocols import GRCAM, SPOL, WSOLEVAL_V1
from common.results import scoring
from common.results.annotations import with_sizes
from common.results.audit import judge
from common.results.evaluation import evaluate
from common.results.scoring import Tally, score
from common.results.tables import without_thresholds
from common.runs.reader import Predictions
from common.system.errors import UserError
from tests import runs


@pytest.mark.parametrize("frame", ["resize 224", "resize 256 crop 224"])
def test_maps_that_are_the_masks_score_in_full(tmp_path, source, frame):
    run = Predictions.open(runs.write(tmp_path / "run", source, frame))
    dataset = source.load()
    for sample, entry in zip(dataset, run.entries, strict=True):
        mask, _ = object_and_ignore(sample, entry.frame, dataset.mask_over)
        np.save(tmp_path / f"run/maps/{sample.image_id}.npy", mask.astype(np.float32))
    _, pixels = score(run, dataset, ())
    assert (pixels.pxap, pixels.piou, pixels.mean_iou, pixels.images) == (100, 100, 100, 6)


def test_processes_change_no_pixel(tmp_path, source, monkeypatch):
    monkeypatch.setattr("common.runs.reader.CHUNK", 2)
    run = Predictions.open(runs.write(tmp_path / "run", source, misses=2))
    one, other = (score(run, source.load(), (), workers=workers)[1] for workers in (1, 3))
    assert one == other
    assert 0 < one.piou < 100


@pytest.mark.parametrize("module", ["scoring", "audit"])
def test_a_job_does_not_grow_with_the_number_of_images(tmp_path, source, monkeypatch, module):
    """Each job goes to another process: were the whole directory in it, 50,000 images would cost 25 times 10,000."""
    largest = []

    def weighed(work, jobs, workers):
        largest.append(max(len(pickle.dumps(job)) for job in jobs))
        return map(work, jobs)

    monkeypatch.setattr(f"common.results.{module}.in_processes", weighed)
    monkeypatch.setattr("common.runs.reader.CHUNK", 6)
    run, dataset = Predictions.open(runs.write(tmp_path / "run", source, maps=False)), source.load()
    for times in (1, 100):
        repeated = replace(run, entries=run.entries * times)
        if module == "scoring":
            score(repeated, dataset, (GRCAM,))
        else:
            list(judge(repeated, {sample.image_id: sample for sample in dataset}, GRCAM, (0.5,)))
    assert largest[0] == largest[1]


def changed(predictions, changes):
    """The predictions with some entries' fields changed, by their place."""
    entries = list(predictions.entries)
    for place, fields in changes.items():
        entries[place] = replace(entries[place], **fields)
    return replace(predictions, entries=tuple(entries))


def test_stored_boxes_are_scored_where_there_are_no_maps(tmp_path, source, capsys):
    """Of six images two miss and one has no box; of the three hits one is classified wrongly, one not in the top 5."""
    run = Predictions.open(runs.write(tmp_path / "run", source, maps=False, misses=2))
    labels = [entry.label for entry in run.entries]
    wrong = (labels[3] + 1, labels[3])
    run = changed(run, {2: {"box": None}, 3: {"top5": wrong}, 4: {"top5": (labels[4] + 1,)}})
    results, pixels = score(run, source.load(), (GRCAM, WSOLEVAL_V1))
    assert pixels is None
    for result in results.values():
        assert np.isnan(result.thresholds).all()
        assert (result.gt_known[0].tolist(), result.counted.tolist()) == ([50], [6])
        assert (result.top1[0, 0], result.top5[0, 0]) == pytest.approx((100 / 6, 200 / 6))
    shown = capsys.readouterr().err
    assert f"scoring {run.directory}" in shown
    assert "6/6" in shown


def test_what_the_protocol_leaves_out_is_left_out_of_stored_boxes(tmp_path, source):
    run = Predictions.open(runs.write(tmp_path / "run", source, SPOL.frame, maps=False))
    run = changed(run, {0: {"box": None}})
    protocol = replace(SPOL, left_out=("bird_3.png",))
    (result,) = score(run, source.load(), (protocol,))[0].values()
    assert (result.seen, result.counted.tolist()) == (6, [2])
    assert result.left_out == {"left out by name in the released code": 3}
    (result,) = score(run, source.load(), (protocol,), count_missing=True)[0].values()
    assert result.counted.tolist() == [3]
    assert result.gt_known[0, 0] == pytest.approx(200 / 3)


def test_tallies_of_other_protocols_do_not_merge():
    one, other = (Tally([LocalizationEvaluator(GRCAM) for _ in range(count)], PixelEvaluator()) for count in (2, 1))
    with pytest.raises(ValueError, match="shorter"):
        one.merge(other)


@pytest.mark.parametrize(("images", "masks", "measured"), [(0, True, None), (1, True, 1), (2, False, 1)])
def test_pixels_are_measured_where_there_is_a_mask(tmp_path, source, images, masks, measured):
    run = Predictions.open(runs.write(tmp_path / "run", source))
    run = replace(run, entries=run.entries[:images])
    dataset = source.load()
    if not masks:
        without = tuple(replace(sample, masks=()) if number == 1 else sample for number, sample in enumerate(dataset))
        dataset = replace(dataset, samples=without)
    results, pixels = score(run, dataset, (GRCAM,))
    assert results["grcam"].seen == images
    assert (pixels and pixels.images) == measured
    if not masks:
        assert pixels.left_out == {"no mask": 1}


class Swept:
    """In place of `Sweep`, which numba compiles; `test_sweep.py` holds that both give the same scores."""

    made: ClassVar[list[tuple]] = []

    def __init__(self, localization_map, protocols):
        self.made.append(tuple(protocols))
        self.map = localization_map

    def scores(self, protocol, frame, truth):
        return score_boxes(protocol, protocol.extractor.boxes(self.map, protocol.sweep), frame, truth)


@pytest.mark.parametrize(("least", "maps", "swept"), [(6, True, 6), (7, True, 0), (6, False, 0)])
def test_maps_are_swept_where_there_are_enough_of_them(tmp_path, source, monkeypatch, least, maps, swept):
    """One sweep an image for all protocols, and the same results as without."""
    protocols = (GRCAM, WSOLEVAL_V1)
    run = Predictions.open(runs.write(tmp_path / "run", source, misses=2, maps=maps))
    expected, _ = score(run, source.load(), protocols)
    monkeypatch.setattr(Swept, "made", [])
    monkeypatch.setattr(scoring, "Sweep", Swept)
    monkeypatch.setattr(scoring, "is_worth_it", lambda count: count >= least)
    found, _ = score(run, source.load(), protocols)
    assert Swept.made == [protocols] * swept
    for name in expected:
        np.testing.assert_array_equal(found[name].gt_known, expected[name].gt_known)
        assert found[name].seen == expected[name].seen == 6


@pytest.mark.parametrize(("maps", "masks"), [(True, False), (False, True), (False, False)])
def test_where_pixels_cannot_be_measured_nothing_is_said_of_them(tmp_path, source, capsys, maps, masks):
    run = Predictions.open(runs.write(tmp_path / "run", source, maps=maps))
    dataset = source.load()
    if not masks:
        dataset = replace(dataset, samples=tuple(replace(sample, masks=()) for sample in dataset))
    assert score(run, dataset, (GRCAM,))[1] is None
    assert "no pixel metrics" not in capsys.readouterr().err


def test_why_there_are_no_pixel_metrics_is_said_by_reason(tmp_path, source, capsys):
    """Three images have no mask, two an empty file, one a mask of other proportions."""
    run = Predictions.open(runs.write(tmp_path / "run", source))
    dataset = source.load()
    paths = [sample.masks[0] for sample in dataset]
    dataset = replace(dataset, samples=tuple(
        replace(sample, masks=()) if number < 3 else sample for number, sample in enumerate(dataset)
    ))  # fmt: skip
    for path in paths[3:5]:
        path.write_bytes(b"")
    Image.new("L", (60, 80), 255).save(paths[5])
    assert score(run, dataset, (GRCAM,))[1] is None
    assert capsys.readouterr().err.splitlines()[-1] == (
        f"note: {run.directory}: no pixel metrics: no mask holds an object pixel, so there is no recall to speak of; "
        "3 images: no mask; 2 images: mask: the file is empty; 1 image: the mask has other proportions than its image"
    )


def test_masks_of_no_use_are_counted_and_stop_no_box(tmp_path, source, capsys):
    run = Predictions.open(runs.write(tmp_path / "run", source))
    paths = [sample.masks[0] for sample in source.load()]
    paths[0].write_bytes(b"")
    Image.new("L", (60, 80), 255).save(paths[1])
    results, pixels = score(run, source.load(), (GRCAM,))
    assert results["grcam"].counted[0] == 6
    assert pixels.left_out == {"mask: the file is empty": 1, "the mask has other proportions than its image": 1}
    assert pixels.images == 4
    for path in paths[2:]:
        Image.new("L", (80, 60), 128).save(path)  # in CUB's layout nothing up to 128 is object
    results, pixels = score(run, source.load(), (GRCAM,))
    assert results["grcam"].counted[0] == 6
    assert pixels is None
    assert "no pixel metrics: no mask holds an object pixel" in capsys.readouterr().err


def test_images_without_a_box_are_left_out_by_reason(tmp_path, source):
    run = Predictions.open(runs.write(tmp_path / "run", source, misses=0))
    dataset = source.load()
    none = np.empty((0, 4))
    first, second, *rest = dataset.samples
    samples = (replace(first, boxes=none), replace(second, boxes=none, negative=True), *rest)
    dataset = replace(dataset, samples=samples)
    for count_missing in (False, True):
        result = score(run, dataset, (GRCAM,), count_missing)[0]["grcam"]
        assert (result.seen, result.counted[0], result.max_box_acc) == (6, 4, 100)
        assert result.left_out == {"no ground-truth box": 1, "no object in the image (negative)": 1}
        judged = list(judge(run, {sample.image_id: sample for sample in samples}, GRCAM, (0.5,), count_missing))
        assert [bool(one.counted[0]) for one in judged] == [False, False, True, True, True, True]


def test_a_declared_size_is_what_boxes_are_pixels_of(tmp_path, source):
    """The same picture, stored at half its size: one framework writes the stored size, another the declared one."""
    run = Predictions.open(runs.write(tmp_path / "run", source))
    dataset = source.load()
    doubled = tuple(replace(s, boxes=2 * s.boxes, declared_size=(160, 120)) for s in dataset)
    stored, declared = (
        run,
        replace(
            run,
            entries=tuple(
                replace(e, size=(160, 120), frame=replace(e.frame, original=(160, 120))) for e in run.entries
            ),
        ),
    )
    for predictions in (stored, declared):
        results, pixels = score(predictions, replace(dataset, samples=doubled), (GRCAM,))
        assert results["grcam"].max_box_acc == 100
        assert pixels.images == 6


@pytest.mark.parametrize(("declared", "exchanged"), [((160, 120), False), ((60, 80), True)])
def test_width_and_height_that_are_exchanged_are_said(tmp_path, source, capsys, declared, exchanged):
    run = Predictions.open(runs.write(tmp_path / "run", source))
    samples = tuple(replace(sample, declared_size=declared) for sample in source.load())
    with_sizes(replace(source.load(), samples=samples), run)
    said = capsys.readouterr().err
    assert "6 images are stored in another size than the annotations declare" in said
    assert ("of 6 of them width and height are exchanged, " in said) == exchanged


def test_what_figures_do_not_speak_of_is_said(tmp_path, source, capsys):
    for shard, said in ((None, False), ("1/2", True)):
        directory = runs.write(tmp_path / f"run {said}", replace(source, shard=shard))
        evaluate(Evaluate((directory,), protocols=("grcam", "adl")[: 1 + said], workers=1, resamples=0))
        noted = capsys.readouterr().err
        assert ("figures are of the part 1/2 of the split alone" in noted) == said
        assert ("no run is in the frame 'resize 256 crop 224' that the protocol adl measures in" in noted) == said


def test_masks_of_every_kind(tmp_path):
    """Two of four columns are object; each file says so in its own way."""
    half = np.zeros((4, 4), np.uint8)
    half[:, 2:] = 1
    voc = Image.fromarray(half * 2, "P")
    voc.putpalette([0, 0, 0, 128, 0, 0, 0, 128, 0])  # class 2 is green: nothing in its first channel
    files = {
        "grey": Image.fromarray(half * 255), "ones": Image.fromarray(half), "bits": Image.fromarray(half * 255).convert("1"),
        "voc": voc, "colours": Image.fromarray(np.stack([half * 0, half * 0, half * 200], axis=2)),
        "deep": Image.fromarray(half.astype(np.uint16) * 65535), "deep ones": Image.fromarray(half.astype(np.uint16)),
        "large": Image.fromarray(half * 255).resize((12, 12), Image.Resampling.NEAREST),
        "grey palette": Image.fromarray(half * 255).convert("P"),
    }  # fmt: skip
    for name, picture in files.items():
        picture.save(tmp_path / f"{name}.png")
        sample = Sample("x", tmp_path, 0, masks=(tmp_path / f"{name}.png",))
        for mask_over in (0, 128):
            mask, ignore = object_and_ignore(sample, Frame.squash((4, 4), 4), mask_over)
            assert (name, mask.tolist()) == (name, half.astype(bool).tolist())
            assert ignore is None


def test_pascals_void_is_ignored(tmp_path):
    pixels = np.zeros((4, 4, 3), np.uint8)
    pixels[0], pixels[1] = (128, 0, 0), (224, 224, 192)
    Image.fromarray(pixels).save(tmp_path / "a.png")
    mask, ignore = object_and_ignore(Sample("x", tmp_path, 0, masks=(tmp_path / "a.png",)), Frame.squash((4, 4), 4), 0)
    assert (mask.any(axis=1).tolist(), ignore.any(axis=1).tolist()) == (
        [True, False, False, False],
        [False, True, False, False],
    )


@pytest.mark.parametrize(("size", "other", "same"), [
    ((96, 72), (192, 144), True), ((1024, 683), (512, 342), True), ((96, 72), (72, 96), False), ((500, 333), (7, 5), True),
    ((400, 300), (400, 320), False),
])  # fmt: skip
def test_proportions(size, other, same):
    assert same_proportions(size, other) == same_proportions(other, size) == same


def test_masks_by_hand(tmp_path):
    grey = np.zeros((4, 4), np.uint8)
    grey[0], grey[1] = 200, 100
    other = np.zeros((4, 4), np.uint8)
    other[3, 3] = 255
    for name, pixels in (("grey", grey), ("other", other)):
        Image.fromarray(pixels).save(tmp_path / f"{name}.png")
    both = Sample("x", tmp_path, 0, masks=(tmp_path / "grey.png", tmp_path / "other.png"), ignore=tmp_path / "grey.png")
    mask, ignore = object_and_ignore(both, Frame.squash((4, 4), 8), mask_over=128)
    assert mask.sum() == 2 * 8 + 4  # the row over 128, and a pixel of the other mask, each pixel now four
    assert ignore.sum() == 4 * 8
    assert object_and_ignore(both, Frame.squash((4, 4), 4), mask_over=0)[0].sum() == 9
    Image.fromarray(other // 255).save(tmp_path / "one.png")
    assert object_and_ignore(replace(both, ignore=tmp_path / "one.png"), Frame.squash((4, 4), 4), 0)[1].sum() == 1
    cropped, _ = object_and_ignore(both, Frame.centre_crop((4, 4), 8, 4), mask_over=0)
    assert cropped.tolist() == [[True] * 4] * 2 + [[False] * 4] * 2


def test_masks_alone_that_are_of_no_use_are_refused(tmp_path, source):
    run = Predictions.open(runs.write(tmp_path / "run", source))
    for sample in source.load():
        Image.new("L", (80, 60), 128).save(sample.masks[0])  # not above 128
    with pytest.raises(UserError) as raised:
        score(run, source.load(), ())
    found = "no mask holds an object pixel, so there is no recall to speak of"
    assert str(raised.value) == f"{run.directory}: {found}. Check the data set's masks."


def test_masks_alone_are_enough(tmp_path, source):
    """OpenImages has masks and no boxes: pixels are scored, boxes are not."""
    metadata, root = tmp_path / "metadata/test", source.root
    metadata.mkdir(parents=True)
    samples = source.load().samples
    (metadata / "image_ids.txt").write_text("".join(f"images/{s.image_id}\n" for s in samples))
    (metadata / "class_labels.txt").write_text("".join(f"images/{s.image_id},{s.label}\n" for s in samples))
    (metadata / "localization.txt").write_text(
        "".join(f"images/{s.image_id},segmentations/{s.image_id},\n" for s in samples)
    )
    boxes = {f"images/{s.image_id}": s.boxes for s in samples}
    masked = DataSource("wsoleval", root, "test", metadata=tmp_path / "metadata")
    run = runs.write(tmp_path / "run", masked, boxes=boxes)
    (evaluation,), baselines = evaluate(Evaluate((run,)))
    assert (evaluation.rows, baselines) == ((), [])
    assert evaluation.pixels.piou > 90


def test_classification_is_counted(tmp_path, source):
    run = runs.write(tmp_path / "run", source)
    lines = (run / "predictions.jsonl").read_text().splitlines()
    lines[0] = lines[0].replace('"top5": [0, 1, 2]', '"top5": [1, 0, 2]')
    (run / "predictions.jsonl").write_text("\n".join(lines) + "\n")
    predictions = Predictions.open(run)
    assert predictions.accuracy(1) == pytest.approx(100 * 5 / 6)
    assert predictions.accuracy(5) == 100
    evaluations, _ = evaluate(Evaluate((run,)))
    # Wilson: of 5 in 6, 43.6 to 97.0; of 6 in 6, 61.0 to 100.
    assert without_thresholds(evaluations)[1][1:3] == ["83.33 (43.6-97.0)", "100.00 (61.0-100.0)"]
