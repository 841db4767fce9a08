"""Text, tables, XML and JSON that somebody else wrote: characters, encodings, quotes, entities, and what is no number."""

import pytest

from common.datasets.files.text import csv_rows, lines, numbers, whole_number
from common.datasets.files.xml_files import read_annotation
from common.datasets.layouts import lists
from common.system.errors import UserError, printable
from common.system.files import parse_json, read_json
from tests.hostile import readers
from tests.hostile.payloads import refused
from tests.hostile.readers import attempt, fault

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
