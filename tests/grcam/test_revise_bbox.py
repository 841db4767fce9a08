import io
import json
from dataclasses import replace

import numpy as np
import pytest
import tyro
from PIL import Image

from common.datasets import DataSource
from common.evaluate import Evaluate
from common.results.evaluation import evaluate
from common.runs.reader import Predictions
from common.system import errors
from common.system.errors import UserError
from common.system.files import sha256, write_json
from grcam import handover
from grcam.config import THRESHOLDS
from grcam.revise_bbox import Revise, best_iou, correct_counts, read_files, revise_command, revised_boxes
from tests.grcam.released import golden, lay_out, write_files


def black_jpeg(size):
    content = io.BytesIO()
    Image.new("RGB", tuple(int(side) for side in size)).save(content, "JPEG")
    return content.getvalue()


@pytest.fixture(scope="module")
def released(tmp_path_factory):
    """The recorded step 4: 24 black images, annotations, files; and the options for them."""
    folder, recorded = tmp_path_factory.mktemp("step4"), golden("step4")
    images = lay_out(folder, recorded["xml"].tolist(), [black_jpeg(size) for size in recorded["width_height"]])
    write_files(folder, recorded)
    files = ["--bounding-box-save-path", f"{folder}/boxes/", "--classify-save-path", f"{folder}/class.txt",
             "--pseudo-bounding-box-save-path", f"{folder}/pseudo.txt"]  # fmt: skip
    return folder, recorded, [*images, *files]


def parse(arguments, *more):
    return tyro.cli(Revise, args=[*arguments, *map(str, more)])


def test_the_released_scripts_lines_and_counts(released, tmp_path, capsys):
    """Equal."""
    _, recorded, arguments = released
    options = parse(arguments)
    revise_command(options)
    printed = capsys.readouterr().out.splitlines()
    lines = [line.split(", gt_known")[0] for line in printed if line.startswith(" th: ")]
    assert lines == recorded["last_lines"].tolist()
    files = read_files(options.bounding_box_save_path, options.classify_save_path,
                       options.pseudo_bounding_box_save_path, options.source(tmp_path))  # fmt: skip
    counts = [
        correct_counts(files, best_iou(files, boxes)) for boxes in (revised_boxes(files, "released"), files.boxes)
    ]
    found = np.stack([counts[0]["top1"], counts[1]["top1"], counts[0]["top5"], counts[1]["top5"]], axis=1)
    np.testing.assert_array_equal(found, recorded["correct_counts_top1_top1orig_top5_top5orig"])


def test_underscores_as_the_release_writes_them(released):
    _, _, arguments = released
    assert parse([argument.replace("-path", "_path").replace("-save", "_save") if argument.startswith("--") else argument
                  for argument in arguments]) == parse(arguments)  # fmt: skip


@pytest.mark.slow
def test_predictions_score_as_the_errors_say(released, tmp_path):
    """Revised, original and pseudo boxes through common.evaluate, at the oracle's threshold."""
    _, _, arguments = released
    report = revise_command(
        parse(arguments, "--out", tmp_path / "out", "--mode", "vgg", "--json", tmp_path / "errors.json")
    )
    evaluations, _ = evaluate(Evaluate(tuple(tmp_path / "out" / name for name in ("boxes", "revised", "pseudo")),
                                       protocols=("grcam",)))  # fmt: skip
    for evaluation, name in zip(evaluations, ("original", "revised"), strict=False):
        (row,) = evaluation.rows
        assert 1 - row.gt_known / 100 == pytest.approx(report["oracle"][name]["gt_known"]["error"], abs=1e-5)
        assert row.source == "stored"
        assert row.threshold == pytest.approx(1 - report["oracle"][name]["gt_known"]["th"])
    assert [evaluation.rows[0].method for evaluation in evaluations] == [
        "grcam boxes vgg16", "grcam revised (released) vgg16", "grcam pseudo vgg16"]  # fmt: skip
    assert json.loads((tmp_path / "errors.json").read_text())["oracle"] == report["oracle"]
    again = revise_command(parse(arguments, "--out", tmp_path / "out", "--mode", "vgg"))
    assert again["oracle"] == report["oracle"]
    with pytest.raises(UserError, match="holds another run: its method"):
        revise_command(parse(arguments, "--out", tmp_path / "out", "--mode", "vgg", "--revise", "average"))


def test_top1_follows_the_class_file(released, tmp_path):
    _, _, arguments = released
    report = revise_command(parse(arguments, "--out", tmp_path / "out", "--th", 0.85))
    manifest = Predictions.open(tmp_path / "out/boxes").manifest
    assert manifest["options"]["th_from"] == "given"
    (evaluation,), _ = evaluate(Evaluate((tmp_path / "out/boxes",), protocols=("grcam",)))
    (row,) = evaluation.rows
    assert [round(1 - value / 100, 5) for value in (row.top1, row.top5)] == [
        report["original"]["top1"][0], report["original"]["top5"][0]]  # fmt: skip
    assert report["original"]["top1"][0] == 0.54167


def test_thresholds_chosen_on_held_out_images(released, tmp_path):
    """Held-out files that hit at th 0.93 alone pick it, whatever the oracle says."""
    folder, _, arguments = released
    held = tmp_path / "held"
    (held / "boxes").mkdir(parents=True)
    options = parse(arguments, "--validation", held, "--validation-split", "val")
    for name in ("class.txt", "pseudo.txt"):
        (held / name).write_bytes((folder / name).read_bytes())
    (held / "class.txt").write_text("\n".join(f"{line.split(',')[0]},1,1,0" for line in
                                              (folder / "class.txt").read_text().splitlines()))  # fmt: skip
    good = (folder / "boxes/0.85.txt").read_text()
    bad = "".join(f"{line.split(',')[0]},0, 0, 0, 0\n" for line in good.splitlines())
    for th in THRESHOLDS:
        (held / f"boxes/{th}.txt").write_text(good if th == 0.93 else bad)
    report = revise_command(options)
    for key in ("top1", "top5", "gt_known"):
        chosen = report["validation"]["original"][key]
        assert chosen == {"th": 0.93, "error": report["original"][key][-1]}


@pytest.mark.parametrize(("file", "change", "message"), [
    ("class.txt", lambda lines: [*lines, lines[3]], r"class.txt:25: ILSVRC2012_val_00000004.JPEG stands here twice, first in line 4"),
    ("boxes/0.9.txt", lambda lines: [*lines, lines[0]], r"0.9.txt:25: ILSVRC2012_val_00000001.JPEG stands here twice"),
    ("pseudo.txt", lambda lines: lines[1:], r"class.txt:1: ILSVRC2012_val_00000001.JPEG is not in .*pseudo.txt"),
    ("class.txt", lambda lines: lines[1:], r"0.85.txt:1: ILSVRC2012_val_00000001.JPEG is not in .*class.txt"),
    ("boxes/0.86.txt", lambda lines: ["x.JPEG,1, 2, 3", *lines[1:]], r"0.86.txt:1: 'x.JPEG,1, 2, 3' has 4 cells; expected name,x0, x1, y0, y1"),
    ("boxes/0.86.txt", lambda lines: ["x.JPEG,1, 2, 3, 224", *lines[1:]], r"0.86.txt:1: y1 is 224; expected a whole number from 0 to 223"),
    ("pseudo.txt", lambda lines: [], r"pseudo.txt: the file is empty"),
])  # fmt: skip
def test_files_that_do_not_fit(released, tmp_path, file, change, message):
    folder, recorded, arguments = released
    write_files(tmp_path, recorded)
    lines = (tmp_path / file).read_text().splitlines()
    (tmp_path / file).write_text("".join(f"{line}\n" for line in change(lines)))
    moved = [argument.replace(str(folder), str(tmp_path)) if "val" not in argument and "synset" not in argument
             else argument for argument in arguments]  # fmt: skip
    with pytest.raises(UserError, match=message):
        revise_command(parse(moved))


def test_pseudo_boxes_of_other_classes_than_the_class_files_are_refused(released, tmp_path, capsys):
    """As where step 1 was run again with another classifier, and steps 2 and 3 were not."""
    folder, _, arguments = released
    images = handover.read_classes(folder / "class.txt").rows
    groups = {}
    for name, rows in images.items():
        groups.setdefault(str(rows[0].values[2]), []).append(name)
    note = handover.beside(folder / "pseudo.txt")
    try:
        write_json(note, {"groups": groups, "boxes": sha256(folder / "pseudo.txt")})
        revise_command(parse(arguments))
        first, second = list(groups)[:2]
        moved = groups[first].pop()
        groups[second].append(moved)
        write_json(note, {"groups": groups, "boxes": sha256(folder / "pseudo.txt")})
        with pytest.raises(
            UserError, match=f"of 1 of 24 images are of another class's group, that of {moved} of {second}"
        ):
            revise_command(parse(arguments))
        write_json(note, {"groups": groups, "boxes": "of another file"})  # which says nothing of this one
        revise_command(parse(arguments))
    finally:
        note.unlink()


def test_doubled_lines_as_released(released, tmp_path):
    """Quirk Q14: all boxes of an image are revised together, and the best one counts."""
    folder, recorded, arguments = released
    write_files(tmp_path, recorded)
    for path in (tmp_path / "boxes").iterdir():
        path.write_text(path.read_text() * 2)
    moved = [argument.replace(str(folder), str(tmp_path)) if "val" not in argument and "synset" not in argument
             else argument for argument in arguments]  # fmt: skip
    with pytest.raises(UserError, match="stands here twice"):
        revise_command(parse(moved))
    report = revise_command(parse(moved, "--doubled-lines", "best"))
    once = revise_command(parse(arguments))
    assert report["original"] == once["original"]
    assert report["revised"] != once["revised"]
    with pytest.raises(UserError, match="predictions hold one box an image"):
        revise_command(parse(moved, "--doubled-lines", "best", "--out", tmp_path / "out"))


@pytest.fixture(autouse=True)
def nothing_said(monkeypatch):
    """Lines that are said once in a process may have been said in another test."""
    monkeypatch.setattr(errors, "_SAID", set())


def test_images_that_no_file_speaks_of_are_named(released, tmp_path, capsys):
    folder, recorded, arguments = released
    write_files(tmp_path, recorded)
    for path in [*(tmp_path / "boxes").iterdir(), tmp_path / "class.txt", tmp_path / "pseudo.txt"]:
        path.write_text("".join(path.read_text().splitlines(keepends=True)[1:]))
    moved = [argument.replace(str(folder), str(tmp_path)) if "val" not in argument and "synset" not in argument
             else argument for argument in arguments]  # fmt: skip
    report = revise_command(parse(moved, "--out", tmp_path / "out"))
    assert report["images"] == 23
    told = capsys.readouterr()
    assert (told.out + told.err).count("ILSVRC2012_val_00000001.JPEG") == 1  # once, for the table and three directories
    assert "left out: no file speaks of it: 1 of 24 images, ILSVRC2012_val_00000001.JPEG" in told.err
    assert Predictions.open(tmp_path / "out/revised").skipped == {
        "ILSVRC2012_val_00000001.JPEG": "no file speaks of it"
    }


def test_images_without_a_true_box_are_left_out_and_named(released, tmp_path, capsys, monkeypatch):
    _, _, arguments = released
    load = DataSource.load

    def bare(source):
        dataset = load(source)
        return replace(dataset, samples=(replace(dataset.samples[0], boxes=np.empty((0, 4))), *dataset.samples[1:]))

    monkeypatch.setattr(DataSource, "load", bare)
    report = revise_command(parse(arguments, "--out", tmp_path / "out", "--mode", "vgg"))
    assert (report["images"], report["left_out"]) == (23, ["ILSVRC2012_val_00000001.JPEG"])
    assert "left out: no ground-truth box: 1 of 24 images, ILSVRC2012_val_00000001.JPEG" in capsys.readouterr().err
    assert Predictions.open(tmp_path / "out/revised").skipped == {"ILSVRC2012_val_00000001.JPEG": "no ground-truth box"}


def test_options_without_effect_say_so(released, capsys):
    _, _, arguments = released
    revise_command(parse(arguments, "--no-eval", "--batch-size", 2))
    assert "no effect" in capsys.readouterr().out


def test_one_path_without_the_other(released):
    _, _, arguments = released
    with pytest.raises(UserError, match="go together"):
        revise_command(parse(arguments[2:]))


@pytest.mark.slow
@pytest.mark.parametrize("line", ["-,-,1000", "0,0,1000"])
def test_a_classifier_of_other_classes_is_not_called_wrong(released, tmp_path, capsys, line):
    """Step 1 writes classes beyond the data set's where it knows none of them, and that Top-1 and Top-5 are unknown."""
    folder, _, arguments = released
    names = [line.split(",")[0] for line in (folder / "class.txt").read_text().splitlines()]
    (tmp_path / "class.txt").write_text("".join(f"{name},{line}\n" for name in names))
    arguments = [str(tmp_path / "class.txt") if each == f"{folder}/class.txt" else each for each in arguments]
    report = revise_command(parse(arguments, "--out", tmp_path / "out", "--mode", "vgg"))
    assert report["revised"].keys() == report["oracle"]["revised"].keys() == {"gt_known"}
    said = capsys.readouterr().out
    assert "the predicted classes are none that the data set has" in said
    assert "err1" not in said
    assert all(entry.top5 is None for entry in Predictions.open(tmp_path / "out/revised").entries)


def test_a_class_file_of_two_kinds_of_lines_is_refused(released, tmp_path):
    folder, _, arguments = released
    first, *others = (folder / "class.txt").read_text().splitlines(keepends=True)
    (tmp_path / "class.txt").write_text("".join([f"{first.split(',')[0]},-,-,1000\n", *others]))
    arguments = [str(tmp_path / "class.txt") if each == f"{folder}/class.txt" else each for each in arguments]
    with pytest.raises(UserError, match=r"Top-1 and Top-5 are unknown \(-\) of ILSVRC2012_val_\d+.JPEG, and known of"):
        revise_command(parse(arguments))
