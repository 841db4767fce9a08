import shutil
import subprocess
import sys

import numpy as np
import pytest

from common.adopt import Adopt, adopt
from common.datasets import DataSource
from common.evaluate import Evaluate
from common.measuring.metrics import LocalizationEvaluator
from common.measuring.protocols import WSOLEVAL_V1
from common.runs.evaluation import evaluate
from common.runs.reader import Predictions
from common.system.errors import UserError
from tests import runs, small_cub


@pytest.fixture
def source(tmp_path):
    return DataSource("cub", small_cub.make(tmp_path / "CUB"), "test")


@pytest.fixture
def maps(tmp_path, source):
    """A folder of maps alone, in double precision, as another program may leave it."""
    run = runs.write(tmp_path / "run", source, misses=2)
    folder = tmp_path / "scoremaps"
    shutil.move(run / "maps", folder)
    for path in folder.rglob("*.npy"):
        np.save(path, np.load(path).astype(np.float64) / 3)
    return folder


def test_adopted_maps_are_scored_as_they_are(tmp_path, source, maps):
    adopt(Adopt(maps, source, tmp_path / "adopted", "theirs"))
    (evaluation,), _ = evaluate(Evaluate((tmp_path / "adopted",), protocols=("wsoleval-v1",)))
    straight = LocalizationEvaluator(WSOLEVAL_V1)
    for sample, entry in zip(source.load(), evaluation.predictions.entries, strict=True):
        straight.accumulate(np.load(maps / f"{sample.image_id}.npy"), entry.frame, sample.boxes, sample.label)
    assert evaluation.rows[0].gt_known == straight.compute().max_box_acc
    assert evaluation.rows[0].method == "theirs unknown"
    assert evaluation.rows[0].top1 is None


def test_again_and_interrupted(tmp_path, source, maps):
    options = Adopt(maps, source, tmp_path / "adopted", "theirs")
    path = sorted(maps.rglob("*.npy"))[-1]
    content = path.read_bytes()
    path.write_bytes(content[:100])
    with pytest.raises(UserError, match="not a readable .npy file"):
        adopt(options)
    path.write_bytes(content)
    adopt(options)
    adopt(options)
    assert len(Predictions.open(tmp_path / "adopted").entries) == 6


def test_refusals(tmp_path, source, maps):
    np.save(next(maps.rglob("*.npy")), np.zeros((9, 9)))
    with pytest.raises(UserError, match="the map is 9x9; expected 224x224"):
        adopt(Adopt(maps, source, tmp_path / "a", "theirs"))
    with pytest.raises(UserError, match="no such folder"):
        adopt(Adopt(tmp_path / "nothing", source, tmp_path / "b", "theirs"))
    own = runs.write(tmp_path / "own", source)
    with pytest.raises(UserError, match="maps of its own"):
        adopt(Adopt(maps, source, own, "theirs", overwrite=True))


def test_the_command(tmp_path, source, maps):
    done = subprocess.run(
        [sys.executable, "-m", "common.adopt", maps, "--method", "theirs", "--out", tmp_path / "adopted",
         "--data.name", "cub", "--data.root", source.root], capture_output=True, text=True,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert (tmp_path / "adopted/maps").resolve() == maps.resolve()
