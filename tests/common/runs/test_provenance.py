import json
import subprocess

import pytest

from common.runs.provenance import TRAINING, known_of, provenance, training_of
from common.tensorflow_files import converted
from common.tensorflow_files.converted import Converted


def test_provenance_names_the_commit():
    here = subprocess.run(["git", "rev-parse", "HEAD"], capture_output=True, text=True, check=False).stdout.strip()
    commit = provenance()["git_commit"]
    assert commit is None if not here else commit.removesuffix("-dirty") == here


@pytest.mark.parametrize(("launcher", "count"), [(None, 1), ("WORLD_SIZE", 4), ("HOROVOD_SIZE", 2)])
def test_the_number_of_processes_is_the_launchers(monkeypatch, launcher, count):
    """`common.repeat` refuses what several processes made."""
    for name in ("WORLD_SIZE", "HOROVOD_SIZE"):
        monkeypatch.delenv(name, raising=False)
    if launcher is not None:
        monkeypatch.setenv(launcher, str(count))
    assert provenance()["command"]["processes"] == count


def test_what_lies_beside_a_tensorflow_checkpoint(tmp_path):
    """Classes and seed: a converted network's own record before its folder's; of a folder, a file and a prefix alike."""
    training = {"method": "dgl", "architecture": "mobilenetv1", "class_names": ["b", "a"], "trained_on": {"name": "cub"},
                "options": {"seed": 3, "base_lr": 0.1}}  # fmt: skip
    run = tmp_path / "run"
    run.mkdir()
    (run / TRAINING).write_text(json.dumps(training))
    for checkpoint in (run, run / "final.npz", str(run / "model-100")):
        known = known_of(checkpoint)
        assert (known.class_names, known.training) == (("b", "a"), training_of(training))
        assert known.input_size == 224
    mine = Converted(("c",), 96, {"seed": 5, "recipe": "x"})
    converted.write(run / "mine.npz", mine)
    assert known_of(run / "mine.npz") == mine
    assert known_of(tmp_path / "other.npz") == known_of("imagenet:mobilenetv1") == Converted()
