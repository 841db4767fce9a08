import re

import pytest

from common.datasets import DataSource
from common.ready import Ready, check
from common.system.errors import UserError
from tests import small_cub


def test_a_split_with_boxes_and_files_that_are_there(tmp_path):
    root = small_cub.make(tmp_path / "CUB")
    check(Ready(DataSource("cub", root), (root / "images",)))
    with pytest.raises(UserError, match=r"final.pth: no such file or folder, and a later step needs it"):
        check(Ready(DataSource("cub", root), (root / "images", tmp_path / "final.pth")))


def test_a_split_without_boxes_can_be_looked_at_and_not_scored(tmp_path):
    root = small_cub.make(tmp_path / "CUB") / "images"
    source = DataSource("folder", root.rename(tmp_path / "test").parent)
    check(Ready(source, boxes=False))
    with pytest.raises(UserError, match=re.escape("none of the 12 images of 'test' has a ground-truth box")):
        check(Ready(source))


def test_a_list_beside_a_data_set_is_left_to_the_command_that_reads_it(tmp_path):
    """SPOL's, which read one in the layout of CUB's folder; their script passes its options on."""
    root = small_cub.make(tmp_path / "CUB")
    check(Ready(DataSource("cub", root, list_file=root / "val.txt")))
    with pytest.raises(UserError, match="val.txt: no such file"):
        check(Ready(DataSource("list", root / "images", list_file=root / "val.txt")))
