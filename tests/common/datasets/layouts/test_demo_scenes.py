import numpy as np
import pytest
from PIL import Image

from common.datasets import DataSource
from common.datasets.checking import check
from common.datasets.label_maps import true_label_map
from common.datasets.layouts import demo_scenes
from common.prepare import Prepare
from tests import scenes


@pytest.mark.slow
def test_scenes_are_rendered_in_vocs_layout_and_do_not_depend_on_processes(tmp_path):
    recipe = demo_scenes.SceneRecipe(2, 1, 1, seed=3)
    demo_scenes.render(tmp_path / "a", recipe, workers=1)
    demo_scenes.render(tmp_path / "b", recipe, workers=2)
    for split, count in (("train", 2), ("val", 1), ("test", 1)):
        dataset = DataSource("demo-scenes", tmp_path / "a", split).load(multi_label=True)
        other = DataSource("demo-scenes", tmp_path / "b", split).load(multi_label=True)
        assert len(dataset) == count
        assert dataset.fingerprint() == other.fingerprint()
        for sample, twin in zip(dataset, other, strict=True):
            assert sample.path.read_bytes() == twin.path.read_bytes()
            labels = true_label_map(sample, demo_scenes.SPECIES_SHOWN)
            np.testing.assert_array_equal(labels, true_label_map(twin, demo_scenes.SPECIES_SHOWN))
            assert tuple(np.unique(labels)[1:] - 1) == sample.labels
            assert 1 <= len(sample.labels) <= 3
            assert 0.03 < (labels > 0).mean() < 0.6


def test_the_data_set_is_checked(tmp_path):
    scenes.write(tmp_path, {"train": 8, "val": 6})
    options = Prepare("voc", tmp_path, splits=("train", "val"), workers=1)
    report = check(options)
    assert (report.problems, [row[:3] for row in report.rows]) == (
        [],
        [["train", "8", "3 of 3"], ["val", "6", "3 of 3"]],
    )
    Image.fromarray(np.zeros((4, 4), np.uint8)).save(tmp_path / "SegmentationClass" / "val_0.png")
    (tmp_path / "SegmentationClass" / "val_1.png").unlink()
    report = check(options)
    assert any("the label map is 4x4; expected 64x48" in problem for problem in report.problems)
    assert "val: 1 of 6 images have no label map, and can't be scored" in report.notes
