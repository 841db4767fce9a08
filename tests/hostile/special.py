"""Puts what is no file in every reader's place, under a limit of memory and time, and prints what became of each as a line
of JSON.

    python -m tests.hostile.special

A process of its own, as `limited` is, and because a library that waits for a pipe can't be stopped otherwise.
"""

import dataclasses
import json
import os
import resource
import signal
import socket
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

from tests.hostile import readers
from tests.hostile.limited import MORE, mapped

SECONDS = 20
"""After which a reader waits for ever."""


def _socket(path: Path) -> None:
    with socket.socket(socket.AF_UNIX) as opened:
        before = Path.cwd()
        os.chdir(path.parent)  # a socket's path holds no more than 107 bytes
        opened.bind(path.name)
        os.chdir(before)


def _linked_pipe(path: Path) -> None:
    target = Path(tempfile.mkdtemp()) / "pipe"
    os.mkfifo(target)
    path.symlink_to(target)


KINDS: dict[str, Callable[[Path], Any]] = {
    "pipe": os.mkfifo,
    "link to a pipe": _linked_pipe,
    "socket": _socket,
    "link to a device": lambda path: path.symlink_to("/dev/zero"),
    "folder": Path.mkdir,
    "link to itself": lambda path: path.symlink_to(path.name),
}


def _waited(*_: Any) -> None:
    raise TimeoutError(f"it waited for {SECONDS} s")


def main() -> None:
    """Every reader, every kind; a run that goes on is copied by its reader, and tested for itself."""
    signal.signal(signal.SIGALRM, _waited)
    with tempfile.TemporaryDirectory() as folder:
        tempfile.tempdir = folder
        world = readers.make_world(Path(folder) / "world")
        for reader in readers.READERS:
            if reader.name.endswith("-resumed"):
                continue
            assert readers.attempt(reader, world, (world / reader.place).read_bytes()).kind == "read"
            for kind, put in KINDS.items():
                resource.setrlimit(resource.RLIMIT_AS, (mapped() + MORE, resource.RLIM_INFINITY))
                signal.alarm(SECONDS)
                named = dataclasses.replace(reader, names=readers.Names.WORLD)
                outcome = readers.attempt_with(named, world, put)
                signal.alarm(0)
                resource.setrlimit(resource.RLIMIT_AS, (resource.RLIM_INFINITY, resource.RLIM_INFINITY))
                print(json.dumps([reader.name, kind, outcome.kind, outcome.message]), flush=True)


if __name__ == "__main__":
    main()
