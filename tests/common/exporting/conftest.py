"""The data set of `scene` on disk, and a run on each of its splits."""

from pathlib import Path

import pytest
from PIL import Image

from common.datasets import DataSource
from tests import runs
from tests.common.exporting.scene import BOXES, NAMES, SIZE


@pytest.fixture
def birds(tmp_path) -> Path:
    """Two classes whose names, and whose files' names, hold blanks, commas and an umlaut; the last file is the odd one."""
    root = tmp_path / "the data"
    lines = ["path,x0,y0,x1,y1,split"]
    for split in ("train", "test"):
        for name in NAMES:
            for file, box in BOXES.items():
                path = root / split / name / file
                path.parent.mkdir(parents=True, exist_ok=True)
                Image.new("RGB", SIZE, (90, 120, 60)).save(path)
                lines.append(",".join([f'"{name}/{file}"', *map(str, box), split]))
    (tmp_path / "boxes.csv").write_text("\n".join(lines) + "\n", encoding="utf-8")
    return root


@pytest.fixture
def directories(tmp_path, birds) -> dict[str, Path]:
    """A run a split; maps are 1 on the box and 0.1 elsewhere."""
    sources = {split: DataSource("folder", birds, split, boxes=tmp_path / "boxes.csv") for split in ("train", "test")}
    return {split: runs.write(tmp_path / "runs" / split, source) for split, source in sources.items()}
