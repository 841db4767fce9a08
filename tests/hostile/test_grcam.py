"""What GRCAM's steps read of each other, and of what they were stopped in."""

import json

import pytest

from common.system.errors import UserError
from grcam import handover
from grcam.generate_predicted_bbox import Journal
from grcam.pseudo_bbox.main import Progress
from grcam.pseudo_bbox.rebuild_val import Rebuild, rebuild
from tests.hostile.payloads import refused


@pytest.mark.parametrize(
    "line",
    [b"half", b"[]", b"5", b"[1, 2, 3, 4]", b'["a", 1, 1, 2, 5]', b"\xff", b"[" * 50_000, b'["\\ud800", 1, 1, 2, []]'],
)
def test_a_damaged_journal(tmp_path, line):
    (tmp_path / "journal.jsonl").write_bytes(b'["good.jpg", true, true, 1, [[1, 2, 3, 4]]]\n' + line + b"\n")
    message = refused(lambda: Journal(tmp_path / "journal.jsonl", True), tmp_path / "journal.jsonl")
    assert "journal.jsonl:2: not a line" in message


@pytest.mark.parametrize("line", [b"half", b"[]", b"5", b'{"group": 1}', b'{"group": "1", "boxes": 5}', b'{"group": "1", "boxes": {"a": 5}}',
                                  b'{"group": "1", "boxes": {"a": [1, 2]}}', b'{"group": "1", "boxes": {"a": [1, 2, 3, 99999]}}',
                                  b"\xff", b"[" * 50_000])  # fmt: skip
def test_damaged_progress(tmp_path, line):
    path = tmp_path / "pseudo.txt.progress.jsonl"
    path.write_bytes(json.dumps({"x": 1}).encode() + b"\n" + line + b"\n")
    refused(lambda: Progress(tmp_path / "pseudo.txt", {"x": 1}, False), path, "not a file of progress")


@pytest.mark.parametrize("name", ["../evil.jpg", "/etc/passwd", "a/../../evil.jpg", "..", ".", "a\\..\\evil.jpg"])
def test_groups_are_put_into_their_folder_only(tmp_path, name):
    (tmp_path / "images").mkdir()
    (tmp_path / "evil.jpg").touch()
    (tmp_path / "class.txt").write_text(f"{name},1,1,0\n")
    before = sorted(tmp_path.rglob("*"))
    options = Rebuild(tmp_path / "groups", tmp_path / "class.txt", tmp_path / "images", classes=2)
    assert "class.txt:1: path" in refused(lambda: rebuild(options), tmp_path / "class.txt")
    assert sorted(tmp_path.rglob("*")) == before


@pytest.mark.parametrize("line", [
    "a.jpg,1,1", "a.jpg,1,1,-1", "a.jpg,1,1,1.0", "a.jpg,2,1,3", "a.jpg,1,1,nan", ",1,1,1", "a.jpg,1,1,1e3", "a.jpg,1,1,١",
    "a.jpg,1,1,9999999999999", "a\x1b[2J.jpg,1,1,1", "a.jpg,,,", "a.jpg;1;1;1",
])  # fmt: skip
def test_lines_of_a_class_file(tmp_path, line):
    (tmp_path / "class.txt").write_text(f"good.jpg,1,1,3\n{line}\n")
    with pytest.raises(UserError, match=r"class\.txt:2: "):
        handover.read_classes(tmp_path / "class.txt", 200)


@pytest.mark.parametrize(
    "box", ["1, 2, 3", "1, 2, 3, 224", "-1, 2, 3, 4", "1.5, 2, 3, 4", "nan, 2, 3, 4", "1, 2, 3, 4, 5x", ",,,"]
)
def test_lines_of_a_box_file(tmp_path, box):
    (tmp_path / "box.txt").write_text(f"good.jpg,1, 2, 3, 4\na.jpg,{box}\n")
    with pytest.raises(UserError, match=r"box\.txt:2: "):
        handover.read_boxes(tmp_path / "box.txt")
