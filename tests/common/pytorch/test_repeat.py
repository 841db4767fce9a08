"""python -m common.repeat of a training and of a localization."""

import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from common import repeat
from common.pytorch import checkpoints
from common.repeat import Recorded, Repeat, differing_arrays, recorded, redirected
from common.system.errors import UserError
from tests import small_cub

ROOT = Path(__file__).resolve().parents[3]


def command(folder, module, *arguments):
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    done = subprocess.run([sys.executable, "-m", module, *map(str, arguments)], cwd=folder, env=environment,
                          capture_output=True, text=True)  # fmt: skip
    return done.returncode, done.stdout, done.stderr


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    """A folder in which a training was run to `cam`, and a localization to `found`, by relative paths."""
    folder = tmp_path_factory.mktemp("repeat")
    small_cub.make(folder / "CUB")
    status, _, said = command(
        folder, "common.pytorch.cam", "train", "--data.name", "cub", "--data.root", "CUB", "--data.split", "train", "--out", "cam",
        "--no-pretrained", "--epochs", "1", "--augmentation.resize", "72", "--augmentation.crop", "64",
    )  # fmt: skip
    assert status == 0, said
    status, _, said = command(
        folder, "common.pytorch.cam", "localize", "--checkpoint", "cam/final.pth", "--data.name", "cub", "--data.root", "CUB",
        "--out=found", "--crops", "1", "--overwrite",
    )  # fmt: skip
    assert status == 0, said
    return folder


@pytest.mark.slow
def test_a_training_and_its_weights(made, tmp_path):
    status, said, error = command(tmp_path, "common.repeat", made / "cam", "--out", "again")
    assert status == 0, error
    assert said.splitlines()[-1] == f"again is {made / 'cam'} again, bit for bit"
    content = checkpoints.read(made / "cam/final.pth")
    name = next(iter(content["model"]))
    content["model"][name] = content["model"][name] + 0.5
    (tmp_path / "other").mkdir()
    checkpoints.write(tmp_path / "other/final.pth", {"config": content["config"], "model": content["model"]})
    (line,) = repeat.compare_weights(tmp_path / "other", tmp_path / "again")
    assert line.startswith("1 of ")
    assert line.endswith(f"tensors differ, by up to 0.5: {name}")


@pytest.mark.slow
def test_predictions_and_what_differs(made, tmp_path):
    assert repeat.repeat(Repeat(made / "found", tmp_path / "again")) == []
    picture = next((made / "found/crop/maps").rglob("*.npy"))
    before = picture.read_bytes()
    changed = np.load(picture)
    changed[0, 0] = 1 - changed[0, 0]
    np.save(picture, changed)
    lines = repeat.compare_predictions(made / "found/crop", tmp_path / "again/crop")
    picture.write_bytes(before)
    assert len(lines) == 1
    assert "crop: 1 of 6 maps differ, by up to" in lines[0]
    text = (tmp_path / "again/squash/predictions.jsonl").read_text()
    (tmp_path / "again/squash/predictions.jsonl").write_text(text.replace('"threshold": 0.2', '"threshold": 0.3', 1))
    (line,) = repeat.compare_predictions(made / "found/squash", tmp_path / "again/squash")
    assert line.startswith("squash: 1 of 6 images have other boxes or classes: ")


@pytest.mark.slow
def test_other_data_are_refused(made, tmp_path):
    boxes = made / "CUB/bounding_boxes.txt"
    before = boxes.read_text()
    boxes.write_text(before.replace("30.0", "29.0"))
    try:
        with pytest.raises(UserError, match="the data of .*found were others; expected 6 images with the recorded"):
            repeat.repeat(Repeat(made / "found", tmp_path / "again"))
    finally:
        boxes.write_text(before)


@pytest.mark.slow
def test_a_checkpoint_that_is_gone_is_named(made, tmp_path):
    (made / "cam/final.pth").rename(made / "cam/away.pth")
    try:
        status, _, said = command(tmp_path, "common.repeat", made / "found/crop", "--out", "again")
    finally:
        (made / "cam/away.pth").rename(made / "cam/final.pth")
    assert status == 2
    assert "error: cam/final.pth: no such checkpoint" in said
    assert "Traceback" not in said


@pytest.mark.slow
@pytest.mark.parametrize(("changes", "message"), [
    ({"module": "os"}, "the record's command is 'os'; expected one of common.pytorch.cam"),
    ({"module": "/bin/sh"}, "the record's command is '/bin/sh'"),
    ({"module": ["bas.train"]}, "the record's command is"),
    ({"arguments": "--out x"}, "names no command"),
    ({"arguments": [1]}, "names no command"),
    ({"processes": 4}, "run by several processes"),
    ({"folder": "/nowhere/at/all"}, "which is not there"),
])  # fmt: skip
def test_only_commands_of_this_project_are_run(made, tmp_path, changes, message):
    for name in ("manifest.json", "predictions.jsonl"):
        (tmp_path / name).write_bytes((made / "found/crop" / name).read_bytes())
    manifest = json.loads((tmp_path / "manifest.json").read_text())
    manifest["processes"][-1]["command"].update(changes)
    (tmp_path / "manifest.json").write_text(json.dumps(manifest))
    with pytest.raises(UserError, match=message):
        recorded(tmp_path)


def test_folders_without_a_record(tmp_path):
    with pytest.raises(UserError, match=r"no training and no predictions; expected training.json or manifest.json"):
        recorded(tmp_path)


def test_results_go_to_the_new_folder(tmp_path):
    given = (
        "--load",
        "--out",
        "--out=old",
        "--overwrite",
        "--maps",
        "--classify_save_path",
        "a b",
        "--bounding-box-save-path=x/",
    )
    made = redirected(Recorded("grcam.generate_predicted_bbox", given[2:], tmp_path, {}), Path("/new"))
    assert made == ["--out=/new/predictions", "--maps", "--classify_save_path", "/new/class.txt",
                    "--bounding-box-save-path=/new/boxes/"]  # fmt: skip
    assert redirected(Recorded("bas.train", ("--savepath", "old"), tmp_path, {}), Path("/new")) == [
        "--savepath",
        "/new",
    ]
    with pytest.raises(UserError, match="no option of bas.train says where its results went"):
        redirected(Recorded("bas.train", ("--epochs", "1"), tmp_path, {}), Path("/new"))


def test_weights_are_compared_by_name_and_value():
    one = {"a": np.zeros(3, np.float32), "b": np.array([np.nan])}
    assert differing_arrays(one, {"a": np.zeros(3, np.float32), "b": np.array([np.nan])}) == []
    assert differing_arrays(one, {"a": np.zeros(3), "c": one["b"]}) == ["2 names stand in one file only: b, c"]
    assert differing_arrays(one, {"a": np.zeros(2), "b": one["b"]}) == ["1 of 2 tensors differ, by up to inf: a"]
