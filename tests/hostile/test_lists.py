"""Lists, tables, XML and JSON that somebody else wrote: each fault is refused at its line, and none passes silently."""

import json
import os

import pytest

from common.datasets import DataSource, lists, wsoleval
from common.datasets.ilsvrc_classes import class_wnids
from common.datasets.sample import MAX_CLASSES
from common.datasets.text import csv_rows, lines, numbers, whole_number
from common.datasets.xml_files import read_annotation
from common.evaluate import Evaluate
from common.prepare import Prepare, check
from common.runs.evaluation import evaluate
from common.runs.reader import Predictions
from common.runs.tables import render
from common.runs.writer import PredictionsWriter
from common.system.errors import UserError, inside, printable
from common.system.files import parse_json, read_json
from tests import runs, small_cub
from tests.hostile import readers
from tests.hostile.payloads import refused
from tests.hostile.readers import BY_NAME, Reader, attempt

PATHS = ("../evil.jpg", "a/../../evil.jpg", "/etc/passwd", "..", ".", "a/..", "a/.", "a/", "C:/evil.jpg", "a\\..\\evil.jpg",
         "a" * 300 + ".jpg", "x/" * 1500 + "a.jpg", "ä" * 130 + ".jpg")  # fmt: skip
BOXES = {"reversed": "40 40 2 2", "one side reversed": "40 2 2 40", "NaN": "nan 2 30 40", "infinite": "1 2 inf 40",
         "overflowing": "1 2 1e400 40", "huge": "1 2 1e300 40", "words": "a b c d", "three": "1 2 3", "five": "1 2 3 4 5",
         "underscores": "1_0 2 30 40", "other digits": "\u0661 2 30 40", "hexadecimal": "0x1 2 30 40", "empty": "   "}  # fmt: skip
"""x0 y0 x1 y1; every reader must refuse each."""


def fault(reader: Reader, world, line: int, text: str):
    """The refusal of a reader's good file with one line replaced."""
    rows = (world / reader.place).read_text().splitlines()
    rows[line - 1] = text
    outcome = attempt(reader, world, "".join(f"{row}\n" for row in rows).encode("utf-8", "surrogateescape"))
    assert outcome.kind == "refused", outcome
    return outcome.message


def row(reader: str, path: str = "001.Red_Bird/bird_1.png", label: str = "0", box: str = "1 2 30 40") -> str:
    """A line as each list has it."""
    return {
        "cub-images": f"2 {path}", "wsoleval-image_ids": path, "wsoleval-class_labels": f"{path},{label}",
        "wsoleval-localization": f"{path},{','.join(box.split(' '))}", "folder-boxes": f"{path},{','.join(box.split(' '))}",
        "list-bas": f"{path};{label}", "list-bas-boxes": f"{box} 60 80", "list-spol": f"{path},{label},{box}",
        "list-dgl": "\t".join([path, label, *box.split(" ")]), "list-ts-cam": "\t".join([path, label, *box.split(" ")]),
    }[reader]  # fmt: skip


# ---------------------------------------------------------------------------------------------------------------- paths


@pytest.mark.parametrize("path", PATHS)
@pytest.mark.parametrize("reader", ["cub-images", "folder-boxes", "list-bas", "list-spol", "list-dgl", "list-ts-cam"])
def test_paths_that_leave_the_folder(world, reader, path):
    assert f"{BY_NAME[reader].place}:2: " in fault(BY_NAME[reader], world, 2, row(reader, path))


@pytest.mark.parametrize("path", PATHS)
def test_paths_that_leave_a_metadata_folder(world, path):
    reader = BY_NAME["wsoleval-image_ids"]
    labels = world / "metadata/test/class_labels.txt"
    kept = labels.read_text()
    labels.write_text(f"{kept}{path},0\n")
    try:
        rows = (world / reader.place).read_text()
        outcome = attempt(reader, world, f"{rows}{path}\n".encode())
    finally:
        labels.write_text(kept)
    assert outcome.kind == "refused"
    assert "image_ids.txt:7: path" in outcome.message


@pytest.mark.parametrize("wnid", ["../..", "/etc", "..", "a/../../b"])
def test_classes_that_leave_the_folder(tmp_path, wnid):
    """Their folders are listed, whatever lies in them."""
    (tmp_path / "ILSVRC" / "train" / "n01440764").mkdir(parents=True)
    (tmp_path / "secret.JPEG").touch()
    names = tmp_path / "ILSVRC" / "LOC_synset_mapping.txt"
    names.write_text(f"n01440764 tench\n{wnid} goldfish\n")
    assert "mapping.txt:2: the class" in refused(
        lambda: DataSource("ilsvrc", tmp_path / "ILSVRC", "train").load(), names
    )


def test_a_class_that_is_listed_twice(tmp_path):
    names = tmp_path / "LOC_synset_mapping.txt"
    names.write_text("n01440764 tench\nn01443537 goldfish\nn01440764 tench\n")
    assert "mapping.txt:3: n01440764 stands here twice" in refused(lambda: class_wnids(tmp_path), names)


@pytest.mark.parametrize(
    "name", [b"\xff.png", b"\x1b[2J.png", b"a\nb.png", "\u2028.png".encode(), "\u202e.png".encode()]
)
def test_names_on_the_disk_that_no_manifest_can_hold(tmp_path, name):
    (tmp_path / "images" / "a").mkdir(parents=True)
    open(os.path.join(os.fsencode(tmp_path / "images" / "a"), name), "wb").close()
    with pytest.raises(UserError, match="is not usable") as caught:
        DataSource("folder", tmp_path / "images", "all").load()
    assert printable(str(caught.value)) == str(caught.value)
    os.rename(tmp_path / "images" / "a", os.path.join(os.fsencode(tmp_path / "images"), name))
    with pytest.raises(UserError, match="is not usable"):
        DataSource("folder", tmp_path / "images", "all").load()


def test_links_in_the_image_folder_are_its_owners(tmp_path):
    """CUB and ILSVRC are often put together from links; what a *file* names is another matter, and refused above."""
    cub = small_cub.make(tmp_path / "CUB")
    (tmp_path / "elsewhere").mkdir()
    (cub / "images" / "001.Red_Bird").rename(tmp_path / "elsewhere" / "birds")
    (cub / "images" / "001.Red_Bird").symlink_to(tmp_path / "elsewhere" / "birds")
    assert all(sample.size == (80, 60) for sample in DataSource("cub", cub, "test").load())


@pytest.mark.parametrize(
    "path", ["./a.jpg", "a//b.jpg", "a/./b.jpg", "..a.jpg", "a b.jpg", "=1+1.jpg", "鳥/鳥.jpg", "%2e%2e/a.jpg"]
)
def test_odd_paths_that_are_fine(tmp_path, path):
    assert inside(tmp_path, path).is_relative_to(tmp_path)


# -------------------------------------------------------------------------------------------------------------- twice


@pytest.mark.parametrize("reader", ["list-bas", "list-spol", "list-dgl", "list-ts-cam"])
@pytest.mark.parametrize("same", ["001.Red_Bird/bird_1.png", "./001.Red_Bird/bird_1.png", "001.Red_Bird//bird_1.png"])
def test_an_image_that_stands_twice(world, reader, same):
    """A second line would be localized too, and its map written over the first one's."""
    assert "2: " in (message := fault(BY_NAME[reader], world, 2, row(reader, same)))
    assert "stands here twice, first in line 1" in message


def test_an_image_under_two_numbers(world):
    rows = (world / "cub/images.txt").read_text().splitlines()
    path = rows[1].split()[1]
    assert "images.txt:3: " in (message := fault(BY_NAME["cub-images"], world, 3, f"3 {path}"))
    assert "stands here twice, first in line 2" in message


def test_a_row_of_kaggles_solution_without_a_class(world):
    for text in (
        "ILSVRC2012_val_00000001",
        "ILSVRC2012_val_00000001,",
        "ILSVRC2012_val_00000001,n01440764 1 2 3 4,more",
    ):
        assert "LOC_val_solution.csv:2: " in fault(BY_NAME["ilsvrc-solution"], world, 2, text)
    assert "stands here twice" in fault(
        BY_NAME["ilsvrc-solution"], world, 1, "ILSVRC2012_val_00000001,n01440764 1 2 3 4"
    )


# -------------------------------------------------------------------------------------------------------------- boxes


@pytest.mark.parametrize("box", BOXES.values(), ids=BOXES)
@pytest.mark.parametrize(
    "reader", ["wsoleval-localization", "folder-boxes", "list-bas-boxes", "list-spol", "list-dgl", "list-ts-cam"]
)
def test_boxes_that_are_none(world, reader, box):
    text = row(reader, "001.Red_Bird/bird_2.png", box=box)
    if reader in ("list-dgl", "list-ts-cam", "folder-boxes") and box == "   ":
        text += "1"  # blanks alone say there that there is no box
    assert f"{BY_NAME[reader].place}:2: " in fault(BY_NAME[reader], world, 2, text)


@pytest.mark.parametrize(
    "box", ["nan 2 3 4", "1 2 inf 4", "1 2 0 4", "1 2 -3 4", "1 2 3", "a b c d", "1 2 1e300 4", "1_0 2 3 4"]
)
def test_boxes_of_cub_that_are_none(world, box):
    assert "bounding_boxes.txt:2: " in fault(BY_NAME["cub-bounding_boxes"], world, 2, f"2 {box}")


def test_a_negative_box_in_metadata(world):
    assert "inside out or negative" in fault(
        BY_NAME["wsoleval-localization"], world, 2, row("wsoleval-localization", box="-5 2 30 40")
    )


def test_a_box_outside_its_image_is_a_problem_of_prepare(tmp_path):
    cub = small_cub.make(tmp_path / "CUB")
    text = (cub / "bounding_boxes.txt").read_text().replace("1 0.0 2.0 30.0 40.0", "1 900.0 2.0 30.0 40.0")
    (cub / "bounding_boxes.txt").write_text(text)
    problems = check(Prepare("cub", cub, workers=1)).problems
    assert any("lies outside its 80 x 60 pixels" in problem for problem in problems)


def test_adls_training_lists_hold_sides(tmp_path):
    """Their `x y width height` looks like corners inside out, or, worse, does not."""
    for name, text, why in (
        ("train", "27\t0\t65\t47", "may be two corners"),
        ("test", "27\t0\t65\t47", "may be two corners"),
        ("val", "300\t50\t100\t80", "inside out"),
    ):
        path = tmp_path / f"{name}.txt"
        path.write_text(f"a.jpg\t0\t{text}\n")
        assert len(lists.load(tmp_path, path, "adl-cub", "test")) == 1
        refused(lambda: lists.load(tmp_path, path, "dgl", "test"), path, ".txt:1: ", why, "adl-cub")  # noqa: B023


# ------------------------------------------------------------------------------------------------------------- labels


@pytest.mark.parametrize(
    "label", ["-1", "1.0", "nan", "", "+1", "1_0", "\u0661", str(MAX_CLASSES), "999999999999", "9" * 5000]
)
@pytest.mark.parametrize("reader", ["list-bas", "list-spol", "list-dgl", "list-ts-cam", "wsoleval-class_labels"])
def test_labels_that_are_none(world, reader, label):
    """A label of a million millions would have as many class names made."""
    text = row(reader, "001.Red_Bird/bird_2.png", label)
    assert f"{BY_NAME[reader].place}:2: " in fault(BY_NAME[reader], world, 2, text)


@pytest.mark.parametrize("size", ["0,60", "-80,60", "80", "80.0,60", "80,60,3", "999999999999,60", ","])
def test_sizes_that_are_none(world, size):
    assert "image_sizes.txt:2: " in fault(BY_NAME["wsoleval-image_sizes"], world, 2, f"001.Red_Bird/bird_2.png,{size}")


# --------------------------------------------------------------------------------------------------------------- text

TEXTS = [reader for reader in readers.READERS if reader.place.endswith((".txt", ".csv"))]


@pytest.mark.parametrize("reader", TEXTS, ids=lambda reader: reader.name)
@pytest.mark.parametrize(
    "odd",
    ["\0", "\x1b[2J\x1b]0;owned\x07", "\x08", "\x7f", "\x85", "\u2028", "\u202e", "\ufeff", "\udcff\udcfe"],
    ids=ascii,
)
def test_characters_that_no_text_has(world, reader, odd):
    rows = (world / reader.place).read_text().splitlines()
    message = fault(reader, world, 2, rows[1] + odd)
    assert f"{reader.place}:2: " in message
    assert printable(message) == message


@pytest.mark.parametrize("reader", TEXTS, ids=lambda reader: reader.name)
def test_windows_text_is_read(world, reader):
    content = (world / reader.place).read_bytes()
    for changed in (
        b"\xef\xbb\xbf" + content,
        content.replace(b"\n", b"\r\n"),
        content.rstrip(b"\n"),
        content + b"\n\n",
    ):
        assert attempt(reader, world, changed).kind == "read"


@pytest.mark.parametrize("reader", TEXTS, ids=lambda reader: reader.name)
@pytest.mark.parametrize("encoding", ["utf-16", "utf-32"])
def test_other_encodings_are_refused(world, reader, encoding):
    content = (world / reader.place).read_text().encode(encoding)
    of_spreadsheets = reader.name.startswith("folder-") and encoding == "utf-16"
    assert attempt(reader, world, content).kind == ("read" if of_spreadsheets else "refused")


@pytest.mark.parametrize("reader", TEXTS, ids=lambda reader: reader.name)
@pytest.mark.parametrize("separator", [",", ";", " ", "\t"])
def test_a_line_of_a_million_columns(world, reader, separator):
    rows = (world / reader.place).read_text().splitlines()
    message = fault(reader, world, 2, f"1{separator}" * 1_000_000)
    assert f"{reader.place}:2: the line is longer than 100,000 characters" in message
    outcome = attempt(reader, world, "\n".join([rows[0], rows[1] + f"{separator}1" * 40_000, *rows[2:], ""]).encode())
    assert outcome.allowed, outcome  # classes may have any names, and a refusal is short


def test_the_line_that_is_not_utf_8_is_named_however_far_down(tmp_path):
    path = tmp_path / "list.txt"
    path.write_bytes(b"a.jpg 0\r\n" * 50_000 + b"b\xff.jpg 0\r\n")
    assert "list.txt:50001: " in refused(lambda: lists.read_dgl(path, on_problem=lambda problem: None), path)


@pytest.mark.parametrize("text", ['"a,b.jpg",1,2,3,4', '"a ""b"".jpg",1,2,3,4'])
def test_quoted_commas(tmp_path, text):
    (tmp_path / "a.csv").write_text(text)
    ((_, found),) = csv_rows(tmp_path / "a.csv")
    assert found[1:] == ["1", "2", "3", "4"]


@pytest.mark.parametrize("text", ['"a', '"a"b,1', 'a,"b\nc",1'])
def test_broken_quotes(tmp_path, text):
    (tmp_path / "a.csv").write_text(f"good,1\n{text}\n")
    assert "a.csv:2: not a row" in refused(lambda: list(csv_rows(tmp_path / "a.csv")), tmp_path / "a.csv")


def test_files_that_are_none(tmp_path):
    (tmp_path / "loop").symlink_to("loop")
    for path in (tmp_path, tmp_path / "gone", tmp_path / "loop", tmp_path / ("a" * 300)):
        refused(lambda path=path: list(lines(path)), path)


@pytest.mark.parametrize("text", ["1e5", "-3", "+2.5", ".5", "5.", "1E3"])
def test_numbers_that_are(tmp_path, text):
    assert numbers([text], where=tmp_path, what="x")[0] == float(text)


def test_messages_stay_short_and_plain(tmp_path):
    error = UserError("x" * 100_000 + "\x1b[31m\ud800\u202e", where="a\x07b")
    assert len(str(error)) < 500
    assert str(error).isprintable()
    refused(lambda: whole_number("9" * 90_000, where=tmp_path, line=1, least=0, what="it"), tmp_path)


# ---------------------------------------------------------------------------------------------------------------- XML

_TENFOLD = "".join(f'<!ENTITY {chr(98 + n)} "{f"&{chr(97 + n)};" * 10}">' for n in range(9))
ENTITIES = f'<!DOCTYPE a [<!ENTITY a "ha">{_TENFOLD}]>'
OBJECT = "<annotation><object><name>%s</name><bndbox><xmin>1</xmin><ymin>2</ymin><xmax>3</xmax><ymax>4</ymax></bndbox></object></annotation>"
XML = {
    "billion laughs": ENTITIES + OBJECT % "&j;",
    "external entity": '<!DOCTYPE a [<!ENTITY x SYSTEM "file:///etc/passwd">]>' + OBJECT % "&x;",
    "external entity by http": '<!DOCTYPE a [<!ENTITY x SYSTEM "http://127.0.0.1:9/">]>' + OBJECT % "&x;",
    "parameter entity": '<!DOCTYPE a [<!ENTITY % x SYSTEM "file:///etc/passwd"> %x;]><annotation/>',
    "external type": '<!DOCTYPE a SYSTEM "http://127.0.0.1:9/a.dtd"><annotation/>',
    "unknown encoding": '<?xml version="1.0" encoding="evil"?><annotation/>',
    "utf-7": '<?xml version="1.0" encoding="utf-7"?>+ADwAIQ-DOCTYPE a+AFs-',
    "cut": (OBJECT % "n01440764")[:60], "nothing": "", "text": "n01440764 1 2 3 4", "NUL": "<annotation>\0</annotation>",
    "no corner": OBJECT.replace("<xmin>1</xmin>", "") % "n01440764", "words": OBJECT.replace(">1<", ">a<") % "n01440764",
    "NaN": OBJECT.replace(">1<", ">nan<") % "n01440764", "infinite": OBJECT.replace(">3<", ">inf<") % "n01440764",
    "reversed": OBJECT.replace(">3<", ">0<") % "n01440764", "huge": OBJECT.replace(">3<", ">1e300<") % "n01440764",
}  # fmt: skip


@pytest.mark.parametrize("text", XML.values(), ids=XML)
def test_annotations_that_are_none(tmp_path, text):
    path = tmp_path / "a.xml"
    path.write_text(text)
    message = refused(lambda: read_annotation(path), path)
    assert "root:" not in message  # of /etc/passwd


def test_elements_in_elements_in_elements(tmp_path):
    path = tmp_path / "a.xml"
    path.write_text("<a>" * 200_000 + "</a>" * 200_000)
    assert read_annotation(path) == []


# --------------------------------------------------------------------------------------------------------------- JSON


@pytest.mark.parametrize("text", [
    "[" * 100_000, '{"a":' * 100_000, "1" * 100_000, '"\\ud800"', '{"\\udfff": 1}', "nul", "", "\ufeff{}", "{} {}", "{'a': 1}", '{"a": 1,}', '"\x01"',
])  # fmt: skip
def test_json_that_is_none(tmp_path, text):
    path = tmp_path / "a.json"
    path.write_text(text)
    refused(lambda: read_json(path), path, "not a JSON file")


def test_pairs_of_surrogates_are_one_character():
    assert parse_json('"\\ud83d\\udc26"') == "\U0001f426"


VALUES = (None, True, -1, 10**400, 1.5, float("nan"), "", "x", "\x1b[2J", [], [5], {}, {"a": 1})


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    folder = tmp_path_factory.mktemp("run")
    return runs.write(folder / "run", DataSource("cub", small_cub.make(folder / "CUB"), "test"), maps=False)


def survives(call):
    """`call` gives something or refuses in one line; anything else is a traceback."""
    try:
        call()
    except UserError as problem:
        message = str(problem)
    else:
        return
    assert printable(message) == message
    assert len(message) < 2000


@pytest.mark.parametrize("name", ["format", "method", "architecture", "data", "checkpoint", "classifier", "frame", "options", "processes",
                                  "counts", "complete"])  # fmt: skip
def test_every_entry_of_a_manifest_may_be_anything(run, name):
    path = run / "manifest.json"
    good = path.read_text()
    try:
        for value in (..., *VALUES):
            manifest = json.loads(good)
            manifest.pop(name)
            path.write_text(json.dumps(manifest if value is ... else {**manifest, name: value}))
            survives(lambda: evaluate(Evaluate((run,), protocols=("wsoleval-v1",), workers=1)))
            survives(lambda: PredictionsWriter(run, {"method": "cam"}).close())
            path.write_text(json.dumps(manifest if value is ... else {**manifest, name: value}))
            survives(lambda: Predictions.open(run, incomplete=True))
    finally:
        path.write_text(good)


@pytest.mark.parametrize("name", ["name", "root", "split", "classes", "held_per_class", "metadata", "boxes", "list_file", "list_format",
                                  "leave_out", "fingerprint", "images", "left_out"])  # fmt: skip
def test_every_field_of_a_manifests_data_may_be_anything(run, name):
    path = run / "manifest.json"
    good = path.read_text()
    try:
        for value in (..., *VALUES, "../..", "/etc", "a\0b"):
            manifest = json.loads(good)
            manifest["data"].pop(name)
            manifest["data"] |= {} if value is ... else {name: value}
            path.write_text(json.dumps(manifest))
            survives(lambda: evaluate(Evaluate((run,), protocols=("wsoleval-v1",), workers=1)))
    finally:
        path.write_text(good)


@pytest.mark.parametrize(("change", "message"), [
    ({"label": 10**30}, "has label"), ({"label": 2}, "has label 2; expected 0"), ({"size": [10**400, 60]}, "size is"),
    ({"top5": [-1]}, "top5 is"), ({"top5": [10**400]}, "top5 is"), ({"top5_scores": [0.5]}, "top5_scores is"),
    ({"top5_scores": [10**400] * 3}, "top5_scores is"), ({"box": [0, 0, 1, 10**400]}, "box is"), ({"box": [0, 0, 1, 1e300]}, "box is"),
    ({"threshold": 10**400}, "threshold is"), ({"image_id": "../../evil"}, "path '../../evil' is not usable"),
    ({"image_id": "\ud800"}, "not a line of JSON"), ({"image_id": "\x1b[2J"}, "is not usable"),
    ({"frame": {"original": [80, 60], "resized": [10**9, 10**9], "crop": [0, 0, 224, 224]}}, "is too large"),
    ({"frame": {"original": [80, 60], "resized": [10**400, 1], "crop": [0, 0, 1, 1]}}, "is too large"),
    ({"frame": {"original": [80, 60], "resized": [256, 256], "crop": [200, 0, 224, 224]}}, "leaves the image"),
    ({"frame": {"original": [80, 60], "resized": [224, 224], "crop": [-5, 0, 224, 224]}}, "leaves the image"),
    ({"frame": {"original": [80, 60], "resized": [256, 256], "crop": [16, 16, 224, 224]}}, "expected the manifest's 'resize 224'"),
])  # fmt: skip
def test_lines_of_predictions_that_lie(run, change, message):
    path = run / "predictions.jsonl"
    good = path.read_text()
    first, *rest = good.splitlines()
    try:
        path.write_text("\n".join([json.dumps({**json.loads(first), **change}), *rest, ""]))
        with pytest.raises(UserError) as caught:
            evaluate(Evaluate((run,), protocols=("wsoleval-v1",), workers=1))
        assert message in str(caught.value)
    finally:
        path.write_text(good)


def test_a_line_of_predictions_without_an_end(run):
    path = run / "predictions.jsonl"
    good = path.read_text()
    try:
        for content in (good + "x" * 2_000_000, good + "\udcff\n"):
            path.write_bytes(content.encode("utf-8", "surrogateescape"))
            assert "predictions.jsonl:7: " in refused(lambda: Predictions.open(run), path)
    finally:
        path.write_text(good)


def test_tables_show_no_control_characters():
    table = render([["a"], ["\x1b[2J\x07"], ["b\nc"]], "text")
    assert table.replace("\n", "").isprintable()
    assert len(table.splitlines()) == 4


def test_a_record_of_demo_data_that_is_none(tmp_path):
    from common.datasets import demo

    (tmp_path / demo.RECORD).write_text("[]")
    refused(lambda: demo.render(tmp_path), tmp_path, "other demo data")


def test_metadata_whose_commas_could_be_two_images_are_not_written(tmp_path):
    """A box of `a` would be a mask of `a,1,2`."""
    from dataclasses import replace

    dataset = DataSource("cub", small_cub.make(tmp_path / "CUB"), "test").load()
    named = (replace(sample, image_id=name) for sample, name in zip(dataset, ("a", "a,2,2"), strict=False))
    with pytest.raises(UserError, match="the line may be"):
        wsoleval.write(replace(dataset, samples=tuple(named)), tmp_path / "metadata")
    assert not (tmp_path / "metadata").exists()
