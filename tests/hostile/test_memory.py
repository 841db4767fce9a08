"""Small files that ask for gigabytes: refused, or read, within a limit of memory and time."""

import io
import json
import os
import struct
import subprocess
import sys
import zipfile
import zlib
from collections.abc import Callable

import numpy as np
import pytest
from PIL import Image

from tests.conftest import ROOT
from tests.hostile import readers
from tests.hostile.test_images import chunk, gif, png, tiff
from tests.hostile.test_maps import lying


def archive(*members: tuple[str, bytes]) -> bytes:
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", zipfile.ZIP_DEFLATED) as opened:
        for name, content in members:
            opened.writestr(name, content)
    return buffer.getvalue()


def zeros(width: int, height: int, depth: int) -> bytes:
    """A PNG of zeros, a thousandth of what it unpacks to."""
    packer = zlib.compressobj(1)
    row = bytes(1 + width * depth // 8)
    data = b"".join(packer.compress(row * 100) for _ in range(height // 100)) + packer.flush()
    header = chunk(b"IHDR", struct.pack(">IIBBBBB", width, height, depth, 0, 0, 0, 0))
    return b"\x89PNG\r\n\x1a\n" + header + chunk(b"IDAT", data) + chunk(b"IEND", b"")


def frames(width: int, height: int) -> bytes:
    """A GIF whose first picture is small and whose later ones are not looked at."""
    buffer = io.BytesIO()
    Image.new("P", (8, 8)).save(
        buffer, format="GIF", save_all=True, append_images=[Image.new("P", (8, 8), n) for n in range(50)]
    )
    return buffer.getvalue().replace(struct.pack("<HH", 8, 8), struct.pack("<HH", width, height), 1)


def repeated(content: bytes) -> bytes:
    return content * (200_000 // len(content))


CASES: dict[str, tuple[str, Callable[[], bytes], str]] = {
    "a png of 10^8 pixels": ("image-grey.png", lambda: zeros(10_000, 10_000, 8), "read"),
    "a png of 9 * 10^7 pixels of 16 bits": ("image-deep.png", lambda: zeros(9_000, 9_000, 16), "read"),
    "a png of 3.6 * 10^9 pixels": ("image-grey.png", lambda: png(60_000, 60_000), "refused"),
    "text in a png": ("image-grey.png", lambda: png(4, 4, *[chunk(b"zTXt", b"a\0\0" + zlib.compress(bytes(2**26)))] * 3), "refused"),
    "a colour profile in a png": ("image-grey.png", lambda: png(4, 4, chunk(b"iCCP", b"a\0\0" + zlib.compress(bytes(2**27)))), "refused"),
    "a gif's screen": ("image-moving.gif", lambda: gif(65_535, 65_535), "refused"),
    "a gif's screen, and pictures": ("image-moving.gif", lambda: frames(20_000, 20_000), "refused"),
    "a tiff": ("image-plain.tif", lambda: tiff(2**31, 2**31), "refused"),
    "a tiff's channels": ("image-plain.tif", lambda: tiff(9_000, 9_000, 8, 60_000), "refused"),
    "a map's shape": ("map", lambda: lying(shape="(1000000, 1000000)"), "refused"),
    "a map's length": ("map", lambda: lying(shape="(4398046511104,)"), "refused"),
    "a million labels": ("list-dgl", lambda: b"a.jpg 999999999999\n", "refused"),
    "json in json": ("manifest", lambda: b"[" * 10_000_000, "refused"),
    "a line without an end": ("predictions", lambda: b"x" * 50_000_000, "refused"),
    "a list without lines": ("list-spol", lambda: b"x" * 50_000_000, "refused"),
    "a list of another encoding without lines": ("list-spol", lambda: b"x" * 50_000_000 + b"\xff", "refused"),
}  # fmt: skip
if readers.TENSORFLOW:
    from tests.hostile import bundle

    CASES |= {
        "zeros in an npz": ("dgl-npz", lambda: archive(("linear/W.npy", bytes(2**28))), "refused"),
        "a shape in an npz": ("dgl-npz", lambda: archive(("linear/W.npy", lying(shape="(1000000, 1000000)"))), "refused"),
        "an array in an index": ("dgl-index", lambda: bundle.index({"linear/W": bundle.entry((2**38,), 2**40)}), "refused"),
        "a footer of an index": ("dgl-index", lambda: bundle.table(bundle.block([]), footer=(0, 2**40)), "refused"),
        "a block of an index": ("dgl-index", lambda: bundle.table(bundle.varint(2**32 - 1) + bytes(9), compression=1), "refused"),
        "a safetensors header": ("dgl-safetensors", lambda: struct.pack("<Q", 2**40) + b"{}", "refused"),
    }  # fmt: skip
if readers.TORCH:
    CASES |= {
        "an array in a pickle": (
            "verdicts-npy", lambda: lying("'|O'", "()", b"cnumpy\nndarray\n((I10000000000\ntS'O'\ntR."), "refused"),
        "repetitions in a pickle": ("verdicts-npy", lambda: lying("'|O'", "()", b"\x80\x02}(t" + b"2\x86" * 60 + b"\x88s."), "refused"),
        "a zip in a pth": ("torch-zip", lambda: archive(("archive/data.pkl", bytes(2**28)), ("archive/version", b"3\n")), "refused"),
    }  # fmt: skip


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="the limit is read from /proc")
def test_small_files_that_ask_for_gigabytes(tmp_path):
    """Under 1.5 GiB beyond what the process has; a MemoryError is a crash."""
    arguments = []
    for number, (reader, make, _) in enumerate(CASES.values()):
        (tmp_path / str(number)).write_bytes(make())
        arguments.append(f"{reader}={tmp_path / str(number)}")
    done = subprocess.run([sys.executable, "-m", "tests.hostile.limited", *arguments], capture_output=True, text=True, cwd=ROOT,
                          env={**os.environ, "TF_CPP_MIN_LOG_LEVEL": "3"}, check=True)  # fmt: skip
    found = [json.loads(line) for line in done.stdout.splitlines() if line.startswith("{")]
    assert len(found) == len(CASES) + 1
    assert found.pop() == {"kind": "limited", "message": ""}
    faults = {
        name: outcome
        for (name, (_, _, expected)), outcome in zip(CASES.items(), found, strict=True)
        if outcome["kind"] != expected
    }
    assert faults == {}


def test_the_cases_hold_what_they_say():
    """Decoded where nothing limits it, a bomb's first bytes are zeros: they are refused for their size, not for damage."""
    content = zeros(1_000, 1_000, 8)
    assert np.asarray(Image.open(io.BytesIO(content))).max() == 0
    assert len(zeros(10_000, 10_000, 8)) < 10**6
