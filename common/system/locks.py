"""Locks on folders that are being written to; they end with the process that holds them, however it ends."""

import fcntl
import os
from pathlib import Path

from common.system.errors import UserError
from common.system.files import writing

_held: dict[Path, int] = {}


def hold(folder: Path) -> None:
    """Make `folder` this process's to write to, until `release` or the process's end; it is made if need be.

    A process may hold a folder several times. A file system without locks grants it to everybody.

    Raises:
        UserError: another process writes there, or the place can't be written to.
    """
    with writing(folder):
        folder.mkdir(parents=True, exist_ok=True)
        place = folder.resolve()
        if place in _held:
            return
        handle = os.open(place, os.O_RDONLY)
    try:
        fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        os.close(handle)
        raise UserError("another process is writing to this folder", where=folder,
                        do="wait until it has ended, or choose another --out") from None  # fmt: skip
    except OSError:  # network file systems may have no locks on folders
        os.close(handle)
        return
    _held[place] = handle


def release(folder: Path) -> None:
    """Let other processes write to `folder`."""
    handle = _held.pop(folder.resolve(), None)
    if handle is not None:
        os.close(handle)


def _forget() -> None:
    """Forget the lock in a forked process: it is the parent's, and must not outlive it."""
    for handle in _held.values():
        os.close(handle)
    _held.clear()


os.register_at_fork(after_in_child=_forget)
