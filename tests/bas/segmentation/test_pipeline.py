"""The pipeline end to end on pictures of 48 x 64, on MobileNetV1 from scratch: what is written, resumed and refused."""

import hashlib
import json
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from bas.segmentation import weights
from bas.segmentation.images import flipped_pair
from bas.segmentation.maps import MakeMaps, class_maps, make_maps
from bas.segmentation.masks import Walk
from bas.segmentation.networks import pair_maps
from bas.segmentation.options import TrainBas, TrainCam, TrainIrn
from bas.segmentation.run import RunTest, RunTrain, Steps, run_test, run_train
from bas.segmentation.train import train
from common.datasets import DataSource, TrainingSource
from common.pictures.images import read_rgb
from common.pytorch.runtime import Runtime
from common.results.segmentation_scoring import evaluate_segmentation
from common.runs.segmentation import SegmentationPredictions
from common.system.errors import UserError
from tests import scenes

ROOT = Path(__file__).resolve().parents[3]
RUNTIME = Runtime(device="cpu", workers=0, seed=1)
SMALL = Steps(epochs=1, batch_size=4, crop=64)


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return scenes.write(tmp_path_factory.mktemp("scenes") / "voc")


@pytest.fixture(scope="module")
def trained(folder, tmp_path_factory):
    out = tmp_path_factory.mktemp("pipeline")
    run_train(RunTrain(data=TrainingSource("voc", folder), out=out, backbone="mobilenet_v1", pretrained="none", bas=SMALL,
                     cam=SMALL, runtime=RUNTIME))  # fmt: skip
    return out


def options(folder, out, **fields):
    given = {
        "scales": (1.0, 0.5),
        "crf": "none",
        "irn": replace(SMALL, crop=80),
        "pad": 64,
        "walk": Walk(exponent=2),
        "runtime": RUNTIME,
        **fields,
    }
    return RunTest(data=DataSource("voc", folder, "train"), out=out, score="test", validation="val", **given)


def digest(folder):
    files = sorted(path for path in folder.rglob("*") if path.suffix in (".npz", ".png", ".jsonl"))
    return {str(path.relative_to(folder)): hashlib.sha256(path.read_bytes()).hexdigest() for path in files}


@pytest.fixture(scope="module")
def finished(folder, trained):
    run_test(options(folder, trained))
    return trained


@pytest.mark.slow
def test_from_labels_to_masks(folder, finished, capsys):
    trained, before = finished, digest(finished)
    run_test(options(folder, trained))  # finished: nothing is done again, and the figures are printed again
    assert digest(trained) == before
    printed = capsys.readouterr().out
    assert "validation" in printed
    assert printed.count("mIoU") >= 3
    expected = {"maps": ("maps", 8), "maps-test": ("maps", 3), "maps-val": ("maps", 3), "ir-labels": ("ir-labels", 8),
                "masks": ("masks", 3)}  # fmt: skip
    for name, (kind, count) in expected.items():
        predictions = SegmentationPredictions.open(trained / name)
        assert (predictions.kind, len(predictions.entries)) == (kind, count)
    manifest = json.loads((trained / "masks" / "manifest.json").read_text())
    assert manifest["options"]["irn"]["sha256"]
    assert manifest["options"]["maps"]["cam"]["sha256"]
    shift = weights.load_irn(trained / "irn" / "final.pth").network.mean_shift.running_mean
    assert shift.abs().sum() > 0


def test_cams_maps_alone_are_made_to_compare_with(folder, trained, tmp_path):
    """1e-5: in inference weights lie by pixel, which rounds otherwise."""
    options = MakeMaps(data=DataSource("voc", folder, "test"), out=tmp_path / "maps", cam=trained / "cam" / "final.pth",
                       scales=(1.0, 0.5), device="cpu", workers=0)  # fmt: skip
    predictions = SegmentationPredictions.open(make_maps(options))
    assert predictions.manifest["method"] == "bas-segmentation-cam"
    network = weights.load_cam(trained / "cam" / "final.pth").network.eval()
    assert len(predictions.entries) == 3
    for sample in options.data.load(multi_label=True):
        image = read_rgb(sample.path)
        pairs = [flipped_pair(image, scale) for scale in options.scales]
        expected = class_maps([lambda pair: pair_maps(network, pair)], pairs, sample.labels, image.shape[:2])
        found = np.load(tmp_path / "maps" / "maps" / f"{sample.image_id}.npz")["high_res"]
        np.testing.assert_allclose(found, expected.high, atol=1e-5)
    assert evaluate_segmentation((tmp_path / "maps",), workers=1)[0].rows
    with pytest.raises(UserError, match="no BAS checkpoint was named. Name it with --bas, or CAM's alone with --cam"):
        make_maps(replace(options, merge="none"))


def test_a_walk_that_makes_no_sense_is_refused_before_anything_is_done(folder, tmp_path):
    with pytest.raises(UserError, match="--walk.beta 0; expected above 0"):
        run_test(options(folder, tmp_path, walk=Walk(beta=0)))
    assert not list(tmp_path.iterdir())


@pytest.mark.slow
def test_a_killed_pipeline_continues_to_the_same_files(folder, finished, tmp_path):
    """Killed in the middle of the IR labels; the same command then gives what an uninterrupted one gives."""
    trained = finished
    (tmp_path / "bas").symlink_to(trained / "bas")
    (tmp_path / "cam").symlink_to(trained / "cam")
    program = f"""
import os
from pathlib import Path
from tests.bas.segmentation.test_pipeline import options, run_test
from common.runs.segmentation import SegmentationWriter
real, count = SegmentationWriter._append, 0
def append(self, record):
    global count
    real(self, record)
    count += 1
    if count == 16:
        os._exit(9)
SegmentationWriter._append = append
run_test(options(Path({str(folder)!r}), Path({str(tmp_path)!r})))
"""
    done = subprocess.run([sys.executable, "-c", program], cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 9, done.stderr
    run_test(options(folder, tmp_path))
    whole = digest(trained)
    assert digest(tmp_path) == {name: value for name, value in whole.items() if not name.startswith(("bas/", "cam/"))}


@pytest.mark.slow
def test_training_resumes_to_the_same_weights(folder, trained, tmp_path):
    """Stopped after its second step; the classes drawn at random are those of the uninterrupted training."""
    from bas.segmentation.train import BasLosses

    calls, real = [], BasLosses.__call__
    given = TrainBas(data=TrainingSource("voc", folder), out=tmp_path / "bas", backbone="mobilenet_v1", pretrained="none",
                     epochs=2, batch_size=4, crop=64, labels_only_epochs=1,
                     runtime=Runtime(device="cpu", workers=0, seed=1, save_every=1))  # fmt: skip

    def stopping(self, *arguments):
        calls.append(1)
        if len(calls) == 4:
            raise KeyboardInterrupt
        return real(self, *arguments)

    BasLosses.__call__ = stopping
    try:
        with pytest.raises(KeyboardInterrupt):
            train(given)
    finally:
        BasLosses.__call__ = real
    resumed = torch.load(train(given), weights_only=True)["model"]
    whole = torch.load(train(replace(given, out=tmp_path / "whole")), weights_only=True)["model"]
    assert all(torch.equal(value, whole[name]) for name, value in resumed.items())
    log = [json.loads(line) for line in (tmp_path / "bas" / "log.jsonl").read_text().splitlines()]
    assert log[0]["loss"] == pytest.approx(log[0]["cls"])  # labels only
    assert log[3]["loss"] > log[3]["cls"]


def test_biases_of_batch_norm_train_only_when_asked(folder, trained, tmp_path):
    state = torch.load(trained / "bas" / "final.pth", weights_only=True)["model"]
    assert all(not value.any() for name, value in state.items() if name.endswith(".bias"))
    path = train(TrainBas(data=TrainingSource("voc", folder), out=tmp_path, backbone="mobilenet_v1", pretrained="none",
                          epochs=1, batch_size=4, crop=64, train_bias=True, runtime=RUNTIME))  # fmt: skip
    state = torch.load(path, weights_only=True)["model"]
    assert any(value.any() for name, value in state.items() if name.endswith(".bias"))


@pytest.mark.parametrize(("fields", "said"), [
    ({"crop": 60}, "--crop 60; expected a multiple of 16"),
    ({"batch_size": 2, "poly_world": 4}, "--poly-world 4 for batches of 2"),
    ({"tap": 5}, "--tap 5 on mobilenet_v1; expected 6 to 12"),
    ({"batch_size": 9}, "8 images don't fill a batch of 9"),
    ({"epochs": 0}, "--epochs 0; expected 1 or more"),
])  # fmt: skip
def test_options_that_make_no_training_are_refused(folder, tmp_path, fields, said):
    given = {"crop": 64, "batch_size": 4, **fields}
    with pytest.raises(UserError, match=said):
        train(TrainBas(data=TrainingSource("voc", folder), out=tmp_path, backbone="mobilenet_v1", pretrained="none",
                       runtime=RUNTIME, **given))  # fmt: skip


@pytest.mark.slow
def test_steps_refuse_what_another_step_wrote(folder, finished, tmp_path):
    with pytest.raises(UserError, match="these are maps; expected IR labels"):
        train(TrainIrn(labels=finished / "maps", out=tmp_path, backbone="mobilenet_v1", runtime=RUNTIME))
    with pytest.raises(UserError, match="--crop 64 for IRN; expected more than 72"):
        train(TrainIrn(labels=finished / "maps", out=tmp_path, backbone="mobilenet_v1", crop=64, runtime=RUNTIME))


@pytest.mark.slow
def test_two_processes_are_one(folder, tmp_path):
    """CAM, whose batch norm is frozen: the losses of four images and of two by two are equal to 1e-4."""
    one = train(TrainCam(data=TrainingSource("voc", folder), out=tmp_path / "one", backbone="mobilenet_v1", epochs=1,
                         batch_size=4, crop=64, pretrained="none", runtime=Runtime(device="cpu", workers=0)))  # fmt: skip
    done = subprocess.run(
        [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc_per_node", "2",
         "-m", "bas.segmentation.train", "cam", "--data.name", "voc", "--data.root", str(folder),
         "--out", str(tmp_path / "two"), "--backbone", "mobilenet_v1", "--epochs", "1", "--batch-size", "4", "--crop", "64",
         "--pretrained", "none", "--runtime.device", "cpu", "--runtime.workers", "0"],
        cwd=ROOT, capture_output=True, text=True,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr[-3000:]
    logs = [(path / "log.jsonl").read_text().splitlines() for path in (one.parent, tmp_path / "two")]
    losses = [[json.loads(line)["loss"] for line in log] for log in logs]
    assert losses[0] == pytest.approx(losses[1], rel=1e-4)
