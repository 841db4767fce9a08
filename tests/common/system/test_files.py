import os
from pathlib import Path

import pytest

from common.system.errors import UserError
from common.system.files import holds_files, read_json, sha256, write_atomically, write_json, write_text


def test_text_is_written_as_it_stands(tmp_path):
    path = tmp_path / "deep" / "a.txt"
    write_text(path, "grün\r\n")
    assert path.read_bytes() == "grün\r\n".encode()
    assert sorted(os.listdir(path.parent)) == ["a.txt"]


def test_a_failed_write_leaves_the_old_file(tmp_path):
    path = tmp_path / "a.txt"
    write_text(path, "old")

    def fail(file):
        file.write(b"half")
        raise RuntimeError("killed")

    with pytest.raises(RuntimeError):
        write_atomically(path, fail)
    assert path.read_text() == "old"
    write_text(path, "new")
    assert path.read_text() == "new"


def test_a_place_that_cant_be_written_to(tmp_path):
    (tmp_path / "file").touch()
    with pytest.raises(UserError, match="can't be written"):
        write_text(tmp_path / "file" / "a.txt", "")


def test_a_full_disk_is_said(tmp_path):
    if not Path("/dev/full").exists():
        pytest.fail("this test needs /dev/full, which Linux has")

    def full(file):
        with open("/dev/full", "wb") as disk:
            disk.write(b"x" * 10_000_000)

    with pytest.raises(UserError, match="No space left on device"):
        write_atomically(tmp_path / "a", full)


def test_json(tmp_path):
    write_json(tmp_path / "a.json", {"grün": [1, None]})
    assert read_json(tmp_path / "a.json") == {"grün": [1, None]}
    (tmp_path / "b.json").write_text("{")
    with pytest.raises(UserError, match="not a JSON file"):
        read_json(tmp_path / "b.json")
    (tmp_path / "c.json").write_text("[" * 100_000)
    with pytest.raises(UserError, match="not a JSON file"):
        read_json(tmp_path / "c.json")
    with pytest.raises(UserError, match="no such file"):
        read_json(tmp_path / "d.json")


def test_json_has_no_nan(tmp_path):
    write_json(tmp_path / "a.json", {"ü": [1.5, float("nan"), (float("inf"), -1)]})
    assert (tmp_path / "a.json").read_text(encoding="utf-8") == (
        '{\n  "ü": [\n    1.5,\n    null,\n    [\n      null,\n      -1\n    ]\n  ]\n}\n'
    )


def test_sha256(tmp_path):
    (tmp_path / "a").write_bytes(b"abc")
    assert sha256(tmp_path / "a") == "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad"
    with pytest.raises(UserError):
        sha256(tmp_path / "b")


@pytest.mark.parametrize("problem", [OSError(28, "No space left on device"), KeyboardInterrupt(), TypeError("a bug")])
def test_what_fails_leaves_no_half_file(tmp_path, problem):
    def write(file):
        file.write(b"half")
        raise problem

    with pytest.raises(UserError if isinstance(problem, OSError) else type(problem)):
        write_atomically(tmp_path / "a", write)
    assert list(tmp_path.iterdir()) == []


def test_what_a_killed_process_left_is_no_file(tmp_path):
    assert not holds_files(tmp_path / "none")
    (tmp_path / ".manifest.json.part").write_text("{")
    assert not holds_files(tmp_path)
    (tmp_path / "note.part").write_text("mine")
    assert holds_files(tmp_path)
