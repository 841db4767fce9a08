"""What the tests of `common` share."""

from pathlib import Path

import pytest

from common.datasets import DataSource
from tests import small_cub


@pytest.fixture
def source(tmp_path: Path) -> DataSource:
    """The test images of a small data set in CUB's layout, two of each of three classes."""
    return DataSource("cub", small_cub.make(tmp_path / "CUB"), "test")
