"""What a training leaves and refuses, and that one which was stopped goes on to the same end."""

import importlib.util
import json
import os
import re
import shutil
import signal
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import tensorflow.compat.v1 as tf

from common.datasets import DataSource
from common.system.errors import UserError
from dgl_tf import callbacks, records, train, weights
from tests import small_cub
from tests.dgl_tf.filled import relative


def options(root: Path, out: Path, **changed) -> train.Train:
    made = train.Train(
        data=DataSource(name="cub", root=root, split="train"), out=out, arch="mobilenetv1", load="auto", epochs=2,
        batch_size=4, final_size=32, steps_per_epoch=2, workers=0, threads=1, base_lr=1e-3,
    )  # fmt: skip
    return replace(made, **changed)


def trained(options: train.Train) -> dict[str, np.ndarray]:
    with np.load(train.train(options)) as file:
        return {name: file[name] for name in file.files}


def equal(some, others) -> bool:
    return some.keys() == others.keys() and all(np.array_equal(some[name], others[name]) for name in some)


def test_steps_are_those_of_the_images_that_the_towers_take(tmp_path):
    """Three towers take 30 images of a batch of 32: int(25 * 256 / 30 * 5) steps, and 1000 with one or two."""
    dataset = DataSource(name="cub", root=small_cub.make(tmp_path / "CUB"), split="train").load()
    wanted = options(tmp_path, tmp_path / "out", batch_size=32, steps_per_epoch=None)
    found = [train.resolved(replace(wanted, towers=towers), dataset).steps_per_epoch for towers in (1, 2, 3)]
    assert found == [1000, 1000, 1066]


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    """A data set, and the weights of an uninterrupted training on it."""
    root = small_cub.make(tmp_path_factory.mktemp("data") / "CUB")
    out = tmp_path_factory.mktemp("whole") / "run"
    return root, trained(options(root, out)), out


@pytest.mark.slow
def test_training_leaves_checkpoints_a_record_and_final_weights(whole):
    root, final, out = whole
    latest = weights.open_checkpoint(out)
    assert latest.name == "model-4"
    assert {"global_step", "learning_rate", "MobilenetV1/Conv2d_0/weights/Momentum"} <= set(latest.shapes)
    assert all(np.array_equal(latest.read(name), value) for name, value in final.items())
    assert latest.head("mobilenetv1").num_classes == 3
    record = records.read(out / records.FINAL)
    assert (record.arch, record.class_names) == ("mobilenetv1", small_cub.CLASSES)
    assert train.train(options(root, out)) == out / records.FINAL  # done already


@pytest.mark.slow
def test_killed_training_goes_on_to_the_same_weights(whole, tmp_path):
    root, final, _ = whole
    out = tmp_path / "run"
    command = [
        sys.executable, "-m", "dgl_tf.train", "--arch", "mobilenetv1", "--data.name", "cub", "--data.root", root,
        "--data.split", "train", "--load", "auto", "--epochs", "2", "--batch-size", "4", "--final-size", "32",
        "--steps-per-epoch", "2", "--workers", "0", "--threads", "1", "--base-lr", "0.001", "--out", out,
    ]  # fmt: skip
    process = subprocess.Popen(command, cwd=Path(__file__).parents[2], stderr=subprocess.DEVNULL)
    deadline = time.monotonic() + 900
    while not (out / "model-2.index").is_file() and process.poll() is None and time.monotonic() < deadline:
        time.sleep(0.01)
    process.send_signal(signal.SIGKILL)
    process.wait()
    assert (out / "model-2.index").is_file()
    assert equal(trained(options(root, out)), final)


@pytest.mark.slow
def test_stopped_before_the_final_file(whole):
    root, final, out = whole
    (out / records.FINAL).unlink()
    assert equal(trained(options(root, out)), final)


@pytest.mark.slow
def test_a_training_goes_on_with_data_that_moved(whole, tmp_path):
    root, final, out = whole
    (out / records.FINAL).unlink()
    shutil.copytree(root, tmp_path / "elsewhere")
    assert equal(trained(options(tmp_path / "elsewhere", out)), final)
    split = tmp_path / "elsewhere" / "train_test_split.txt"
    split.write_text(split.read_text().replace("1 1", "1 0", 1))
    with pytest.raises(UserError, match="holds another training: trained_on differ"):
        train.train(options(tmp_path / "elsewhere", out))


@pytest.mark.slow
def test_a_folder_of_another_training_is_refused(whole, tmp_path):
    root, _, out = whole
    with pytest.raises(UserError, match="holds another training: base_lr differ"):
        train.train(options(root, out, base_lr=0.5))
    (tmp_path / "note.txt").write_text("mine")
    with pytest.raises(UserError, match="not empty, and no training"):
        train.train(options(root, tmp_path))


@pytest.mark.slow
def test_broken_image_ends_the_training_by_name(tmp_path):
    root = small_cub.make(tmp_path / "CUB")
    (root / "images" / small_cub.CLASSES[1] / "bird_0.png").write_bytes(b"no image")
    for workers in (0, 1):
        with pytest.raises(UserError, match="bird_0.png"):
            train.train(options(root, tmp_path / f"run{workers}", workers=workers))


@pytest.mark.slow
def test_validation_keeps_the_best(whole, tmp_path):
    root, _, _ = whole
    out = tmp_path / "run"
    train.train(options(root, out, epochs=1, validate="test"))
    assert (out / "min-val-error-top1.index").is_file()
    test = DataSource("cub", root, "test")
    said = test.described(test.load(), out / "min-val-error-top1")["trained_images"]
    assert (len(said["chosen"]), said["images"]) == (6, [])
    assert test.described(test.load(), out)["trained_images"]["chosen"] == []  # final.npz, the last
    assert 0 <= json.loads((out / "stats.json").read_text())[-1]["val-error-top1"] <= 1


@pytest.mark.slow
def test_a_stopped_training_keeps_the_best_network_and_two_checkpoints(whole, tmp_path, monkeypatch):
    """Stopped twice: right before a checkpoint, and right after one."""
    names = ("validation.jsonl", "final.npz")
    root, out = whole[0], tmp_path / "run"
    chosen = {"epochs": 4, "steps_per_epoch": 1, "validate": "test", "validate_every": 1}
    train.train(options(root, tmp_path / "whole", **chosen))
    trigger = callbacks.Saver._trigger

    def dying(self, epoch, first):
        if first:
            trigger(self)
        if self.epoch_num == epoch:
            raise KeyboardInterrupt
        if not first:
            trigger(self)

    for epoch, first in ((2, False), (3, True)):
        monkeypatch.setattr(callbacks.Saver, "_trigger", lambda self, e=epoch, f=first: dying(self, e, f))
        with pytest.raises(KeyboardInterrupt):
            train.train(options(root, out, **chosen))
    monkeypatch.undo()
    (out / "model-3.data-00000-of-00001.tempstate7").write_bytes(b"half")
    (graph,) = out.glob("graph-*.meta")  # the second process left one, and took the first one's away
    foreign = [out / name for name in ("graph-mine.meta", "graph-0101-000000.meta.txt", "my-graph-0101-000000.meta")]
    for path in [*foreign, out / "graph-0101-000000.meta", out / f"graph-0101-000000.meta.tmp{'0' * 32}"]:
        path.write_bytes(b"")
    graph.unlink()
    train.train(options(root, out, **chosen))
    for name in names:
        assert (out / name).read_bytes() == (tmp_path / "whole" / name).read_bytes()
    best = [weights.open_checkpoint(folder / callbacks.BEST) for folder in (tmp_path / "whole", out)]
    assert all(np.array_equal(best[0].read(name), best[1].read(name)) for name in best[0].shapes)
    kept = sorted(path.name for path in out.glob("model-*"))
    assert kept == [f"model-{step}.{kind}" for step in (3, 4) for kind in ("data-00000-of-00001", "index")]
    (graph,) = {path for path in out.iterdir() if "graph-" in path.name} - set(foreign)
    tf.MetaGraphDef.FromString(graph.read_bytes())
    assert graph.stat().st_size > 0
    assert all(path.is_file() for path in foreign)


@pytest.mark.slow
def test_a_full_disk_ends_the_training_in_one_line(whole, tmp_path):
    """A limit on a file's size stands in for the disk's end."""
    command = [
        sys.executable, "-m", "dgl_tf.train", "--arch", "mobilenetv1", "--data.name", "cub", "--data.root", whole[0],
        "--data.split", "train", "--epochs", "1", "--batch-size", "4", "--final-size", "32", "--steps-per-epoch", "1",
        "--workers", "0", "--threads", "1", "--out", tmp_path / "run",
    ]  # fmt: skip
    limit = f"import resource, runpy, sys; resource.setrlimit(resource.RLIMIT_FSIZE, ({2**20}, {2**20})); sys.argv[:] = sys.argv[1:]; runpy.run_module('dgl_tf.train', run_name='__main__', alter_sys=True)"
    command[1:3] = ["-c", limit, "dgl_tf.train"]
    done = subprocess.run(command, cwd=Path(__file__).parents[2], capture_output=True, text=True)
    assert done.returncode == 2, done.stderr
    assert "Traceback" not in done.stderr
    assert re.search(
        r"^error: .*the checkpoint can't be written \(.*File too large.*make room", done.stderr, re.M | re.I
    )
    assert "Training failed at global_step=1" in (tmp_path / "run/log.log").read_text()


@pytest.mark.slow
def test_two_towers_average_their_gradients(tmp_path):
    """Two towers of four images, against one of eight: VGG has no batch norm, so the weights must be the same."""
    root = small_cub.make(tmp_path / "CUB")
    small = {"arch": "vgg", "load": None, "epochs": 1, "steps_per_epoch": 1, "batch_size": 8}
    one = trained(options(root, tmp_path / "one", **small))
    two = trained(options(root, tmp_path / "two", towers=2, **small))
    # Fresh weights are drawn by operation, whose names are the same in both graphs.
    assert max(relative(one[name], two[name]) for name in one if name.endswith("W")) < 1e-5


@pytest.mark.slow
@pytest.mark.parametrize(
    ("changed", "message"),
    [
        ({"epochs": 0}, "--epochs 0; expected 1 or more"),
        ({"base_lr": 0.0}, "--base-lr 0.0; expected more than 0"),
        ({"drops": (3, 2)}, "rising epoch numbers"),
        ({"num_classes": 2}, "--num-classes 2; expected 3 or more"),
        ({"batch_size": 1, "towers": 2}, "1 for 2 towers"),
        ({"load": "missing.npz"}, "no such checkpoint"),
        *([] if importlib.util.find_spec("horovod") else [({"horovod": True}, "--horovod needs Horovod")]),
        ({"arch": "vgg"}, "pretrain_model/vgg16.npz"),
    ],
)
def test_bad_options_say_what_to_do(whole, tmp_path, changed, message):
    with pytest.raises(UserError, match=re.escape(message)):
        train.train(options(whole[0], tmp_path / "run", **changed))


@pytest.mark.slow
def test_script_trains(whole, tmp_path):
    script = Path(__file__).parents[2] / "dgl_tf" / "run_train.sh"
    environment = {**os.environ, "WSOL_PYTHON": sys.executable}
    out = tmp_path / "run"
    done = subprocess.run(
        [script, "mobilenetv1", whole[0], "--epochs", "1", "--steps-per-epoch", "1", "--batch-size", "2", "--final-size",
         "32", "--workers", "1", "--threads", "1", "--out", out], env=environment, capture_output=True, text=True, stdin=subprocess.DEVNULL,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert re.search(r"^epoch 1 of 1: loss \d+\.\d{3}; \d+\.\d images/s$", done.stdout, re.MULTILINE)
    assert f"trained: {out}/final.npz" in done.stdout
    done = subprocess.run([script], env=environment, capture_output=True, text=True)
    assert (done.returncode, done.stderr.count("\n")) == (2, 1)
