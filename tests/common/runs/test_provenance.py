import subprocess

import pytest

from common.runs.provenance import provenance


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
