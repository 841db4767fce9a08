"""grcam/run_test.sh, as the README calls it, and step 1's own command."""

import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from common.datasets import DataSource, Sample
from common.runs.reader import Predictions
from common.system.errors import UserError
from grcam import generate_predicted_bbox
from grcam.generate_predicted_bbox import Generate, generate, in_top, localization_map
from grcam.handover import read_boxes, read_classes
from grcam.views import Seen, Views
from tests import small_cub
from tests.grcam import filled

ROOT = Path(__file__).resolve().parents[2]


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    folder = tmp_path_factory.mktemp("grcam")
    return filled.checkpoint(folder, "mobilenetv1", num_classes=4), small_cub.make(folder / "CUB", test=3)


def options(made, folder, **changes):
    checkpoint, root = made
    return Generate(**{
        "data": DataSource("cub", root), "load": str(checkpoint), "mode": "mobilenetv1", "out": folder / "predictions",
        "bounding_box_save_path": f"{folder}/boxes/", "classify_save_path": folder / "class.txt", "crops": 1, **changes,
    })  # fmt: skip


def files(out):
    return {path.name: path.read_bytes() for path in [out / "class.txt", *(out / "boxes").iterdir()]}


@pytest.mark.slow
def test_run_test_sh(made, tmp_path):
    checkpoint, root = made
    environment = {**os.environ, "WSOL_PYTHON": sys.executable, "STEP3": "--pseudo intended"}
    environment["WSOL_WEIGHTS"] = os.environ.get("WSOL_WEIGHTS", str(ROOT / "weights"))
    command = [
        ROOT / "grcam/run_test.sh",
        "mobilenetv1",
        checkpoint,
        root,
        "out",
        "--data.split",
        "test",
        "--crops",
        "1",
    ]
    done = subprocess.run(command, cwd=tmp_path, env=environment, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    for method in ("grcam mobilenet_v1", "cam mobilenet_v1", "grcam boxes mobilenet_v1", "grcam pseudo mobilenet_v1",
                   "grcam revised (released) mobilenet_v1"):  # fmt: skip
        assert method in done.stdout
    for name in ("squash", "boxes", "revised", "pseudo"):
        manifest = json.loads((tmp_path / "out/predictions" / name / "manifest.json").read_text())
        assert manifest["classifier"] == {"name": "mobilenetv1", "crops": 1}
    assert len(read_classes(tmp_path / "out/class.txt").rows) == 9
    assert json.loads((tmp_path / "out/errors.json").read_text())["images"] == 9


@pytest.mark.slow
def test_what_a_later_step_needs_is_looked_for_before_the_first_one_starts(made, tmp_path):
    checkpoint, root = made
    environment = {**os.environ, "WSOL_PYTHON": sys.executable}
    environment["WSOL_WEIGHTS"] = os.environ.get("WSOL_WEIGHTS", str(ROOT / "weights"))
    command = [ROOT / "grcam/run_test.sh", "mobilenetv1", checkpoint, root, "out"]
    for step, message in (({"STEP4": "--validation nowhere"}, "class.txt: no such file"),
                          ({"STEP4": "--revise twice"}, "invalid choice 'twice'"),
                          ({"STEP3": "--pretrained-path nothing.pth"}, "no such checkpoint")):  # fmt: skip
        done = subprocess.run(command, cwd=tmp_path, env={**environment, **step}, capture_output=True, text=True)
        assert done.returncode == 2
        assert message in done.stderr
        assert not (tmp_path / "out").exists()


def test_too_few_arguments(tmp_path):
    for script in ("run_test.sh", "run_train.sh"):
        done = subprocess.run([ROOT / "grcam" / script], cwd=tmp_path, capture_output=True, text=True)
        assert (done.returncode, done.stderr.count("\n")) == (2, 1)
        assert done.stderr.startswith(f"error: usage: grcam/{script}")


@pytest.mark.slow
def test_a_stopped_run_gives_the_same_files(made, tmp_path, monkeypatch):
    """Stopped within the second batch; quirk Q14: nothing is doubled, a second run changes nothing."""
    whole = options(made, tmp_path / "whole", cam=True, frames=("squash", "crop"), batch_size=4)
    assert [path.name for path in generate(whole)] == ["squash", "crop", "cam-squash", "cam-crop"]
    real, count = generate_predicted_bbox.boxes_of, []

    def stop_at_the_sixth(squashed):
        count.append(1)
        if len(count) == 6:
            raise KeyboardInterrupt
        return real(squashed)

    stopped = options(made, tmp_path / "stopped", cam=True, frames=("squash", "crop"), batch_size=4)
    monkeypatch.setattr(generate_predicted_bbox, "boxes_of", stop_at_the_sixth)
    with pytest.raises(KeyboardInterrupt):
        generate(stopped)
    assert not (tmp_path / "stopped/class.txt").exists()
    monkeypatch.setattr(generate_predicted_bbox, "boxes_of", real)
    generate(stopped)
    assert files(tmp_path / "stopped") == files(tmp_path / "whole")
    lines = [(tmp_path / name / "predictions/cam-crop/predictions.jsonl").read_text() for name in ("whole", "stopped")]
    assert lines[0] == lines[1]
    (tmp_path / "stopped/boxes/0.9.txt").unlink()
    generate(stopped)
    assert files(tmp_path / "stopped") == files(tmp_path / "whole")


@pytest.mark.slow
def test_batches_of_any_size_give_one_result(made, tmp_path):
    """Quirk Q13."""
    for size in (1, 9):
        generate(options(made, tmp_path / str(size), batch_size=size, maps=False))
    assert files(tmp_path / "1") == files(tmp_path / "9")


@pytest.mark.slow
def test_the_class_files_columns_are_the_predictions(made, tmp_path):
    (directory,) = generate(options(made, tmp_path))
    table = read_classes(tmp_path / "class.txt")
    boxes = read_boxes(tmp_path / "boxes/0.9.txt")  # quirk Q15
    for entry in Predictions.open(directory).entries:
        assert table.first(entry.image_id) == (int(entry.top5[0] == entry.label), 1, entry.top5[0])
        found = [0, 0, 0, 0] if entry.box is None else entry.box[[0, 2, 1, 3]].tolist()
        assert list(boxes.first(entry.image_id)) == found


def test_a_row_of_unknown_classes_is_neither_right_nor_wrong():
    item, none = Views(Sample("a.jpg", Path("a.jpg"), 0)), np.empty((0, 7, 7))
    seen = Seen(np.array([0.25, 0.75]), none, none)
    for labelled, expected in ((True, (False, True, 1)), (False, (None, None, 1))):
        row = generate_predicted_bbox._localized(item, seen, np.zeros((224, 224), np.float32), labelled)
        assert (row.top1, row.top5, row.predicted) == expected


@pytest.mark.slow
def test_options_change_what_they_say(made, tmp_path):
    maps = {}
    for name, changes in {"released": {}, "true": {"gradient": "true"}, "one": {"label_factor": 1.0},
                          "accurate": {"jpeg": "accurate"}}.items():  # fmt: skip
        (directory,) = generate(options(made, tmp_path / name, **changes))
        predictions = Predictions.open(directory)
        maps[name] = predictions.map(predictions.entries[0])
    assert not np.array_equal(maps["released"], maps["true"])
    assert not np.array_equal(maps["released"], maps["one"])
    np.testing.assert_array_equal(maps["released"], maps["accurate"])  # PNG files


@pytest.mark.slow
@pytest.mark.parametrize(("changes", "message"), [
    ({"mode": "vgg"}, "0 of the classifiers that vgg may have are in the file"),
    ({"load": "nothing/model-1"}, "no such checkpoint"),
    ({"frames": ("crop",)}, "--frames crop; expected squash, or both"),
    ({"batch_size": 0}, "--batch-size 0 --workers 2; expected 1 or more of each"),
])  # fmt: skip
def test_refusals(made, tmp_path, changes, message):
    """Quirk Q12: the release prints a line and leaves with status 0."""
    with pytest.raises(UserError, match=message):
        generate(options(made, tmp_path, **changes))


@pytest.mark.slow
def test_other_results_are_kept(made, tmp_path):
    generate(options(made, tmp_path))
    generate(options(made, tmp_path, gradient="tf"))  # the same by its older name
    with pytest.raises(UserError, match="the folder holds another run: its options"):
        generate(options(made, tmp_path, gradient="true"))
    (tmp_path / "class.txt").write_text("other.jpg,1,1,0\n")
    with pytest.raises(UserError, match="the file says something else already"):
        generate(options(made, tmp_path))
    generate(options(made, tmp_path, gradient="true", overwrite=True))


@pytest.mark.slow
def test_options_without_effect_say_so(made, tmp_path, capsys):
    generate(options(made, tmp_path, depth=18, data_format="NCHW"))
    assert "--depth, --data-format and --weight-decay-norm have no effect" in capsys.readouterr().out


@pytest.mark.slow
def test_too_many_classes(made, tmp_path):
    checkpoint = filled.checkpoint(tmp_path, "mobilenetv1", num_classes=2)
    with pytest.raises(UserError, match="the checkpoint has 2 classes; expected at least 3"):
        generate(options((checkpoint, made[1]), tmp_path))


def test_in_top_counts_ties_as_in():
    probabilities = np.array([0.3, 0.3, 0.3, 0.1])
    assert [in_top(probabilities, label, 1) for label in range(4)] == [True, True, True, False]
    assert not in_top(probabilities, 3, 3)
    assert not in_top(np.array([np.nan, 0.5]), 1, 2)


def test_constant_maps_become_zero():
    assert not localization_map(np.full((14, 14), 3.0, np.float32)).any()
    enlarged = localization_map(np.arange(196, dtype=np.float32).reshape(14, 14))
    assert (enlarged.shape, enlarged.min(), enlarged.max()) == ((224, 224), 0, 1)
