"""Pipes, sockets, devices, folders and links where a file is expected: a line each, and nothing waits for them."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from common.datasets import DataSource
from common.errors import UserError
from common.files import need_file
from common.images import ImageError, read_rgb
from common.predictions import Predictions, PredictionsWriter
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
    assert [row for row in rows if row[2] != "refused"] == []


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
    good, odd = DataSource("folder", tmp_path / "folder").load().samples
    read_rgb(good.path)
    with pytest.raises(ImageError, match=r"odd\.png: (this is a|no such image)"):
        read_rgb(odd.path)
    with pytest.raises(ImageError, match=r"odd\.png: (this is a|no such image)"):
        _ = odd.size


def test_a_folder_that_ends_like_an_image_is_a_folder(tmp_path, world):
    folder = tmp_path / "folder" / "a class" / "deeper.png"
    folder.mkdir(parents=True)
    (folder / "good.png").write_bytes((world / "grey.png").read_bytes())
    (sample,) = DataSource("folder", tmp_path / "folder").load().samples
    assert Path(sample.image_id) == Path("a class/deeper.png/good.png")
