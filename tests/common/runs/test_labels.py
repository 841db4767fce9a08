from common.evaluate import Evaluate
from common.results.evaluation import evaluate
from common.results.tables import side_by_side
from common.runs.labels import label
from common.runs.reader import Predictions
from tests import runs

CROP = "resize 256 crop 224"


def opened(*directories):
    return [Predictions.open(directory) for directory in directories]


def test_one_run_is_named_after_its_method(tmp_path, source):
    made = [runs.write(tmp_path / "a/crop", source, CROP), runs.write(tmp_path / "a/squash", source)]
    other = runs.write(tmp_path / "b/squash", source, method="bas")
    assert label(opened(*made, other)) == ["cam mobilenet_v1", "cam mobilenet_v1", "bas mobilenet_v1"]


def test_runs_of_one_method_are_told_apart_by_what_their_paths_add(tmp_path, source):
    made = [runs.write(tmp_path / "runs" / name / "test" / frame, source, kind)
            for name in ("one", "two") for frame, kind in (("crop", CROP), ("squash", "resize 224"))]  # fmt: skip
    assert label(opened(*made)) == ["cam mobilenet_v1 (one)"] * 2 + ["cam mobilenet_v1 (two)"] * 2
    third = runs.write(tmp_path / "runs/two/held/squash", source)
    assert label(opened(made[1], made[3], third)) == [
        f"cam mobilenet_v1 ({name})" for name in ("one/test/squash", "two/test/squash", "two/held/squash")
    ]
    assert label(opened(made[1], made[1])) == ["cam mobilenet_v1 (#1)", "cam mobilenet_v1 (#2)"]


def test_checkpoints_and_classifiers_of_one_folder_are_different_runs(tmp_path, source):
    one = runs.write(tmp_path / "x/one", source, CROP)
    two = runs.write(tmp_path / "x/two", source, checkpoint={"name": "final.pth", "sha256": "1" * 64})
    three = runs.write(tmp_path / "x/three", source, classifier={"name": "mobilenet_v1", "crops": 1})
    assert label(opened(one, two, three)) == [f"cam mobilenet_v1 ({name})" for name in ("one", "two", "three")]


def test_every_run_has_a_line_of_its_own(tmp_path, source):
    """Hits 6 and 3 of 6 images: 100 and 50."""
    made = [runs.write(tmp_path / name / "squash", source, misses=misses) for name, misses in (("A", 0), ("B", 3))]
    table = side_by_side(*evaluate(Evaluate(tuple(made), protocols=("wsoleval-v1",))))
    lines = {row[0]: row[2].split(" ")[0] for row in table if row[1] == "oracle"}
    assert (lines["cam mobilenet_v1 (A)"], lines["cam mobilenet_v1 (B)"]) == ("100.0", "50.0")
