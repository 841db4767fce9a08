"""What a folder holds, file by file, in a form that is equal for two runs that did the same.

    python -m tests.faults.digest FOLDER OUT.json

Checkpoints by value, bit for bit; JSON without what says when, where and how long; anything else by its bytes.
"""

import hashlib
import json
import re
import sys
from pathlib import Path
from typing import Any

import numpy as np

NOT_COMPARED = ("log.log", "stats.json", "out/graph-", "events.out.tfevents.", "out/checkpoint")
"""tensorpack's own: its log, curves and graphs with their clocks, and TensorFlow's list of checkpoints with its clock."""
OF_A_PROCESS = {"processes", "versions", "git_commit", "machine", "command", "seconds"}
TENSORFLOW = re.compile(r"\.(index|data-\d{5}-of-\d{5})$")


def digest(folder: Path) -> dict[str, str]:
    """A text for each file below `folder`, by relative path; a checkpoint of TensorFlow's is one file."""
    found = {}
    for path in sorted(folder.rglob("*")):
        name = path.relative_to(folder).as_posix()
        if path.is_symlink():
            found[name] = f"link to {path.readlink()}"
        elif path.is_file() and not any(part in name for part in NOT_COMPARED):
            try:
                found[TENSORFLOW.sub("", name)] = of_file(path)
            except Exception as problem:
                found[name] = f"unreadable: {type(problem).__name__}: {problem}"
    return found


def of_file(path: Path) -> str:
    if path.suffix == ".pth" or re.fullmatch(r"model-\d+", path.name):
        import torch

        return _hash(torch.load(path, map_location="cpu", weights_only=True))
    if path.suffix == ".npz":
        with np.load(path, allow_pickle=False) as arrays:
            return _hash(dict(arrays))
    if TENSORFLOW.search(path.name):
        import tensorflow.compat.v1 as tf

        reader = tf.train.load_checkpoint(TENSORFLOW.sub("", str(path)))
        return _hash({name: reader.get_tensor(name) for name in reader.get_variable_to_shape_map()})
    if path.suffix == ".json":
        return _hash(_timeless(json.loads(path.read_text(encoding="utf-8"))))
    if path.suffix == ".jsonl":
        return _hash([_timeless(json.loads(line)) for line in path.read_text(encoding="utf-8").splitlines()])
    return hashlib.sha256(path.read_bytes()).hexdigest()


def _timeless(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _timeless(item) for key, item in value.items() if key not in OF_A_PROCESS}
    return [_timeless(item) for item in value] if isinstance(value, list) else value


def _hash(value: Any) -> str:
    known = hashlib.sha256()
    _feed(known, value)
    return known.hexdigest()


def _feed(known: Any, value: Any) -> None:
    if isinstance(value, dict):
        for key in sorted(value, key=str):
            known.update(f"{key}:".encode())
            _feed(known, value[key])
    elif isinstance(value, list | tuple):
        known.update(f"[{len(value)}".encode())
        for item in value:
            _feed(known, item)
    elif hasattr(value, "dtype"):
        array = np.ascontiguousarray(value.numpy() if hasattr(value, "numpy") else value)
        known.update(f"{array.dtype}{array.shape}".encode())
        known.update(array.tobytes())
    else:
        known.update(repr(value).encode())


if __name__ == "__main__":
    Path(sys.argv[2]).write_text(json.dumps(digest(Path(sys.argv[1]))))
