"""Pipes, sockets, devices, folders and links where a file is expected: a line each, and nothing waits for them."""

import json
import os
import signal
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from common.adopt import Adopt, adopt
from common.datasets import DataSource
from common.evaluate import Evaluate
from common.merge import Merge, merge
from common.pictures.images import ImageError, read_rgb
from common.report.page import Report, build
from common.results.evaluation import evaluate
from common.runs.reader import Predictions
from common.runs.writer import PredictionsWriter
from common.system.errors import UserError
from common.system.files import need_file
from tests import runs, small_cub
from tests.conftest import ROOT
from tests.hostile import readers
from tests.hostile.payloads import refused
from tests.hostile.special import KINDS


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="the limit of memory is read from /proc")
def test_every_reader_refuses_what_is_no_file():
    """Within a limit of memory, which `/dev/zero` would fill."""
    done = subprocess.run([sys.executable, "-m", "tests.hostile.special"], capture_output=True, text=True, cwd=ROOT, timeout=600,
                          env={**os.environ, "TF_CPP_MIN_LOG_LEVEL": "3"}, check=True)  # fmt: skip
    rows = [json.loads(line) for line in done.stdout.splitlines() if line.startswith("[")]
    assert len(rows) == len(KINDS) * sum(not reader.name.endswith("-resumed") for reader in readers.READERS)
    # A folder in an annotation's place is none: its image is left out and counted.
    assert [row for row in rows if row[2] != "refused"] in ([], [["ilsvrc-xml", "folder", "read", ""]])


def test_files_and_links_to_files_pass(tmp_path):
    (tmp_path / "a").touch()
    (tmp_path / "b").symlink_to("a")
    for name in ("a", "b", "not there"):
        need_file(tmp_path / name)
    with pytest.raises(UserError, match="this is a folder; expected a file"):
        need_file(tmp_path)


def test_a_run_does_not_go_on_into_a_pipe(tmp_path):
    source = DataSource("cub", small_cub.make(tmp_path / "cub", train=1, test=1), "test")
    run = runs.write(tmp_path / "run", source)
    manifest = json.loads((run / "manifest.json").read_text())
    (run / "manifest.json").write_text(json.dumps({**manifest, "complete": False}))
    (run / "predictions.jsonl").unlink()
    os.mkfifo(run / "predictions.jsonl")
    refused(lambda: PredictionsWriter(run, {"method": manifest["method"]}), run / "predictions.jsonl", "this is a pipe")
    refused(lambda: Predictions.open(run, incomplete=True), run / "predictions.jsonl", "this is a pipe")


@pytest.mark.parametrize(
    "put", [os.mkfifo, lambda path: path.symlink_to("not there"), lambda path: path.symlink_to("/dev/zero")]
)
def test_images_that_are_no_files_are_listed_and_refused_when_read(tmp_path, world, put):
    """Left out of the list they would be missed by nobody."""
    folder = tmp_path / "folder" / "a class"
    folder.mkdir(parents=True)
    (folder / "good.png").write_bytes((world / "grey.png").read_bytes())
    put(folder / "odd.png")
    good, odd = DataSource("folder", tmp_path / "folder", "all").load().samples
    read_rgb(good.path)
    with pytest.raises(ImageError, match=r"odd\.png: (this is a|no such image)"):
        read_rgb(odd.path)
    with pytest.raises(ImageError, match=r"odd\.png: (this is a|no such image)"):
        _ = odd.size


def test_a_folder_that_ends_like_an_image_is_a_folder(tmp_path, world):
    folder = tmp_path / "folder" / "a class" / "deeper.png"
    folder.mkdir(parents=True)
    (folder / "good.png").write_bytes((world / "grey.png").read_bytes())
    (sample,) = DataSource("folder", tmp_path / "folder", "all").load().samples
    assert Path(sample.image_id) == Path("a class/deeper.png/good.png")


# ---------------------------------------------------------------------------------------- links in folders of others


@pytest.fixture
def in_time():
    """What waits for a pipe, or reads a device to its end, is interrupted."""

    def late(*_):
        raise TimeoutError

    before = signal.signal(signal.SIGALRM, late)
    signal.alarm(60)
    yield
    signal.alarm(0)
    signal.signal(signal.SIGALRM, before)


@pytest.fixture
def source(tmp_path):
    return DataSource("cub", small_cub.make(tmp_path / "cub", train=1, test=1), "test")


def first_map(run: Path) -> Path:
    return run / "maps" / f"{Predictions.open(run).entries[0].image_id}.npy"


TARGETS = {
    "a device": "/dev/zero",
    "a pipe": "pipe",
    "a folder": ".",
    "a folder above": "/",
    "nothing": "not there",
    "itself": None,
}


@pytest.mark.usefixtures("in_time")
@pytest.mark.parametrize("name", TARGETS)
def test_maps_that_are_links(tmp_path, source, name):
    """Every command that reads maps of others names the link."""
    run = runs.write(tmp_path / "run", replace(source, shard="1/1"))
    os.mkfifo(tmp_path / "pipe")
    path = first_map(run)
    path.unlink()
    path.symlink_to(path if TARGETS[name] is None else tmp_path / TARGETS[name])
    refused(lambda: evaluate(Evaluate((run,), protocols=("wsoleval-v1",), workers=1)), path)
    refused(lambda: merge(Merge((run,), tmp_path / "merged")), path)
    adopt(Adopt(run / "maps", source, tmp_path / "adopted", "mine"))
    assert len(Predictions.open(tmp_path / "adopted").skipped) == 1
    refused(lambda: build(Report((run,), workers=1)), path)


@pytest.mark.usefixtures("in_time")
def test_maps_may_lie_elsewhere(tmp_path, source):
    """Where the folder's owner put them."""
    run = runs.write(tmp_path / "run", replace(source, shard="1/1"))
    before = (
        evaluate(Evaluate((run,), protocols=("wsoleval-v1",), workers=1))[0][0].results["wsoleval-v1"].gt_known.tolist()
    )
    (run / "maps").rename(tmp_path / "elsewhere")
    (run / "maps").symlink_to(tmp_path / "elsewhere")
    path = first_map(run)
    path.resolve().rename(tmp_path / "one.npy")
    path.symlink_to(tmp_path / "one.npy")
    assert (
        evaluate(Evaluate((run,), protocols=("wsoleval-v1",), workers=1))[0][0].results["wsoleval-v1"].gt_known.tolist()
        == before
    )


@pytest.mark.usefixtures("in_time")
def test_nothing_is_written_through_a_link(tmp_path, source):
    """A run that goes on in a folder of somebody else's."""
    whole, mine = runs.write(tmp_path / "run", source), tmp_path / "mine"
    manifest = json.loads((whole / "manifest.json").read_text())
    (whole / "manifest.json").write_text(json.dumps({**manifest, "complete": False}))
    entry = Predictions.open(whole, incomplete=True).entries[0]
    first = whole / "maps" / f"{entry.image_id}.npy"
    picture = np.load(first)
    header = {name: value for name, value in manifest.items() if name in runs.header(source)}
    mine.write_bytes(b"mine\nand no line")
    for path in (first, whole / ".manifest.json.part"):
        path.unlink(missing_ok=True)
        path.symlink_to(mine)
    (whole / "predictions.jsonl").write_text("")
    writer = PredictionsWriter(whole, header)
    writer.write(entry, picture)
    writer.finish()
    assert not first.is_symlink()
    assert np.array_equal(np.load(first), picture)

    (whole / "manifest.json").write_text(json.dumps({**manifest, "complete": False}))
    (whole / "predictions.jsonl").unlink()
    (whole / "predictions.jsonl").symlink_to(mine)
    refused(lambda: PredictionsWriter(whole, header), whole / "predictions.jsonl", "this is a link")
    assert mine.read_bytes() == b"mine\nand no line"


def test_a_link_to_a_folder_of_images_is_named_where_it_is_not_followed(tmp_path, world):
    image = (world / "grey.png").read_bytes()
    for name in ("elsewhere/deeper/a.png", "folder/one/b.png"):
        (tmp_path / name).parent.mkdir(parents=True)
        (tmp_path / name).write_bytes(image)
    (tmp_path / "folder" / "two").symlink_to(tmp_path / "elsewhere")
    assert [s.image_id for s in DataSource("folder", tmp_path / "folder", "all").load()] == [
        "one/b.png",
        "two/deeper/a.png",
    ]
    (tmp_path / "folder" / "one" / "more").symlink_to(tmp_path / "elsewhere")
    refused(
        DataSource("folder", tmp_path / "folder", "all").load, tmp_path / "folder" / "one" / "more", "leads to a folder"
    )
