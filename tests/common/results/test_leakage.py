from dataclasses import replace

import pytest

from common.datasets import DataSource, trained
from common.datasets.copies import shared_images
from common.evaluate import main
from common.results import leakage
from common.results.evaluation import EvaluationOptions, evaluate
from common.results.tables import in_full, leakage_lines, side_by_side, without_thresholds
from common.runs.reader import Predictions
from common.system.errors import UserError
from tests import runs, small_cub


@pytest.fixture
def source(tmp_path):
    return DataSource("cub", small_cub.make(tmp_path / "CUB", train=3), "test")


def run(tmp_path, name, source, images, known=True, evaluation_split=None):
    """Predictions of a network that was trained on some of the images."""
    said = {"known": known, "images": images, "evaluation_split": evaluation_split}
    data = {**source.described(source.load()), "trained_images": said}
    return runs.write(tmp_path / name, source, data=data)


def ids(source):
    return [sample.image_id for sample in source.load()]


def test_every_table_says_that_images_were_trained_on(tmp_path, source):
    images = ids(source)[:2]
    evaluations, baselines = evaluate(EvaluationOptions((run(tmp_path, "bad", source, images),), workers=1))
    label = "cam mobilenet_v1 (trained on 2 of these 6 images)"
    for table in (side_by_side(evaluations, baselines), in_full(evaluations, baselines)):
        assert any(label in row for row in table)
    assert without_thresholds(evaluations)[1][-1] == "trained on 2 of these 6 images"
    assert leakage_lines(evaluations) == [
        f"{tmp_path / 'bad'}: trained on 2 of these 6 images: {images[0]}, {images[1]}"
    ]


@pytest.mark.parametrize(("known", "count", "split", "text", "remarked"), [
    (True, 0, None, "none", False),
    (False, 0, None, "unknown", False),
    (False, 1, None, "trained on at least 1 of these 6 images", True),
    (True, 0, "test", "trained on the evaluation split 'test'", True),
    (True, 6, "test", "trained on 6 of these 6 images; trained on the evaluation split 'test'", True),
])  # fmt: skip
def test_what_is_said(tmp_path, source, known, count, split, text, remarked):
    found = leakage.of(Predictions.open(run(tmp_path, "run", source, ids(source)[:count], known, split)))
    assert (found.text, found.remark) == (text, f" ({text})" if remarked else "")


def test_other_peoples_code_is_unknown(tmp_path, source, capsys, monkeypatch):
    path = runs.write(tmp_path / "theirs", source)
    monkeypatch.setattr("sys.argv", ["evaluate", str(path), "--protocols", "grcam", "--workers", "1"])
    main()
    said = capsys.readouterr().out
    assert f"whether these images were trained on is unknown for: {path}\n" in said
    six = [Predictions.open(runs.write(tmp_path / name, source)) for name in "abcdef"]
    assert leakage.lines(six) == ["whether these images were trained on is unknown for all 6 predictions directories"]
    assert leakage.lines([*six[:5], Predictions.open(run(tmp_path, "ours", source, []))])[0].endswith(
        f", {tmp_path / 'e'}"
    )
    manifest = Predictions.open(path).manifest
    del manifest["data"]["trained_images"]
    assert not leakage.of(replace(Predictions.open(path), manifest=manifest)).known


@pytest.mark.slow
def test_validation_that_was_trained_on_is_named(tmp_path, source):
    held = replace(source, split="held", held_per_class=1)
    directories = run(tmp_path, "test", source, []), run(tmp_path, "held", held, ids(held)[1:])
    evaluations, _ = evaluate(EvaluationOptions(directories[:1], validation=directories[1:], workers=1))
    assert leakage_lines(evaluations) == [
        f"validation {directories[1]}: trained on 2 of these 3 images: {', '.join(ids(held)[1:])}"
    ]


def test_validation_on_scored_images_is_refused(tmp_path, source):
    """The same files count in another folder and as another kind of data set."""
    with pytest.raises(UserError, match="6 of the 6 validation images are among those that are scored: "):
        evaluate(EvaluationOptions((runs.write(tmp_path / "a", source),), (runs.write(tmp_path / "b", source),)))
    scored = source.load()
    elsewhere = tmp_path / "copied/test/a class"
    elsewhere.mkdir(parents=True)
    for number, sample in enumerate(scored.samples[:2]):
        (elsewhere / f"{number}.png").write_bytes(sample.path.read_bytes())
    (elsewhere / "other.png").write_bytes(source.at("train").load().samples[0].path.read_bytes())
    copied = DataSource("folder", tmp_path / "copied").load()
    assert shared_images(copied, scored) == ["a class/0.png", "a class/1.png"]
    assert shared_images(source.at("train").load(), scored) == []


def test_images_that_are_gone_are_told_apart_by_id(source):
    scored = source.load()
    moved = replace(scored, samples=tuple(replace(sample, path=sample.path / "gone") for sample in scored))
    assert len(shared_images(moved, moved)) == 6
    assert len(shared_images(replace(moved, name="folder", split="train"), replace(moved, name="folder"))) == 0


def test_parts_of_a_split_say_together_what_they_were_trained_on():
    parts = [{"known": True, "images": [name], "evaluation_split": None} for name in "ab"]
    assert trained.joined(parts) == {"known": True, "images": ["a", "b"], "evaluation_split": None, "chosen": []}


def test_a_network_that_was_chosen_on_these_images_says_so(tmp_path, source):
    """As the best epoch on four of the six; by the label in every table, and by the line below."""
    images = ids(source)[:4]
    said = {"known": True, "images": [], "evaluation_split": None, "chosen": images}
    data = {**source.described(source.load()), "trained_images": said}
    path = runs.write(tmp_path / "best", source, data=data)
    evaluations, baselines = evaluate(EvaluationOptions((path,), workers=1))
    text = "the best epoch was chosen on 4 of these 6 images"
    assert any(f"cam mobilenet_v1 ({text})" in row for row in side_by_side(evaluations, baselines))
    assert without_thresholds(evaluations)[1][-1] == text
    assert leakage_lines(evaluations) == [f"{path}: {text}: {', '.join(images)}"]


def test_whether_one_image_was_trained_on(tmp_path, source):
    found = leakage.of(Predictions.open(run(tmp_path, "run", source, ids(source)[:1])))
    assert (found.of_image(ids(source)[0]), found.of_image(ids(source)[1])) == (True, False)
    unknown = leakage.of(Predictions.open(run(tmp_path, "other", source, ids(source)[:1], known=False)))
    assert (unknown.of_image(ids(source)[0]), unknown.of_image(ids(source)[1])) == (True, None)
