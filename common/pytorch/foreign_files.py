"""Files that lie about under a checkpoint's name and are none, told by what they begin with or hold."""

import re
import zipfile
from pathlib import Path

from common.system.errors import UserError

_SAVE = "save the network's state_dict() with torch.save"
_BEGINNINGS = (
    (b"\x89hdf\r\n\x1a\n", "an HDF5 file, as Keras writes", _SAVE),
    (b"version https://git-lfs", "a pointer of Git LFS in the file's place", "fetch the file itself: git lfs pull"),
    (b"<!doctype html", "a web page in the file's place", "fetch the file again"),
    (b"<html", "a web page in the file's place", "fetch the file again"),
)
"""First bytes, in small letters; what the file is; what to do."""
_MEMBERS = (
    (re.compile(r"([^/]+/)?constants\.pkl"), "a TorchScript network", _SAVE),
    (re.compile(r"model\.weights\.h5"), "a network of Keras", _SAVE),
    (re.compile(r"[^/]+\.npy"), "arrays of numpy", "make tensors of them and save these by name with torch.save"),
)
"""Names of members of a zip that is no checkpoint."""
_GRAPHS = (".onnx", ".tflite", ".pb")


def refuse(path: Path) -> None:
    """Refuse a file that is known to be something else than a checkpoint.

    Raises:
        UserError: it is; says what it is.
    """
    if not path.is_file():
        return
    with open(path, "rb") as file:
        start = file.read(32)
    if not start:
        raise UserError("the file is empty", where=path, do="fetch it again")
    found = [(what, do) for beginning, what, do in _BEGINNINGS if start.lower().startswith(beginning)]
    if path.suffix.lower() in _GRAPHS:
        found = [(f"a graph of another library ({path.suffix.lower()})", _SAVE)]
    if start.startswith(b"PK\x03\x04"):
        names = _members(path)
        found = [(what, do) for pattern, what, do in _MEMBERS if any(map(pattern.fullmatch, names))]
    if found:
        what, do = found[0]
        raise UserError(what, where=path, expected="what torch.save writes, or safetensors", do=do)


def _members(path: Path) -> list[str]:
    try:
        with zipfile.ZipFile(path) as archive:
            return archive.namelist()
    except Exception:  # a damaged one, which torch's own reader will say
        return []
