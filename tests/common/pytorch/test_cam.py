import json
import shutil
import subprocess
import sys

import numpy as np
import pytest
import torch

from common.datasets import DataSource
from common.measuring.extraction import min_max
from common.pictures.images import read_rgb
from common.pictures.inputs import centre_crop, resize, ten_crops
from common.pytorch import cam
from common.pytorch.data import Augmentation, normalized
from common.pytorch.runtime import Runtime
from common.runs.reader import Predictions
from common.system.errors import UserError
from tests import commands, layouts, small_cub

QUICK = {
    "epochs": 2,
    "batch_size": 3,
    "augmentation": Augmentation(72, 64),
    "runtime": Runtime(device="cpu", workers=0),
}


@pytest.fixture(scope="module")
def root(tmp_path_factory):
    return small_cub.make(tmp_path_factory.mktemp("cam") / "CUB")


@pytest.fixture(scope="module")
def trained(root, tmp_path_factory):
    out = tmp_path_factory.mktemp("trained")
    cam.train(cam.Train(DataSource("cub", root, "train"), out, **QUICK))
    return out / "final.pth"


def localize(trained, root, out, **options):
    cam.localize(
        cam.Localize(checkpoint=str(trained), data=DataSource("cub", root), out=out, device="cpu", workers=0, **options)
    )
    return {name: Predictions.open(out / name) for name in options.get("frames", ("crop", "squash"))}


@pytest.mark.slow
def test_localized_as_by_hand(trained, root, tmp_path):
    found = localize(trained, root, tmp_path)
    model, architecture, _, _ = cam.load_classifier(str(trained))
    model.eval()
    assert architecture == "mobilenet_v1"
    for number, entry in enumerate(found["crop"].entries):
        image = read_rgb(root / "images" / entry.image_id)
        # as in training: 64 pixels, and of 256 and 224 what 73 is of 64
        crops = torch.from_numpy(ten_crops(resize(image, (73, 73), "pillow"), 64).copy()).permute(0, 3, 1, 2)
        with torch.inference_mode():
            output = model(normalized(crops, model.mean, model.std, torch.device("cpu")))
            probabilities = output.scores.softmax(dim=1).mean(dim=0)
            expected = torch.einsum("kyx,k->yx", output.features[4], model.head.weight[entry.label])
        assert list(entry.top5) == probabilities.argsort(descending=True).tolist()
        np.testing.assert_allclose(entry.top5_scores, probabilities.sort(descending=True).values, atol=1e-5)
        enlarged = torch.nn.functional.interpolate(expected[None, None], (224, 224), mode="bilinear")[0, 0].numpy()
        np.testing.assert_allclose(found["crop"].map(entry), min_max(enlarged), atol=2e-4)
        assert number < 6
    squash = found["squash"].entries[0]
    assert (squash.frame.kind, squash.top5) == ("resize 224", found["crop"].entries[0].top5)


@pytest.mark.slow
def test_the_network_sees_the_size_it_was_trained_at(trained, root, tmp_path, capsys):
    own = localize(trained, root, tmp_path / "own", frames=("squash",), crops=1)["squash"]
    said = capsys.readouterr().out
    assert "sees 64 x 64 pixels, as in its training" in said
    other = localize(trained, root, tmp_path / "other", frames=("squash",), crops=1, input_size=96)["squash"]
    assert "sees 96 x 96 pixels, and was trained at 64" in capsys.readouterr().out
    assert own.manifest["checkpoint"]["input_size"] == own.manifest["options"]["input_size"] == 64
    assert other.manifest["options"]["input_size"] == 96
    model, *_ = cam.load_classifier(str(trained))
    entry = own.entries[0]
    assert entry.frame.kind == "resize 224"
    for predictions, side in ((own, 64), (other, 96)):
        image = resize(read_rgb(root / "images" / entry.image_id), (side, side), "pillow")
        pixels = torch.from_numpy(image.copy()).permute(2, 0, 1)[None]
        with torch.inference_mode():
            scores = model.eval()(normalized(pixels, model.mean, model.std, torch.device("cpu"))).scores[0]
        found = predictions.entries[0]
        np.testing.assert_allclose(found.top5_scores, scores.softmax(dim=0).sort(descending=True).values, atol=1e-5)
    with pytest.raises(UserError, match="--input-size 0; expected 1 to 8192"):
        localize(trained, root, tmp_path / "none", input_size=0)


def test_a_trained_checkpoint_keeps_its_stride(trained):
    with pytest.raises(UserError, match="--stride released for a trained checkpoint"):
        cam.load_classifier(str(trained), "released")
    _, _, record, _ = cam.load_classifier("imagenet:mobilenet_v1", "released")
    assert record["stride"] == "released"


@pytest.mark.slow
def test_the_centre_crop_of_ten_is_the_crop_frame(trained, root, tmp_path):
    ten = localize(trained, root, tmp_path / "ten", frames=("crop",), crops=10)["crop"]
    one = localize(trained, root, tmp_path / "one", frames=("crop",), crops=1)["crop"]
    for entry in ten.entries:
        np.testing.assert_allclose(ten.map(entry), one.map(entry), atol=2e-4)
    image = read_rgb(root / "images" / ten.entries[0].image_id)
    np.testing.assert_array_equal(ten_crops(resize(image, (256, 256), "pillow"), 224)[4],
                                  centre_crop(resize(image, (256, 256), "pillow"), 224))  # fmt: skip


@pytest.mark.slow
def test_mixed_precision_moves_maps_a_little(trained, root, tmp_path):
    plain = localize(trained, root, tmp_path / "plain", frames=("squash",), crops=1)["squash"]
    mixed = localize(trained, root, tmp_path / "mixed", frames=("squash",), crops=1, amp="bf16")["squash"]
    assert (plain.manifest["options"]["amp"], mixed.manifest["options"]["amp"]) == ("off", "bf16")
    pairs = [(plain.map(one), mixed.map(other)) for one, other in zip(plain.entries, mixed.entries, strict=True)]
    assert all(not np.array_equal(one, other) for one, other in pairs)
    alike = [
        np.corrcoef(one.ravel(), other.ravel())[0, 1] for one, other in pairs
    ]  # maps of a head trained for seconds
    assert min(alike) > 0.7
    assert np.mean(alike) > 0.9
    with pytest.raises(UserError, match="fp16 mixed precision needs CUDA"):
        localize(trained, root, tmp_path / "refused", amp="fp16")
    assert not (tmp_path / "refused").exists()


@pytest.mark.slow
def test_compiled_is_the_same_network(trained, root, tmp_path, monkeypatch):
    """What torch.compile is given is called in the network's place; the compiler itself is PyTorch's to test."""
    calls = []
    monkeypatch.setattr(
        torch, "compile", lambda look, options: lambda images: calls.append(len(images)) or look(images)
    )
    plain, compiled = (localize(trained, root, tmp_path / str(on), compile=on)["crop"] for on in (False, True))
    assert calls.count(10) == 6
    np.testing.assert_array_equal(plain.map(plain.entries[0]), compiled.map(compiled.entries[0]))


@pytest.mark.slow
def test_the_manifest_says_what_was_done(trained, root, tmp_path):
    manifest = localize(trained, root, tmp_path, frames=("crop",))["crop"].manifest
    assert (manifest["method"], manifest["architecture"], manifest["frame"]) == (
        "cam",
        "mobilenet_v1",
        "resize 256 crop 224",
    )
    assert manifest["classifier"] == {"name": "mobilenet_v1", "crops": 10}
    assert len(manifest["checkpoint"]["sha256"]) == 64
    assert manifest["checkpoint"]["trained_on"]["split"] == "train"
    assert manifest["data"]["images"] == 6
    assert manifest["counts"] == {"scored": 6, "skipped": {}}


@pytest.mark.slow
def test_unreadable_images_are_counted_and_named(trained, tmp_path):
    root = small_cub.make(tmp_path / "CUB")
    (root / "images/001.Red_Bird/bird_2.png").write_bytes(b"")
    found = localize(trained, root, tmp_path / "out", crops=1)
    for predictions in found.values():
        assert predictions.skipped == {"001.Red_Bird/bird_2.png": "the file is empty"}
        assert predictions.manifest["counts"] == {"scored": 5, "skipped": {"the file is empty": 1}}


@pytest.mark.slow
def test_a_stopped_localization_goes_on(trained, root, tmp_path, monkeypatch):
    whole = localize(trained, root, tmp_path / "whole", crops=1, batch_size=2)
    count = 0
    batch = cam.localization._look

    def dying(*arguments):
        nonlocal count
        count += 1
        if count == 2:
            raise KeyboardInterrupt
        return batch(*arguments)

    monkeypatch.setattr(cam.localization, "_look", dying)
    with pytest.raises(KeyboardInterrupt):
        localize(trained, root, tmp_path / "run", crops=1, batch_size=2)
    monkeypatch.undo()
    # One frame is an image ahead, as after a kill between the two.
    lines = (tmp_path / "run/crop/predictions.jsonl").read_text().splitlines(keepends=True)
    (tmp_path / "run/crop/predictions.jsonl").write_text("".join(lines[:-1]))
    again = localize(trained, root, tmp_path / "run", crops=1, batch_size=2)
    for name in whole:
        assert [e.to_json() for e in whole[name].entries] == [e.to_json() for e in again[name].entries]


class ByGradient(cam.CamLocalizer):
    """CAM, which is the score's gradient on the features, weighted: by autograd."""

    def maps(self, features, scores, labels):
        with torch.enable_grad():
            leaf = features.detach().requires_grad_()
            pooled = self.model.head(leaf.mean(dim=(2, 3)))
            (gradient,) = torch.autograd.grad(pooled.gather(1, labels[:, None]).sum(), leaf)
        return (leaf * gradient.sum(dim=(2, 3), keepdim=True)).sum(dim=1)


@pytest.mark.slow
def test_a_method_that_takes_gradients_localizes(trained, root, tmp_path, monkeypatch):
    whole = localize(trained, root, tmp_path / "plain", crops=1)
    monkeypatch.setattr(cam, "CamLocalizer", ByGradient)
    ours = localize(trained, root, tmp_path / "gradient", crops=1)
    for name in whole:
        for one, other in zip(whole[name].entries, ours[name].entries, strict=True):
            np.testing.assert_allclose(whole[name].map(one), ours[name].map(other), atol=1e-4)


@pytest.mark.slow
def test_predictions_go_on_with_data_that_moved(trained, root, tmp_path):
    localize(trained, root, tmp_path / "run", crops=1)
    (tmp_path / "elsewhere").symlink_to(root)
    file, lines = tmp_path / "run/crop/manifest.json", tmp_path / "run/crop/predictions.jsonl"
    whole = lines.read_text()
    file.write_text(json.dumps({**json.loads(file.read_text()), "complete": False}))
    lines.write_text(whole.splitlines(keepends=True)[0])
    localize(trained, tmp_path / "elsewhere", tmp_path / "run", crops=1)
    assert lines.read_text() == whole
    assert json.loads(file.read_text())["data"]["root"] == str(tmp_path / "elsewhere")


@pytest.mark.slow
def test_other_options_do_not_overwrite(trained, root, tmp_path):
    localize(trained, root, tmp_path, crops=1)
    with pytest.raises(UserError, match="the folder holds another run: its classifier"):
        localize(trained, root, tmp_path, crops=10)
    localize(trained, root, tmp_path, crops=10, overwrite=True)


@pytest.mark.slow
def test_predicted_maps_need_no_label(trained, root, tmp_path):
    by_label = localize(trained, root, tmp_path / "a", frames=("squash",), crops=1)["squash"]
    by_guess = localize(trained, root, tmp_path / "b", frames=("squash",), crops=1, map_class="predicted")["squash"]
    for one, other in zip(by_label.entries, by_guess.entries, strict=True):
        same = np.array_equal(by_label.map(one), by_guess.map(other))
        assert same == (one.top5[0] == one.label)


def test_imagenets_own_head(root, tmp_path):
    found = localize("imagenet:mobilenet_v1", root, tmp_path, frames=("squash",), crops=1, map_class="predicted")[
        "squash"
    ]
    assert all(entry.top5 is None for entry in found.entries)  # birds of these names are none of ImageNet's classes
    assert found.manifest["checkpoint"] == {"name": "imagenet:mobilenet_v1", "sha256": None, "stride": "removed"}


@pytest.mark.slow
@pytest.mark.parametrize(("options", "message"), [
    ({"frames": ()}, "expected crop, squash or both"), ({"frames": ("crop", "crop")}, "expected crop, squash or both"),
])  # fmt: skip
def test_refusals(trained, root, tmp_path, options, message):
    with pytest.raises(UserError, match=message):
        localize(trained, root, tmp_path, **options)


@pytest.mark.slow
def test_a_checkpoint_of_other_classes_is_refused(trained, tmp_path):
    images = small_cub.make(tmp_path / "CUB") / "images"
    for name, folder in zip(("cat", "dog", "owl"), sorted(images.iterdir()), strict=True):
        shutil.copytree(folder, tmp_path / "pets" / "test" / name)
    source = DataSource("folder", tmp_path / "pets", "test")
    with pytest.raises(UserError, match="cat"):
        cam.localize(cam.Localize(checkpoint=str(trained), data=source, out=tmp_path / "out", device="cpu"))


def test_the_schedule():
    factors = [cam.warmup_then_cosine(step, 10, 2) for step in range(10)]
    assert factors[:3] == [0.5, 1.0, 1.0]
    assert factors[6] == pytest.approx(0.5)
    assert factors == sorted(factors[:2]) + sorted(factors[2:], reverse=True)
    assert cam.warmup_then_cosine(0, 1, 0) == 1.0


@pytest.mark.slow
def test_training_learns_and_repeats_itself(root, trained, tmp_path):
    log = [json.loads(line) for line in (trained.parent / "log.jsonl").read_text().splitlines()]
    assert len(log) == 4
    again = tmp_path / "again"
    cam.train(cam.Train(DataSource("cub", root, "train"), again, **QUICK))
    one, other = (torch.load(path, weights_only=True)["model"] for path in (trained, again / "final.pth"))
    assert all(torch.equal(one[name], other[name]) for name in one)


def command(*arguments):
    return subprocess.run(
        [sys.executable, "-m", "common.pytorch.cam", *map(str, arguments)], capture_output=True, text=True
    )


@pytest.mark.slow
def test_the_commands(root, tmp_path):
    data = ["--data.name", "cub", "--data.root", root]
    done = command("train", *data, "--data.split", "train", "--out", tmp_path / "run", "--epochs", 1, "--augmentation.resize", 40,
                   "--augmentation.crop", 32, "--runtime.workers", 0)  # fmt: skip
    assert done.returncode == 0, done.stderr
    done = command(
        "localize", *data, "--checkpoint", tmp_path / "run/final.pth", "--out", tmp_path / "out", "--crops", 1
    )
    assert done.returncode == 0, done.stderr
    assert (tmp_path / "out/crop/manifest.json").is_file()
    gone = ["--checkpoint", tmp_path / "gone.pth", "--out", tmp_path / "out2"]
    done = commands.run("common.pytorch.cam", "localize", *data, *gone)
    said = f"error: {tmp_path / 'gone.pth'}: no such checkpoint. Name the file that a training wrote, final.pth.\n"
    assert (done.returncode, done.stderr) == (2, said)


@pytest.mark.slow
def test_batch_norm_sees_a_layout_that_it_sums_exactly(root, tmp_path, monkeypatch):
    seen = layouts.contiguous_in_training(monkeypatch)
    cam.train(cam.Train(DataSource("cub", root, "train"), tmp_path, **{**QUICK, "epochs": 1}))
    assert seen
    assert all(seen)
