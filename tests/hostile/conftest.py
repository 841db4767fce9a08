"""A folder with a good file for every reader, and a payload that must not run."""

from pathlib import Path

import pytest

from tests.hostile import readers
from tests.hostile.payloads import Payload


@pytest.fixture(scope="session")
def world(tmp_path_factory) -> Path:
    return readers.make_world(tmp_path_factory.mktemp("world"))


@pytest.fixture
def payload(tmp_path):
    """Something whose unpickling would leave a mark; the test fails where it did."""
    payload = Payload(tmp_path / "it-ran")
    yield payload
    assert not payload.marker.exists()
