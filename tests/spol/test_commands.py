"""The three stages' commands on a small data set: resuming, refusals, released files, options."""

import json
import shutil
from dataclasses import replace
from pathlib import Path

import cv2
import numpy as np
import pytest
import torch
import tyro
from PIL import Image

from common.pytorch import checkpoints
from common.runs.reader import Predictions
from common.system.errors import UserError
from spol import localize, pictures, pseudo_masks, weights
from spol import training as training_of
from spol.cam import test as cam_test
from spol.cam import train as cam_train
from spol.cls import test as cls_test
from spol.cls import train as cls_train
from spol.models import build
from spol.options import Source, TrainRuntime, TrainSource
from spol.preprocessing import Preprocessing
from spol.seg import test as seg_test
from spol.seg import train as seg_train
from tests import layouts, small_cub

COMMANDS = {
    "cls.train": cls_train,
    "cls.test": cls_test,
    "cam.train": cam_train,
    "cam.test": cam_test,
    "seg.train": seg_train,
    "seg.test": seg_test,
}
ORIGINAL_OPTIONS = {
    "train": ("datapath", "savepath", "mode", "list", "clsnum", "lr", "epoch", "batch-size", "weight-decay", "momentum", "nesterov", "num_workers", "snapshot"),
    "test": ("datapath", "savepath", "mode", "list", "clsnum", "batch-size", "num_workers", "snapshot"),
}  # fmt: skip


@pytest.fixture(scope="module")
def root(tmp_path_factory):
    return small_cub.make(tmp_path_factory.mktemp("spol") / "CUB", train=4, test=2)


def training(command, root, out, **changes):
    chosen = {
        "epochs": 2, "batch_size": 6, "resize": 72, "crop": 64, "pretrained": False,
        "runtime": TrainRuntime(device="cpu", workers=0), **changes,
    }  # fmt: skip
    if command is not cls_train:
        chosen = {"backbone": "mobilenet_v1", **chosen}
    return command.Train(data=TrainSource("cub", root), out=out, **chosen)


@pytest.fixture(scope="module")
def trained(root, tmp_path_factory):
    """Every stage, one after the other; the folder that run_train.sh would have left."""
    out = tmp_path_factory.mktemp("trained")
    cls_train.train(training(cls_train, root, out / "cls", arch="mobilenet_v1", epochs=1))
    torch.manual_seed(0)
    first = build("cam", 3, "mobilenet_v1")
    with torch.no_grad():
        first.linear.weight.abs_()  # so that no class's map is all zero
    weights.write_released(out / "start", first)
    cam_train.train(training(cam_train, root, out / "cam", snapshot=out / "start"))
    cam_test.make_masks(masking(root, out))
    seg_train.train(training(seg_train, root, out / "seg", masks=out / "masks"))
    return out


def masking(root, trained, **changes):
    chosen = {"device": "cpu", "workers": 0, "processes": 0, "out": trained / "masks", **changes}
    return cam_test.MakeMasks(data=Source("cub", root, "train"), snapshot=trained / "cam/final.pth", **chosen)


def segmenting(root, out, to, **changes):
    chosen = {"device": "cpu", "workers": 0, "out": to, **changes}
    return seg_test.Localize(data=Source("cub", root), snapshot=out / "seg/final.pth", **chosen)


def classifying(root, out, to, **changes):
    chosen = {"device": "cpu", "workers": 0, "out": to, **changes}
    return cls_test.Classify(data=Source("cub", root), snapshot=str(out / "cls/final.pth"), **chosen)


class Killed(BaseException):
    """What a killed process does, as far as a test can."""


def killed_after(monkeypatch, owner, name, calls):
    """Let a function work that many times, then die."""
    real, done = getattr(owner, name), []

    def dying(*arguments, **named):
        if len(done) == calls:
            raise Killed
        done.append(1)
        return real(*arguments, **named)

    monkeypatch.setattr(owner, name, dying)


@pytest.mark.slow
@pytest.mark.parametrize("stage", ["cls", "cam", "seg"])
def test_a_killed_training_resumes_to_the_same_weights(trained, root, tmp_path, monkeypatch, stage):
    """Killed right after the first epoch's checkpoint, before the original's model file of that epoch."""
    command = {"cls": cls_train, "cam": cam_train, "seg": seg_train}[stage]
    changes = (
        {"arch": "mobilenet_v1", "epochs": 1, "runtime": TrainRuntime(device="cpu", workers=0, save_every=1)}
        if stage == "cls"
        else {}
    )
    changes |= {"seg": {"masks": trained / "masks"}, "cam": {"snapshot": trained / "start"}, "cls": {}}[stage]
    options = training(command, root, tmp_path / stage, **changes)
    saved = checkpoints.write_step

    def dying(folder, step, content):
        saved(folder, step, content)
        raise Killed

    monkeypatch.setattr(checkpoints, "write_step", dying)
    with pytest.raises(Killed):
        command.train(options)
    monkeypatch.undo()
    whole, resumed = (
        checkpoints.read(path)["model"] for path in (trained / stage / "final.pth", command.train(options))
    )
    assert all(torch.equal(value, resumed[name]) for name, value in whole.items())
    if stage == "seg":
        assert sorted(path.name for path in (tmp_path / stage).glob("model-*")) == ["model-1", "model-2"]


@pytest.mark.slow
def test_the_original_files_are_bare_state_dicts(trained):
    """CUB's seg writes one an epoch; the last is the final weights."""
    last = weights.load(trained / "seg/model-2", "seg")
    assert (last.stage, last.backbone, last.class_names) == ("seg", "mobilenet_v1", None)
    final = weights.load(trained / "seg/final.pth", "seg")
    assert all(
        torch.equal(value, final.network.state_dict()[name]) for name, value in last.network.state_dict().items()
    )
    assert not list((trained / "cam").glob("model-*")), "the original saves from epoch 18"


@pytest.mark.slow
def test_imagenet_saves_by_steps(root, tmp_path, monkeypatch):
    from spol import config

    monkeypatch.setitem(config.RECIPES, ("cam", "imagenet"), replace(config.recipe("cam", "imagenet"), save_steps=3))
    before = build("cam", 3, "mobilenet_v1").bkbone.state_dict()
    options = training(cam_train, root, tmp_path, recipe="imagenet", epochs=2)
    torch.manual_seed(0)
    final = checkpoints.read(cam_train.train(options))
    assert [path.name for path in tmp_path.glob("model-*")] == ["model-3"]
    assert final["config"]["options"]["frozen_stem"] is True
    assert set(before) <= {name.removeprefix("bkbone.") for name in final["model"]}


@pytest.mark.slow
def test_the_frozen_stem_keeps_its_weights_and_moves_its_statistics(root, tmp_path):
    start = tmp_path / "start"
    torch.manual_seed(3)
    weights.write_released(start, build("cam", 3, "mobilenet_v1"))
    moved = {}
    for frozen in (True, False):
        options = training(cam_train, root, tmp_path / str(frozen), snapshot=start, frozen_stem=frozen, epochs=1)
        state = checkpoints.read(cam_train.train(options))["model"]
        first = checkpoints.read_state_dict(start)
        moved[frozen] = [not torch.equal(state[name], first[name]) for name in ("bkbone.features.conv_0.0.weight", "bkbone.features.conv_0.1.bias", "bkbone.features.conv_0.1.running_mean")]  # fmt: skip
    assert moved == {True: [False, False, True], False: [True, True, True]}


@pytest.mark.slow
@pytest.mark.parametrize(("mode", "share"), [("val", 0.0), ("train", 0.5)])
def test_mode_val_trains_without_dropout(root, tmp_path, mode, share):
    network = build("cam", 3, "mobilenet_v1")
    training_of.start(network, training(cam_train, root, tmp_path, mode=mode, epochs=1), "mobilenet_v1", "cam")
    assert network.dropout.p == share


@pytest.mark.slow
def test_mixed_precision(trained, root, tmp_path):
    """bfloat16 on a CPU; the losses are computed in float32 and stay close to the plain run's."""
    options = training(seg_train, root, tmp_path, masks=trained / "masks")
    options = replace(options, runtime=replace(options.runtime, amp="bf16"))
    seg_train.train(options)
    first = [
        json.loads((folder / "log.jsonl").read_text().splitlines()[0])["loss"] for folder in (tmp_path, trained / "seg")
    ]
    assert first[0] != first[1]
    assert first[0] == pytest.approx(first[1], rel=0.1)


@pytest.mark.slow
def test_mixed_precision_and_compilation_when_testing(trained, root, tmp_path, monkeypatch):
    """Boxes and masks move a little with bfloat16; whatever torch.compile gives is called in the network's place."""
    calls = []
    monkeypatch.setattr(
        torch, "compile", lambda run, options: lambda *given: calls.append(len(given[0])) or run(*given)
    )
    for amp in ("off", "bf16"):
        out = tmp_path / amp
        seg_test.localize(segmenting(root, trained, out / "seg", amp=amp, compile=True))
        cls_test.classify(classifying(root, trained, out / "cls", amp=amp, compile=True))
        cam_test.make_masks(masking(root, trained, out=out / "masks", amp=amp, compile=True))
    assert len(calls) >= 6
    plain, mixed = (Predictions.open(tmp_path / amp / "seg" / "crop") for amp in ("off", "bf16"))
    moved = [
        np.abs(plain.map(one) - mixed.map(other)).max() for one, other in zip(plain.entries, mixed.entries, strict=True)
    ]
    assert 0 < max(moved) < 0.1
    masks = [
        [cv2.imread(str(path)) for path in sorted((tmp_path / amp / "masks").rglob("*.png"))] for amp in ("off", "bf16")
    ]
    assert len(masks[0]) == 12
    assert np.mean([np.abs(one.astype(int) - other).mean() for one, other in zip(*masks, strict=True)]) < 8
    with pytest.raises(UserError, match="fp16 mixed precision needs CUDA"):
        seg_test.localize(segmenting(root, trained, tmp_path / "refused", amp="fp16"))


@pytest.mark.slow
def test_killed_pseudo_masks_go_on_to_the_same_bytes(trained, root, tmp_path, monkeypatch, capsys):
    options = masking(root, trained, out=tmp_path / "masks")
    killed_after(monkeypatch, pseudo_masks, "write", 5)
    with pytest.raises(Killed):
        cam_test.make_masks(options)
    monkeypatch.undo()
    assert len(list((tmp_path / "masks").rglob("*.png"))) == 5
    with pytest.raises(UserError, match="not all pseudo masks are made yet"):
        seg_train.with_masks(options.data.plain().load(), tmp_path / "masks")
    with pytest.raises(UserError, match="another run's pseudo masks: options differ"):
        cam_test.make_masks(replace(options, holes=False))
    cam_test.make_masks(replace(options, processes=2))  # the bytes do not depend on how many processes
    for path in sorted((trained / "masks").rglob("*.png")):
        assert path.read_bytes() == (tmp_path / "masks" / path.relative_to(trained / "masks")).read_bytes()
    assert "12 pseudo masks, 0 images left out" in capsys.readouterr().out


@pytest.mark.slow
def test_jpeg_masks_are_read_and_lose(trained, root, tmp_path):
    """ImageNet's slip: the file is a JPEG; seg reads it all the same."""
    options = masking(root, trained, out=tmp_path / "masks", mask_format="jpeg")
    cam_test.make_masks(options)
    paths = sorted((tmp_path / "masks").rglob("*.JPEG"))
    assert len(paths) == 12
    lossless = [trained / "masks" / path.relative_to(tmp_path / "masks").with_suffix(".png") for path in paths]
    differing = [
        (cv2.imread(str(one)) != cv2.imread(str(other))).any() for one, other in zip(paths, lossless, strict=True)
    ]
    assert any(differing)
    seg_train.train(training(seg_train, root, tmp_path / "seg", masks=tmp_path / "masks", epochs=1))


@pytest.mark.slow
def test_images_without_a_mask_are_left_out_by_name(trained, root, tmp_path, capsys):
    broken = shutil.copytree(root, tmp_path / "CUB")
    victim = broken / "images" / small_cub.CLASSES[0] / "bird_0.png"
    victim.write_bytes(b"")
    cam_test.make_masks(masking(broken, trained, out=tmp_path / "masks"))
    dataset, _ = seg_train.with_masks(TrainSource("cub", broken).plain().load(), tmp_path / "masks")
    assert len(dataset) == 11
    assert capsys.readouterr().out.count("001.Red_Bird/bird_0.png") == 2
    (tmp_path / "masks" / small_cub.CLASSES[1] / "bird_1.png").unlink()
    with pytest.raises(UserError, match=r"no pseudo mask. Run spol.cam.test"):
        seg_train.train(training(seg_train, broken, tmp_path / "seg", masks=tmp_path / "masks"))


def test_masks_of_another_set_with_the_same_names(root, tmp_path, capsys):
    """Their sizes differ, or their annotations alone; an EXIF tag may exchange the sides."""
    dataset, folder = TrainSource("cub", root).plain().load(), tmp_path / "masks"
    for sample in dataset:
        path = folder / Path(sample.image_id).with_suffix(".png")
        path.parent.mkdir(parents=True, exist_ok=True)
        cv2.imwrite(str(path), np.zeros((*sample.size, 3), np.uint8))  # turned: width for height
    made = {"complete": True, "data": {"fingerprint": dataset.fingerprint()}}
    for fingerprint, notes in ((dataset.fingerprint(), 0), ("another", 1)):
        made["data"]["fingerprint"] = fingerprint
        (folder / "manifest.json").write_text(json.dumps(made))
        assert len(seg_train.with_masks(dataset, folder)[0]) == 12
        assert capsys.readouterr().err.count("the pseudo masks were made of other images, or of images with") == notes
    width, height = dataset.samples[-1].size
    cv2.imwrite(str(path), np.zeros((height, width + 1, 3), np.uint8))
    with pytest.raises(UserError, match=f"is {width + 1} x {height}, the image {width} x {height}.*Make them with"):
        seg_train.with_masks(dataset, folder)


@pytest.mark.slow
def test_two_images_may_not_share_a_mask(trained, root, tmp_path):
    doubled = shutil.copytree(root, tmp_path / "CUB")
    folder = doubled / "images" / small_cub.CLASSES[0]
    Image.open(folder / "bird_0.png").save(folder / "bird_0.jpg")
    (doubled / "images.txt").write_text(
        (doubled / "images.txt").read_text().replace("001.Red_Bird/bird_1.png", "001.Red_Bird/bird_0.jpg")
    )
    with pytest.raises(UserError, match="would share the pseudo mask bird_0.png"):
        cam_test.make_masks(masking(doubled, trained, out=tmp_path / "masks"))


@pytest.mark.slow
def test_a_killed_localization_goes_on(trained, root, tmp_path, monkeypatch):
    path = cls_test.classify(classifying(root, trained, tmp_path / "verdicts", npy=True))
    whole = seg_test.localize(segmenting(root, trained, tmp_path / "whole", top1top5=path, batch_size=2))
    content = json.loads(path.read_text())
    next(iter(content["images"].values()))["scores"][0] = 0.123  # as of another training of the classifier
    other = tmp_path / "other.json"
    other.write_text(json.dumps(content))
    with pytest.raises(UserError, match="holds another run: its verdicts is"):
        seg_test.localize(segmenting(root, trained, tmp_path / "whole", top1top5=other, batch_size=2))
    options = segmenting(root, trained, tmp_path / "run", top1top5=path, batch_size=2)
    killed_after(monkeypatch, seg_test, "foreground", 3)
    with pytest.raises(Killed):
        seg_test.localize(options)
    monkeypatch.undo()
    for ours, theirs in zip(seg_test.localize(options), whole, strict=True):
        assert (ours / "predictions.jsonl").read_text() == (theirs / "predictions.jsonl").read_text()
    for entry in Predictions.open(whole[0]).entries:
        assert len(entry.top5) == 3
        assert Predictions.open(whole[0]).map(entry).shape == (224, 224)
    by_flags = seg_test.localize(
        segmenting(root, trained, tmp_path / "flags", top1top5=tmp_path / "verdicts/top1top5.npy")
    )
    found = [Predictions.open(directory[0]) for directory in (whole, by_flags)]
    assert found[0].accuracy(1) == found[1].accuracy(1)
    by_predictions = segmenting(
        root, trained, tmp_path / "more", top1top5=tmp_path / "verdicts/images", frames=("crop",)
    )
    assert len(seg_test.localize(by_predictions)) == 1


@pytest.mark.slow
def test_quirks_of_the_printed_line(trained, root, tmp_path, capsys):
    """Nothing exceeds a probability of 1 - 1e-7: no contour anywhere, so nothing is counted unless asked for."""
    options = segmenting(root, trained, tmp_path / "none", threshold=1 - 1e-7, frames=("crop",))
    seg_test.localize(options)
    assert "count=0 | top1=- | top5=- | GT-Known=-" in capsys.readouterr().out
    seg_test.localize(replace(options, count_missing=True))
    first = capsys.readouterr().out.splitlines()[-2]
    assert first.startswith("count=6 | top1=- | top5=- | GT-Known=0.00000")
    seg_test.localize(replace(options, full_image_boxes=True))
    assert "boxes in the whole image" in capsys.readouterr().out


@pytest.mark.slow
def test_dropout_stays_on_in_mode_train(trained, root, tmp_path):
    torch.manual_seed(0)
    noisy, plain = (
        seg_test.localize(segmenting(root, trained, tmp_path / mode, mode=mode, frames=("crop",)))[0]
        for mode in ("train", "val")
    )
    one, other = Predictions.open(noisy), Predictions.open(plain)
    assert np.abs(one.map(one.entries[0]) - other.map(other.entries[0])).max() > 1e-4


@pytest.mark.slow
@pytest.mark.parametrize(("make", "message"), [
    (lambda root, out, to: seg_test.localize(replace(segmenting(root, out, to), snapshot=out / "cam/final.pth")), "a checkpoint of the stage cam; expected one of the stage seg"),
    (lambda root, out, to: seg_test.localize(replace(segmenting(root, out, to), snapshot=out / "cls/final.pth")), "a checkpoint of 'spol-cls'"),
    (lambda root, out, to: cam_test.make_masks(masking(root, out, out=to, clsnum=200)), "the checkpoint has 3 classes; expected 200"),
    (lambda root, out, to: cam_test.make_masks(masking(root, out, out=root)), "holds no pseudo masks of ours"),
    (lambda root, out, to: cam_train.train(training(cam_train, root, to, clsnum=2)), "--clsnum 2; expected at least the data set's 3 classes"),
    (lambda root, out, to: cam_train.train(training(cam_train, root, to, resize=32)), "--crop 64 of --resize 32"),
    (lambda root, out, to: cls_train.train(training(cls_train, root, to, recipe="imagenet")), "no recipe for cls imagenet"),
    (lambda root, out, to: seg_train.train(training(seg_train, root, to, masks=to / "none")), "no such folder of pseudo masks"),
    (lambda root, out, to: cam_train.train(training(cam_train, root, out / "cam", lr=0.5)), "another training: options differ"),
])  # fmt: skip
def test_refusals(trained, root, tmp_path, make, message):
    with pytest.raises(UserError, match=message):
        make(root, trained, tmp_path / "out")


@pytest.mark.slow
def test_another_networks_tensors_are_refused(trained, tmp_path):
    """The original's seg test loads what fits and says nothing of the rest."""
    state = checkpoints.read_state_dict(trained / "seg/model-2")
    del state["bn3.weight"]
    torch.save({**state, "extra": torch.zeros(1)}, tmp_path / "model-8")
    with pytest.raises(UserError, match=r"1 missing \(bn3.weight\); 1 unexpected \(extra\)"):
        weights.load(tmp_path / "model-8")


@pytest.mark.slow
def test_photographs_and_pictures(trained, root, tmp_path, capsys):
    images = sorted((root / "images").rglob("*.png"))[:2]
    renamed = tmp_path / "other name.png"
    renamed.write_bytes(images[1].read_bytes())
    (tmp_path / "broken.jpg").write_bytes(b"no image")
    options = localize.LocalizeImages(
        (images[0], renamed, tmp_path / "broken.jpg"), trained / "seg/final.pth", tmp_path / "found",
        classifier=str(trained / "cls/final.pth"), device="cpu",
    )  # fmt: skip
    found = localize.localize_images(options)
    assert [json.loads(line) for line in (tmp_path / "found/boxes.jsonl").read_text().splitlines()] == found
    assert [line["class"] in small_cub.CLASSES for line in found] == [True, True]
    for line in found:
        x0, y0, x1, y1 = line["box"]
        assert 0 <= x0 < x1 <= 80
        assert 0 <= y0 < y1 <= 60
    assert Image.open(tmp_path / "found/other name.png.jpg").size == (80, 60)
    assert "left out:" in capsys.readouterr().out
    with pytest.raises(UserError, match="boxes already"):
        localize.localize_images(options)
    drawn = pictures.pictures(pictures.Pictures(Source("cub", root), trained / "cam/final.pth", trained / "seg/final.pth", tmp_path / "drawn", count=2))  # fmt: skip
    assert [Image.open(path).size for path in drawn] == [(4 * 267, 200)] * 2


@pytest.mark.slow
def test_preprocessing_reaches_the_masks(trained, root, tmp_path):
    """Another way of reading images is another run, with other masks."""
    options = masking(root, trained, out=tmp_path / "masks", preprocessing=Preprocessing(normalize_first=False))
    cam_test.make_masks(options)
    paths = sorted((trained / "masks").rglob("*.png"))
    assert any(path.read_bytes() != (tmp_path / "masks" / path.relative_to(trained / "masks")).read_bytes() for path in paths)  # fmt: skip


OPTIONS = {"cam.test": "MakeMasks", "cls.test": "Classify", "seg.test": "Localize"}


@pytest.mark.parametrize("name", COMMANDS)
def test_every_option_of_the_original_exists(name, capsys):
    """Typed, under the original's name; numbers on the command line broke the original."""
    options = getattr(COMMANDS[name], OPTIONS.get(name, "Train"))
    with pytest.raises(SystemExit) as left:
        tyro.cli(options, args=["--help"])
    shown = capsys.readouterr().out
    assert left.value.code == 0
    for option in ORIGINAL_OPTIONS[name.split(".")[1]]:
        assert f"--{option}" in shown, option
    assert name != "seg.test" or "--top1top5" in shown


@pytest.mark.slow
def test_batch_norm_sees_a_layout_that_it_sums_exactly(root, tmp_path, monkeypatch):
    seen = layouts.contiguous_in_training(monkeypatch)
    cls_train.train(training(cls_train, root, tmp_path, arch="mobilenet_v1", epochs=1))
    assert seen
    assert all(seen)
