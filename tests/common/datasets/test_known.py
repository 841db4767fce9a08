import numpy as np
import pytest

from common.datasets import Dataset, DataSource, Sample
from common.datasets.known import known_as
from common.results.evaluation import EvaluationOptions, evaluate
from tests import runs, small_cub


def of(name, names, ids=()):
    return Dataset(name, "test", tuple(Sample(image_id, None, 0) for image_id in ids), tuple(names))


@pytest.mark.parametrize(("dataset", "known"), [
    (of("cub", ["001.Black_footed_Albatross", "002.Laysan_Albatross"]), "cub"),
    (of("cub", ["001.cat", "002.dog"]), None),  # one's own data in CUB's layout
    (of("cub", ["001.Black_footed_Albatross", "201.Dodo"]), None),
    (of("ilsvrc", ["n01440764", "n02123045"]), "ilsvrc"),
    (of("ilsvrc", ["n99999999"], ["n99999999/n99999999_1.JPEG"]), None),  # a class of the larger ImageNet
    (of("folder", ["fish", "cat"], ["fish/n01440764_1.JPEG", "cat/n02123045_7.JPEG"]), "ilsvrc"),
    (of("photographs", ["a"]), "ilsvrc"),
    (of("demo", ["001.Ember_Crested_Wren"]), None),
    (of("wsoleval", ["001.Black_footed_Albatross", "200.Common_Yellowthroat"]), "cub"),
    (of("folder", ["Cardinal", "Blue_Jay"]), "cub"),
    (of("wsoleval", ["n01440764", "n01443537", "n01484850"]), "ilsvrc"),
    (of("list", ["0", "1"], ["ILSVRC2012_val_00000001.JPEG", "ILSVRC2012_val_00000002.JPEG"]), "ilsvrc"),
    (of("list", ["val", "1"], ["val/ILSVRC2012_val_00000001.JPEG"]), "ilsvrc"),
    (of("list", ["0", "1"], ["a/1.jpg"]), None),
    (of("folder", ["001.cat", "002.dog"]), None),
    (of("folder", ["Cardinal", "cat"]), None),
    (of("folder", []), None),
])  # fmt: skip
def test_what_a_data_set_is(dataset, known):
    assert known_as(dataset) == known


@pytest.mark.slow
def test_released_thresholds_follow_the_classes_and_not_the_reader(tmp_path):
    """Class folders of CUB's names have CUB's thresholds, others none, and one can say whose to take."""
    root = small_cub.make(tmp_path / "CUB")
    boxes = {sample.image_id: sample.boxes for sample in DataSource("cub", root).load()}
    for name, folders in (("birds", ("Cardinal", "Blue_Jay", "Mallard")), ("pets", ("cat", "dog", "ox"))):
        rows = []
        for old, new in zip(small_cub.CLASSES, folders, strict=True):
            (tmp_path / name / "test" / new).mkdir(parents=True)
            for path in (root / "images" / old).iterdir():
                image_id = f"{old}/{path.name}"
                if image_id in boxes:
                    path.rename(tmp_path / name / "test" / new / path.name) if name == "pets" else (
                        tmp_path / name / "test" / new / path.name
                    ).write_bytes(path.read_bytes())
                    rows.append(f"{new}/{path.name},{','.join(map(str, boxes[image_id][0]))}\n")
        (tmp_path / f"{name}.csv").write_text("".join(rows))
        source = DataSource("folder", tmp_path / name, "test", boxes=tmp_path / f"{name}.csv")
        runs.write(tmp_path / "runs" / name, source, "resize 256 crop 224")

    def released(name, **options):
        (evaluation,), _ = evaluate(EvaluationOptions((tmp_path / "runs" / name,), protocols=("spol",), **options))
        return [row.threshold for row in evaluation.rows if row.source == "released"]

    np.testing.assert_allclose(released("birds"), [0.2])
    assert released("pets") == []
    np.testing.assert_allclose(released("pets", released_for="ilsvrc"), [0.8])
    assert released("birds", released_for="neither") == []
