"""Step 1 in PyTorch: the files that the released scripts wrote, and no TensorFlow."""

import subprocess
import sys

import numpy as np
import pytest
import tyro

pytest.importorskip("tensorflow", reason="decodes the recorded images where simplejpeg is not installed")
pytest.importorskip("torch")

import torch

from common.runs.reader import Predictions
from grcam.config import GRADIENTS, THRESHOLDS
from grcam.generate_predicted_bbox import Generate, generate
from grcam.torch_classifier import closed_form
from tests import small_cub
from tests.absent import without
from tests.grcam import filled, reference
from tests.grcam.released import golden, lay_out, wnids


@pytest.mark.slow
@pytest.mark.parametrize("mode", ["vgg", "resnet50se", "inceptionv3"])
def test_the_released_scripts_files(tmp_path, mode):
    """Class file and nine box files equal to the byte."""
    recorded, jpegs = golden(f"e2e_{mode}"), golden("prep")
    images = lay_out(tmp_path / "data", recorded["xml"].tolist(),
                     [jpegs[f"jpeg_{number}"].tobytes() for number in range(5)], wnids(recorded))  # fmt: skip
    checkpoint = filled.checkpoint(tmp_path, mode)
    out = tmp_path / "out"
    generate(tyro.cli(Generate, args=[
        *images, "--framework", "torch", "--mode", mode, "--load", str(checkpoint), "--out", f"{out}/predictions",
        "--bounding-box-save-path", f"{out}/boxes/", "--classify-save-path", f"{out}/class.txt"]))  # fmt: skip
    checkpoint.unlink()
    assert (out / "class.txt").read_bytes() == recorded["file_cls"].tobytes()
    for th in THRESHOLDS:
        assert (out / f"boxes/{th}.txt").read_bytes() == recorded[f"file_box_{th}"].tobytes()


@pytest.mark.parametrize("kind", GRADIENTS)
def test_the_closed_form_is_numpys(kind):
    """1e-5 of the greatest value; features of one image four orders apart from another's."""
    generator = np.random.RandomState(0)
    scale = np.array([1, 100, 0.01])[:, None, None, None]
    features = np.maximum(generator.randn(3, 7, 5, 4) * scale, 0).astype(np.float32)
    weights, labels = generator.randn(4, 6).astype(np.float32), np.array([5, 0, 2])
    scores = features.mean(axis=(1, 2)) @ weights
    expected = reference.refined_map(features, scores, weights, labels, kind)
    given = [
        torch.from_numpy(np.ascontiguousarray(v)) for v in (weights.T, features.transpose(0, 3, 1, 2), scores, labels)
    ]
    refined, plain = closed_form(*given, kind)
    for found, wanted in ((refined, expected), (plain, reference.class_activation_map(features, weights, labels))):
        for one, other in zip(found.numpy(), wanted, strict=True):
            np.testing.assert_allclose(one, other, atol=1e-5 * np.abs(other).max())


@pytest.mark.slow
def test_both_frameworks_make_one_run_and_torch_needs_no_tensorflow(tmp_path):
    """Hand-over files equal, maps 1e-4, of a data set in both frames."""
    root = small_cub.make(tmp_path / "CUB", test=2)
    checkpoint = filled.checkpoint(tmp_path, "mobilenetv1", num_classes=4)

    def arguments(framework):
        out = tmp_path / framework
        return ["--data.name", "cub", "--data.root", str(root), "--load", str(checkpoint), "--mode", "mobilenetv1",
                "--framework", framework, "--jpeg", "accurate", "--frames", "squash", "crop", "--cam",
                "--out", f"{out}/predictions", "--bounding-box-save-path", f"{out}/boxes/",
                "--classify-save-path", f"{out}/class.txt"]  # fmt: skip

    blocked = without("tensorflow", "tensorpack")
    command = f"{blocked}from grcam.generate_predicted_bbox import main\nmain()"
    subprocess.run([sys.executable, "-c", command, *arguments("torch")], check=True)
    generate(tyro.cli(Generate, args=arguments("tensorflow")))
    for name in ("class.txt", *(f"boxes/{th}.txt" for th in THRESHOLDS)):
        assert (tmp_path / "torch" / name).read_bytes() == (tmp_path / "tensorflow" / name).read_bytes()
    for name in ("squash", "crop", "cam-squash", "cam-crop"):
        ours, theirs = (Predictions.open(tmp_path / framework / "predictions" / name)
                        for framework in ("torch", "tensorflow"))  # fmt: skip
        assert [entry.top5 for entry in ours.entries] == [entry.top5 for entry in theirs.entries]
        for entry in ours.entries:
            np.testing.assert_allclose(ours.map(entry), theirs.map(entry), atol=1e-4)
