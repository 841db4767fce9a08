"""Choice of the held-out predictions that a run's thresholds are chosen on."""

from types import SimpleNamespace

import pytest

from common.datasets import DataSource
from common.evaluate import Evaluate
from common.exporting.detections import rule_on_validation, thresholds_of
from common.results.evaluation import evaluate
from common.results.validating import held_of
from common.runs.reader import Predictions
from tests import runs

RELEASED, TRUE = ({"gradient": gradient, "threshold": 0.15, "maps": True} for gradient in ("released", "true"))


@pytest.fixture
def held(source):
    return DataSource("cub", source.root, "train")


def opened(directory):
    return SimpleNamespace(predictions=Predictions.open(directory))


def test_each_run_takes_the_maps_that_were_made_as_its_own(tmp_path, source, held):
    tested = tuple(runs.write(tmp_path / f"test{n}", source, options=said) for n, said in enumerate((RELEASED, TRUE)))
    others = tuple(runs.write(tmp_path / f"held{n}", held, options=said) for n, said in enumerate((TRUE, RELEASED)))
    options = Evaluate(tested, validation=others, protocols=("wsoleval-v1",), workers=1, resamples=0)
    assert [run.validation.directory for run in evaluate(options)[0]] == [others[1], others[0]]
    chosen = thresholds_of(options, "wsoleval-v1")
    rules = [rule_on_validation(Predictions.open(run), chosen) for run in tested]
    assert [found.predictions.directory for _, found in rules] == list(reversed(others))


def test_maps_that_were_made_otherwise_are_taken_with_a_note(tmp_path, source, held, capsys):
    tested = Predictions.open(runs.write(tmp_path / "test", source, options=RELEASED))
    other = opened(runs.write(tmp_path / "held", held, options=TRUE | {"threshold": 0.2, "maps": False}))
    assert held_of(tested, [other]) is other
    assert capsys.readouterr().err.endswith('thresholds are chosen on maps made with gradient "true", not "released"\n')


def test_an_option_that_is_off_is_none_that_differs(tmp_path, source, held, capsys):
    tested = Predictions.open(runs.write(tmp_path / "test", source, options=RELEASED | {"amp": False, "resize": None}))
    other = opened(runs.write(tmp_path / "held", held, options=RELEASED))
    assert held_of(tested, [other]) is other
    assert not capsys.readouterr().err


def test_of_two_that_fit_the_first_is_taken_with_a_note(tmp_path, source, held, capsys):
    tested = Predictions.open(runs.write(tmp_path / "test", source, options=TRUE))
    found = [opened(runs.write(tmp_path / name, held, options=TRUE)) for name in ("held", "again")]
    assert held_of(tested, found) is found[0]
    assert f"chosen on {tmp_path / 'held'}, not on {tmp_path / 'again'}" in capsys.readouterr().err


def test_another_checkpoint_or_frame_is_never_taken(tmp_path, source, held):
    tested = Predictions.open(runs.write(tmp_path / "test", source))
    other = runs.write(tmp_path / "other", held, checkpoint={"name": "x", "sha256": "1" * 64})
    crop = runs.write(tmp_path / "crop", held, "resize 256 crop 224")
    assert held_of(tested, [opened(other), opened(crop)]) is None
