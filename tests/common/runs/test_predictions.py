import json
import os
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from common.datasets import DataSource
from common.measuring.geometry import Frame
from common.runs.manifest import Manifest
from common.runs.reader import Places, Predictions, read_map
from common.runs.record import Prediction, map_path
from common.runs.writer import PredictionsWriter, batches_left
from common.system.errors import UserError
from common.system.wording import apart
from tests import runs

FRAME = Frame.squash((80, 60))


def entry(image_id="a/1.jpg", **changes):
    plain = Prediction(image_id, 1, (80, 60), FRAME, (1, 0), (0.75, 0.25), np.array([1.0, 2, 3, 4]), 0.2)
    return replace(plain, **changes)


def test_written_and_read_again(tmp_path):
    picture = np.linspace(0, 1, 224 * 224, dtype=np.float32).reshape(224, 224)
    writer = PredictionsWriter(tmp_path / "run", {"method": "cam", "data": {"name": "cub"}})
    writer.write(entry(), picture)
    writer.write(entry("b.jpg", box=None, top5=None, top5_scores=None), np.zeros((224, 224), np.float32))
    writer.skip("c.jpg", "the file is empty")
    writer.finish()
    found = Predictions.open(tmp_path / "run")
    assert [item.image_id for item in found.entries] == ["a/1.jpg", "b.jpg"]
    assert (found.entries[0].top5, found.entries[0].box.tolist()) == ((1, 0), [1, 2, 3, 4])
    assert (found.entries[1].top5, found.entries[1].box) == (None, None)
    assert found.entries[0].frame == FRAME
    assert found.skipped == {"c.jpg": "the file is empty"}
    assert found.manifest["counts"] == {"scored": 2, "skipped": {"the file is empty": 1}}
    assert list(found.manifest)[-1] == "complete"
    assert found.manifest["processes"][0]["versions"]["numpy"] == np.__version__
    np.testing.assert_array_equal(found.map(found.entries[0]), picture)


@pytest.mark.parametrize(("given", "stored"), [(np.float16, np.float32), (np.float64, np.float64)])
def test_a_stored_map_is_the_one_that_the_box_is_of(tmp_path, given, stored):
    """In single precision 0.2 of double precision could fall to the other side of a threshold."""
    picture = np.full((224, 224), 0.2, given)
    writer = PredictionsWriter(tmp_path / "run", {"method": "cam", "data": {"name": "cub"}})
    writer.write(entry(), picture)
    writer.finish()
    predictions = Predictions.open(tmp_path / "run")
    found = predictions.map(predictions.entries[0])
    assert found.dtype == stored
    np.testing.assert_array_equal(found, picture)


def test_maps_are_named_as_wsolevaluation_names_them(source, tmp_path):
    run = runs.write(tmp_path / "run", source)
    found = np.load(run / "maps" / "001.Red_Bird" / "bird_2.png.npy")
    assert (found.shape, found.dtype) == ((224, 224), np.float32)


def test_a_relative_path_that_means_another_folder_here_is_said(tmp_path, monkeypatch, capsys):
    """Two projects with a folder `data`; without boxes their images of one name have one fingerprint."""
    for project in ("one", "two"):
        path = tmp_path / project / "data/a/1.png"
        path.parent.mkdir(parents=True)
        Image.new("RGB", (80, 60)).save(path)
    source = DataSource("folder", Path("data"), "all")
    monkeypatch.chdir(tmp_path / "one")
    run = Predictions.open(runs.write(tmp_path / "run", source, boxes={"a/1.png": np.array([[1.0, 1, 9, 9]])}))
    run.source_in(Places())
    assert capsys.readouterr().err == ""
    monkeypatch.chdir(tmp_path / "two")
    run.source_in(Places())
    said = f"its data set lies in data, here {tmp_path / 'two/data'}; {tmp_path / 'one/data'}, where it lay"
    assert said in capsys.readouterr().err
    run.source_in(Places(tmp_path / "two/data"))
    (tmp_path / "one").rename(tmp_path / "gone")
    run.source_in(Places())
    assert capsys.readouterr().err == ""


def test_a_finished_run_of_which_lines_are_gone_is_refused(tmp_path):
    """As where a copy was cut off at the end of a line; what is left would be scored as the whole."""
    writer = PredictionsWriter(tmp_path / "run", {"method": "cam"})
    writer.write(entry())
    writer.write(entry("b.jpg"))
    writer.skip("c.jpg", "the file is empty")
    writer.finish()
    lines = (tmp_path / "run/predictions.jsonl").read_text().splitlines(keepends=True)
    (tmp_path / "run/predictions.jsonl").write_text("".join(lines[:2]))
    with pytest.raises(
        UserError, match="predictions.jsonl: 2 images; expected 3, as manifest.json says. Copy the folder"
    ):
        Predictions.open(tmp_path / "run")


def test_an_unfinished_run_is_refused_unless_asked_for(tmp_path):
    writer = PredictionsWriter(tmp_path / "run", {"method": "cam"})
    writer.write(entry())
    writer.close()
    with pytest.raises(UserError, match="has not finished"):
        Predictions.open(tmp_path / "run")
    assert len(Predictions.open(tmp_path / "run", incomplete=True).entries) == 1


@pytest.mark.parametrize("torn", ['{"image_id": "b.jp', '{"image_id": "b.jpg", "label": 1}', "\udc80"])
def test_a_killed_run_goes_on_after_its_last_whole_line(tmp_path, torn):
    run = tmp_path / "run"
    writer = PredictionsWriter(run, {"method": "cam"})
    writer.write(entry("a.jpg"))
    writer.skip("s.jpg", "no such image")
    writer.close()
    with open(run / "predictions.jsonl", "a", encoding="utf-8", errors="surrogateescape") as file:
        file.write(torn)  # no newline: killed while writing
    writer = PredictionsWriter(run, {"method": "cam"})
    assert writer.done == {"a.jpg", "s.jpg"}
    writer.write(entry("b.jpg"))
    writer.finish()
    found = Predictions.open(run)
    assert [item.image_id for item in found.entries] == ["a.jpg", "b.jpg"]
    assert len(found.manifest["processes"]) == 2
    assert found.manifest["counts"]["skipped"] == {"no such image": 1}


def test_a_finished_run_is_left_alone(tmp_path):
    writer = PredictionsWriter(tmp_path / "run", {"method": "cam"})
    writer.write(entry())
    writer.finish()
    before = {path: path.stat().st_mtime_ns for path in (tmp_path / "run").iterdir()}
    assert PredictionsWriter(tmp_path / "run", {"method": "cam"}).complete
    assert {path: path.stat().st_mtime_ns for path in (tmp_path / "run").iterdir()} == before


def test_another_run_is_not_overwritten_unless_asked_to(tmp_path):
    writer = PredictionsWriter(tmp_path / "run", {"method": "cam", "options": {"threshold": 0.2}})
    writer.write(entry())
    writer.finish()
    with pytest.raises(UserError, match=r'its options is {"threshold": 0.2}, not {"threshold": 0.3}.*--overwrite'):
        PredictionsWriter(tmp_path / "run", {"method": "cam", "options": {"threshold": 0.3}})
    writer = PredictionsWriter(tmp_path / "run", {"method": "cam", "options": {"threshold": 0.3}}, overwrite=True)
    assert writer.done == set()
    (tmp_path / "other").mkdir()
    (tmp_path / "other" / "thesis.tex").touch()
    with pytest.raises(UserError, match="not empty and holds no predictions"):
        PredictionsWriter(tmp_path / "other", {"method": "cam"})


def test_what_a_writer_refuses(tmp_path):
    writer = PredictionsWriter(tmp_path / "run", {"method": "cam"})
    writer.write(entry())
    with pytest.raises(ValueError, match="written already"):
        writer.write(entry())
    with pytest.raises(ValueError, match="NaN"):
        writer.write(entry("b.jpg"), np.full((224, 224), np.nan, np.float32))
    with pytest.raises(ValueError, match="the map is"):
        writer.write(entry("b.jpg"), np.zeros((14, 14), np.float32))
    with pytest.raises(UserError, match="not usable"):
        writer.write(entry("../b.jpg"), np.zeros((224, 224), np.float32))
    assert not (tmp_path / "b.jpg.npy").exists()


@pytest.mark.parametrize(("change", "message"), [
    ({"label": -1}, "label is -1"), ({"label": True}, "label is true"), ({"size": [80]}, "size is"),
    ({"size": [81, 60]}, "original size"), ({"top5": []}, "top5 is"), ({"top5": [1.5]}, "top5 is"),
    ({"top5_scores": ["a"]}, "top5_scores is"), ({"box": [1, 2, 3]}, "box is"), ({"box": [1, 2, 3, None]}, "box is"),
    ({"threshold": None}, "threshold is null"), ({"frame": {}}, "frame field 'original'"), ({"image_id": 5}, "no image_id"),
    ({"image_id": "a/1.jpg"}, "a/1.jpg stands here twice"),
])  # fmt: skip
def test_faulty_lines_are_named(tmp_path, change, message):
    writer = PredictionsWriter(tmp_path / "run", {"method": "cam"})
    writer.write(entry())
    writer.finish()
    with open(tmp_path / "run" / "predictions.jsonl", "a") as file:
        file.write(json.dumps({**entry("b.jpg").to_json(), **change}) + "\n")
    with pytest.raises(UserError, match=message) as caught:
        Predictions.open(tmp_path / "run")
    assert "predictions.jsonl:2: " in str(caught.value)


@pytest.mark.parametrize("text", ["{", "[]", '{"format": 99}', "nonsense"])
def test_a_manifest_that_is_none(tmp_path, text):
    (tmp_path / "manifest.json").write_text(text)
    with pytest.raises(UserError, match="manifest"):
        Predictions.open(tmp_path)


def test_not_a_predictions_directory(tmp_path):
    with pytest.raises(UserError, match="name a folder that a localize command wrote|Name a folder"):
        Predictions.open(tmp_path / "nowhere")


def write_npy(path, array, **options):
    path.parent.mkdir(parents=True, exist_ok=True)
    np.save(path, array, **options)


class Bomb:
    def __reduce__(self):
        return os.system, ("touch /tmp/this-must-not-exist",)


@pytest.mark.parametrize(("array", "message"), [
    (np.full((224, 224), np.nan), "NaN"), (np.full((224, 224), 1.01), "leaves"), (np.zeros((14, 14)), "the map is 14x14; expected 224x224"),
    (np.zeros((224, 224), np.uint8), "floating-point"), (np.array([Bomb()]), "not a readable .npy file"), (np.zeros((224, 224, 3)), "the map is 3x224x224"),
])  # fmt: skip
def test_maps_that_are_refused(tmp_path, array, message):
    write_npy(tmp_path / "a.npy", array, allow_pickle=True)
    with pytest.raises(UserError, match=message):
        read_map(tmp_path / "a.npy", FRAME)
    assert not os.path.exists("/tmp/this-must-not-exist")


@pytest.mark.parametrize("content", [
    b"", b"nonsense", b"\x93NUMPY\x01\x00v\x00" + b"{'descr': '<f8', 'fortran_order': False, 'shape': (1000000, 1000000), }".ljust(117) + b"\n",
    b"\x93NUMPY\x01\x00v\x00" + b"__import__('os').system('touch /tmp/this-must-not-exist')".ljust(117) + b"\n",
])  # fmt: skip
def test_files_that_are_no_maps(tmp_path, content):
    (tmp_path / "a.npy").write_bytes(content)
    with pytest.raises(UserError, match=r"not a readable \.npy file"):
        read_map(tmp_path / "a.npy", FRAME)
    assert not os.path.exists("/tmp/this-must-not-exist")


def test_half_a_map_is_refused(tmp_path):
    write_npy(tmp_path / "a.npy", np.zeros((224, 224)))
    content = (tmp_path / "a.npy").read_bytes()
    (tmp_path / "a.npy").write_bytes(content[: len(content) // 2])
    with pytest.raises(UserError, match=r"not a readable \.npy file"):
        read_map(tmp_path / "a.npy", FRAME)


def test_map_paths_stay_inside(tmp_path):
    assert map_path(tmp_path, "a/b.jpg") == tmp_path / "maps/a/b.jpg.npy"
    with pytest.raises(UserError):
        map_path(tmp_path, "../../etc/passwd")


@pytest.mark.slow
def test_killed_at_any_line(source, tmp_path):
    """A process that is killed with SIGKILL while it writes; its successor finishes with the same lines."""
    script = tmp_path / "write.py"
    script.write_text(
        "import sys, os\nfrom pathlib import Path\nfrom common.datasets import DataSource\nfrom tests import runs\n"
        "import common.runs.writer as p\n"
        "left = int(sys.argv[3])\nappend = p.PredictionsWriter._append\n"
        "def dying(self, record):\n    global left\n    append(self, record)\n    left -= 1\n"
        "    if left == 0:\n        self._file.write('{\"image'); self._file.flush(); os.kill(os.getpid(), 9)\n"
        "p.PredictionsWriter._append = dying\n"
        "write = p.PredictionsWriter.write\n"
        "p.PredictionsWriter.write = lambda self, e, m: e.image_id in self.done or write(self, e, m)\n"
        "runs.write(Path(sys.argv[1]), DataSource('cub', Path(sys.argv[2]), 'test'))\n"
    )
    whole = runs.write(tmp_path / "whole", source)
    for lines in (1, 3, 5):
        run = tmp_path / f"killed-{lines}"
        command = [sys.executable, str(script), str(run), str(source.root)]
        environment = {**os.environ, "PYTHONPATH": os.getcwd()}
        assert subprocess.run([*command, str(lines)], env=environment).returncode == -9
        assert subprocess.run([*command, "-1"], env=environment).returncode == 0
        assert (run / "predictions.jsonl").read_text() == (whole / "predictions.jsonl").read_text()
        assert Predictions.open(run).manifest["counts"] == Predictions.open(whole).manifest["counts"]


def test_killed_before_the_first_manifest_was_whole(tmp_path):
    (tmp_path / ".manifest.json.part").write_text("{")
    assert not PredictionsWriter(tmp_path, {"method": "cam"}).complete


def test_a_full_disk_is_named(tmp_path, monkeypatch):
    """/dev/full takes what is written and has no room for it."""
    writer = PredictionsWriter(tmp_path, {"method": "cam"})

    def save(_file, array, **_):
        with open("/dev/full", "wb", buffering=0) as full:
            full.write(array.tobytes())

    monkeypatch.setattr(np, "save", save)
    with pytest.raises(
        UserError, match=r"maps/a/1.jpg.npy: can't be written \(.*\). Mend that, then give the same command"
    ):
        writer.write(entry(), np.zeros((224, 224), np.float32))
    assert writer.done == set()


def test_overwriting_leaves_nothing_of_the_other_run(tmp_path, source):
    run = runs.write(tmp_path / "run", source)
    writer = PredictionsWriter(run, {"method": "other"}, overwrite=True)
    assert not writer.complete
    writer.write(entry())
    writer.finish()
    found = Predictions.open(run)
    assert [item.image_id for item in found.entries] == ["a/1.jpg"]
    assert not found.has_maps


def test_batches_are_those_of_an_uninterrupted_run():
    assert batches_left("abcdefgh", "cdh".__contains__, 3) == list("abcdefgh")
    assert batches_left("abcdefgh", "h".__contains__, 3) == list("gh")
    assert batches_left("abcdefgh", "".__contains__, 3) == []


def test_what_tells_two_runs_apart_alone_is_shown():
    one, other = {"a": 1, "b": [1], "long": "x" * 200}, {"a": 1, "b": [2], "c": None, "long": "x" * 200}
    assert apart(one, other) == '{"b": [1]}, not {"b": [2]}'
    assert apart({"a": 1}, "text") == '{"a": 1}, not "text"'


def test_a_manifest_of_other_code_says_less(tmp_path):
    """What it doesn't say is empty, and never another run's."""
    bare = Manifest.checked({"format": 1}, tmp_path)
    assert (bare.method, bare.frame, bare.complete, bare.lines, bare.processes) == ("", "", False, None, [])
    assert (bare.fingerprint, bare.sha256, bare.shard, bare.training, bare.classifier) == (None, None, None, {}, {})
    told = Manifest.checked({
        "format": 1, "classifier": None, "checkpoint": {"sha256": "ab", "training": {"seed": 3}}, "complete": True,
        "data": {"split": "val", "fingerprint": "cd", "shard": "1/2", "training_steps": [5, None]},
        "counts": {"scored": 4, "skipped": {"no such image": 2}},
    }, tmp_path)  # fmt: skip
    assert (told.split, told.fingerprint, told.shard, told.sha256) == ("val", "cd", "1/2", "ab")
    assert (told.training["seed"], told.training_steps, told.lines, told.complete) == (3, [5, None], 6, True)
    with pytest.raises(UserError, match="the manifest does not say what was predicted on"):
        bare.source(tmp_path)
    with pytest.raises(UserError, match='checkpoint is "ab"; expected dict'):
        Manifest.checked({"format": 1, "checkpoint": "ab"}, tmp_path)
    with pytest.raises(UserError, match='not a manifest of predictions; expected "format": 1'):
        Manifest.checked({"format": 2}, tmp_path)
