"""Stage seg at test: boxes of recorded logits, and both test scripts as a whole."""

from dataclasses import replace
from pathlib import Path

import cv2
import numpy as np
import pytest
import torch

from common.datasets.layouts import cub
from common.measuring.geometry import Frame
from common.measuring.protocols import SPOL
from common.runs.reader import Predictions
from common.runs.record import Prediction
from common.runs.writer import PredictionsWriter
from common.system.errors import UserError
from spol import verdicts
from spol.models import enlarged
from spol.options import Source
from spol.seg.test import Localize, localize, print_released_line, score_boxes
from spol.segmentation import foreground, input_kind
from spol.weights import write_released
from tests import fill, runs, small_cub
from tests.spol import filled

WNIDS = ("n01440764", "n01443537", "n01484850")


@pytest.mark.parametrize("threshold", [0.2, 0.8])
def test_boxes_of_recorded_logits(golden, threshold):
    """Enlarged, sigmoid after, strictly above, largest contour; equal."""
    recorded = golden("spol/logits")
    logits = torch.from_numpy(recorded["logits28"])[:, None]
    probabilities = enlarged(logits, (224, 224)).sigmoid()[:, 0].numpy()
    for probability, expected in zip(probabilities, recorded[f"box_thr{threshold}"], strict=True):
        (boxes,) = SPOL.extractor.boxes(probability, [threshold])
        np.testing.assert_array_equal(boxes[0] if len(boxes) else [-1] * 4, expected)


def layout(folder, recorded, dataset):
    """The original's folders with the toy images: PNG bytes under the names of the list."""
    flags = {}
    for row, line in zip(recorded["toy"].tolist(), recorded["list_lines"].tolist(), strict=True):
        name = line.split("," if dataset == "cub" else " ")[0]
        path = folder / {"cub": "image", "imagenet": "val"}[dataset] / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(cv2.imencode(".png", fill.image(*row[:3])[..., ::-1])[1].tobytes())
        flags[name] = [bool(flag) for flag in row[8:10]]
        if dataset == "imagenet":
            (folder / "box").mkdir(exist_ok=True)
            number = len(flags) - 1
            (folder / "box" / f"{path.stem}.xml").write_text(str(recorded["xml"][number]))
    for wnid in WNIDS if dataset == "imagenet" else ():
        (folder / "train" / wnid).mkdir(parents=True)
    (folder / "val.txt").write_text("".join(f"{line}\n" for line in recorded["list_lines"].tolist()))
    np.save(folder / "top1top5.npy", np.array(flags, dtype=object), allow_pickle=True)
    return folder


@pytest.mark.slow
@pytest.mark.parametrize(("dataset", "name"), [("cub", "cub"), ("imagenet", "ilsvrc")])
def test_the_whole_script_is_the_recorded_one(golden, tmp_path, capsys, dataset, name):
    """A released-style checkpoint, list, verdicts and annotations in; boxes, IoUs and the printed line out.

    Boxes and line equal, IoU 1e-9 on CUB. ImageNet's fourth image has no box left, and leaves the denominator.
    """
    recorded = golden(f"spol/e2e_{dataset}_seg")
    network = filled.network("seg")
    with torch.no_grad():
        network.linear.weight *= float(recorded["linear_scale"])
        network.linear.bias.fill_(float(recorded["linear_bias"]))
    write_released(tmp_path / "model-8", network)
    root = layout(tmp_path / "data", recorded, dataset)
    source = Source(name, root, split="val", list_file=Path("val.txt"))
    options = Localize(
        data=source, snapshot=tmp_path / "model-8", out=tmp_path / "out", recipe=dataset, frames=("crop",),
        top1top5=root / "top1top5.npy", device="cpu", workers=0, batch_size=4,
    )  # fmt: skip
    (directory,) = localize(options)
    line = str(recorded["final_line"])
    assert line in capsys.readouterr().out
    predictions, loaded = Predictions.open(directory), source.plain().load()
    counts = score_boxes(predictions, loaded)
    assert f"count={counts['count']} | top1={counts['top1']:.5f} | top5={counts['top5']:.5f} | GT-Known={counts['gt_known']:.5f}" == line  # fmt: skip
    everything = score_boxes(predictions, loaded, count_missing=True)
    assert everything["count"] == 8
    forwarded = [entry for entry in predictions.entries if dataset == "cub" or "00000004" not in entry.image_id]
    calls = recorded["iou_calls"]
    for index, entry in enumerate(forwarded):
        box = calls[calls[:, 0] == index][0, 1:5]
        np.testing.assert_array_equal(entry.box, box)
        np.testing.assert_allclose(logit_of(predictions.map(entry)), logit_of(up(recorded["logits"][index])), atol=2e-3)


def up(logits):
    return enlarged(torch.from_numpy(logits)[None], (224, 224)).sigmoid()[0, 0].numpy()


def logit_of(probability):
    clipped = np.clip(probability.astype(np.float64), 1e-4, 1 - 1e-4)
    return np.log(clipped / (1 - clipped))


def test_a_network_trained_small_sees_the_same_part_small():
    assert input_kind("resize 256 crop 224") == "resize 256 crop 224"
    assert input_kind("resize 256 crop 224", 192) == "resize 192 crop 168"
    assert input_kind("resize 224", 192) == "resize 168"


@torch.inference_mode()
def test_the_foreground_has_the_size_asked_for():
    network = filled.network("seg", backbone="mobilenet_v1").eval()
    found = foreground(network, filled.images(2, 64, 1), (40, 30))
    assert found.shape == (2, 30, 40)
    assert 0 <= found.min() <= found.max() <= 1


def test_refusals(tmp_path):
    options = Localize(data=Source("cub", tmp_path), snapshot=tmp_path / "none", out=tmp_path / "out")
    with pytest.raises(UserError, match="expected crop, squash or both"):
        localize(replace(options, frames=()))
    with pytest.raises(UserError, match="no such list file"):
        localize(replace(options, data=Source("cub", tmp_path, list_file=Path("val.txt"))))
    with pytest.raises(UserError, match=r"neither images/ nor image/ is there"):
        cub.find_image_root(tmp_path)
    with pytest.raises(UserError, match="no such file"):
        verdicts.read(tmp_path / "top1top5.npy")


def test_boxes_in_the_whole_image_by_hand(tmp_path):
    """A true box of 30 x 256 at the left edge is 14 x 224 in the crop. Found exactly there, it is a hit in the crop, and in
    the whole image an IoU of 14 * 224 / (30 * 256) = 0.41, a miss."""
    root = small_cub.make(tmp_path / "CUB", height=256, width=256, train=1, test=1)
    rows = (root / "bounding_boxes.txt").read_text().splitlines()
    (root / "bounding_boxes.txt").write_text("".join(f"{row.split()[0]} 0 0 30 256\n" for row in rows))
    source = Source("cub", root).plain()
    crop = "resize 256 crop 224"
    writer = PredictionsWriter(tmp_path / "run", runs.header(source, crop))
    for sample in source.load():
        frame = Frame.of_kind(crop, sample.size)
        writer.write(Prediction(sample.image_id, sample.label, sample.size, frame, (sample.label,), None, np.array([0, 0, 14, 224]), 0.2))  # fmt: skip
    writer.finish()
    predictions = Predictions.open(tmp_path / "run")
    released = score_boxes(predictions, source.load())
    assert released == {"count": 3, "top1": 1.0, "top5": 1.0, "gt_known": 1.0}
    assert score_boxes(predictions, source.load(), full_image=True) == {
        **released,
        "top1": 0.0,
        "top5": 0.0,
        "gt_known": 0.0,
    }


def test_images_left_out_are_misses_of_every_image_and_said(tmp_path, capsys):
    """Of three images one is found exactly, one could not be read, and one, unreadable too, has no true box: of every
    image, 2, a half are hits; as released the one alone counts."""
    root = small_cub.make(tmp_path / "CUB", height=256, width=256, train=1, test=1)
    source = Source("cub", root).plain()
    first, second, third = source.load().samples
    dataset = replace(source.load(), samples=(first, second, replace(third, boxes=np.empty((0, 4)))))
    crop = "resize 256 crop 224"
    writer = PredictionsWriter(tmp_path / "run", runs.header(source, crop))
    frame = Frame.of_kind(crop, first.size)
    box = np.clip(frame.to_frame(first.boxes)[0], 0, 224)
    writer.write(Prediction(first.image_id, first.label, first.size, frame, (first.label,), None, box, 0.2))
    for sample in (second, third):
        writer.skip(sample.image_id, "the file is empty")
    writer.finish()
    predictions = Predictions.open(tmp_path / "run")
    assert score_boxes(predictions, dataset) == {"count": 1, "top1": 1.0, "top5": 1.0, "gt_known": 1.0}
    assert score_boxes(predictions, dataset, count_missing=True) == {
        "count": 2, "top1": 0.5, "top5": 0.5, "gt_known": 0.5
    }  # fmt: skip
    print_released_line(tmp_path / "run", dataset, Localize(data=Source("cub", root), snapshot=tmp_path, out=tmp_path))
    told = capsys.readouterr().out
    assert (
        "count=2 | top1=0.50000 | top5=0.50000 | GT-Known=0.50000   (every image, 1 that were left out as misses"
        in told
    )
