"""Errors that the user can mend, and how a command says them."""

import errno
import os
import re
import signal
import sys
import threading
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import InvalidStateError
from concurrent.futures.process import BrokenProcessPool
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NoReturn

AGAIN = "give the same command again, which continues where this one ended"
STOPPED = "stopped; the same command continues where this one ended"
_STOPPING = (signal.SIGINT, signal.SIGTERM)
_DISK = {errno.ENOSPC, errno.EDQUOT, errno.EROFS, errno.EACCES, errno.EPERM, errno.EFBIG, errno.EIO}
_LOST_WORKER = re.compile(r"DataLoader worker \(pid.*(killed by signal|exited unexpectedly)", re.DOTALL)

LONGEST_FOUND, LONGEST_NAME, LONGEST_PATH = 400, 240, 2000
"""Characters of a message's first part; bytes of a file's name, so that an ending still fits; characters of a path."""
UNPRINTABLE = re.compile("[\x00-\x1f\x7f-\x9f\u2028\u2029\u202a-\u202e\u2066-\u2069\ud800-\udfff\ufeff]")
"""Control characters, those that end a line or turn its direction in Unicode, a byte-order mark, halves of pairs."""


class UserError(Exception):
    """Something the person at the keyboard can mend; every command prints it as one line and exits with 2.

    Args:
        found: what is wrong, as found ("label 207 is out of range").
        where: the file or folder it was found in.
        line: 1-based line number in that file.
        expected: what should have been there ("0 to 199").
        do: what to do about it, an imperative sentence without its full stop.
    """

    def __init__(
        self,
        found: str,
        *,
        where: str | os.PathLike | None = None,
        line: int | None = None,
        expected: str | None = None,
        do: str | None = None,
    ):
        self.found, self.where, self.line, self.expected, self.do = found, where, line, expected, do
        place = f"{where}:{line}: " if line is not None else f"{where}: " if where is not None else ""
        message = place + (found if len(found) <= LONGEST_FOUND else f"{found[: LONGEST_FOUND - 4]} ...")
        if expected:
            message += f"; expected {expected}"
        if do:
            message += f". {do[0].upper()}{do[1:]}."
        super().__init__(printable(" ".join(message.split())))


def printable(text: str) -> str:
    """`text` with an escape for everything that a terminal obeys, or that ends the line, or that UTF-8 can't hold."""
    return UNPRINTABLE.sub(lambda match: ascii(match[0])[1:-1], text)


def say(texts: Iterable[str]) -> None:
    """Print lines on stderr, each once in a process however often it is said."""
    for text in map(printable, texts):
        if text not in _SAID:
            _SAID.add(text)
            print(text, file=sys.stderr)


_SAID: set[str] = set()


def run_command(main: Callable[[], int | None]) -> NoReturn:
    """Run a command's `main` and leave the process with its status.

    A `UserError` becomes one line on stderr and status 2, and so does what a disk, or a process that was killed, did to
    it. Ctrl-C gives one line and status 130, SIGTERM the same and 143, since every long command resumes; a closed pipe
    ends quietly. Any other exception is a programming error and keeps its traceback.
    """
    stops: list[int] = []
    with _signals_noted(stops):
        try:
            status = main() or 0
            sys.stdout.flush()
        except BrokenPipeError:
            os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
            status = 141
        except (Exception, KeyboardInterrupt) as error:
            if stops or isinstance(error, KeyboardInterrupt):
                message, status = STOPPED, 128 + (stops or [signal.SIGINT])[0]
            elif (text := mendable(error)) is not None:
                message, status = f"error: {text}", 2
            else:
                raise
            print(message, file=sys.stderr)
    sys.exit(status)


def end_when_stopped() -> None:
    """Let Ctrl-C, SIGTERM and what a user can mend end the process with one line from here on, in place of a traceback
    from wherever its imports are. `run_command` takes over as long as it lasts.
    """

    def stop(number: int, _frame: Any) -> None:
        # Nothing is raised, for libraries catch much while they are imported; and nothing has been written yet.
        os.write(2, f"{STOPPED}\n".encode())
        os._exit(128 + number)

    def ended(kind: type[BaseException], error: BaseException, trace: Any) -> None:
        if not isinstance(error, UserError):
            sys.__excepthook__(kind, error, trace)
            return
        print(f"error: {error}", file=sys.stderr, flush=True)
        os._exit(2)

    sys.excepthook = ended
    for each in _STOPPING:
        if signal.getsignal(each) != signal.SIG_IGN:
            signal.signal(each, stop)


@contextmanager
def _signals_noted(stops: list[int]) -> Iterator[None]:
    """SIGINT and SIGTERM raise `KeyboardInterrupt` in this process and are added to `stops`; a second one ends it at
    once. Processes that it forks leave Ctrl-C, which reaches them too, to this one, and end quietly on SIGTERM.
    """
    owner = os.getpid()

    def stop(number: int, _frame: Any) -> None:
        if os.getpid() != owner:
            if number == signal.SIGTERM:
                signal.signal(number, signal.SIG_DFL)
                os.kill(os.getpid(), number)
            return
        for each in _STOPPING:
            signal.signal(each, signal.SIG_DFL)
        # PyTorch's handler would raise an error of its own for each loading process that the same signal ended.
        signal.signal(signal.SIGCHLD, signal.SIG_DFL)
        stops.append(number)
        raise KeyboardInterrupt

    def lost(unraisable: Any) -> None:
        """Python drops what is raised in a destructor or while it forks: the stop is raised again a moment later. What
        else goes wrong there by then is the stop's doing, and a loader's lost process is found again when missed.
        """
        if _LOST_WORKER.match(str(unraisable.exc_value)):
            return
        if not stops or os.getpid() != owner:
            hook(unraisable)
        elif issubclass(unraisable.exc_type, KeyboardInterrupt):
            signal.signal(stops[0], stop)
            again.append(threading.Timer(0.05, os.kill, (owner, stops[0])))
            again[-1].start()

    def in_a_thread(problem: threading.ExceptHookArgs) -> None:
        """Hide an error of Python 3.11's own making: of a pool that loses a process while its work is cancelled."""
        if not stops and not (problem.exc_type and issubclass(problem.exc_type, InvalidStateError)):
            thread_hook(problem)

    def uncaught(kind: type[BaseException], error: BaseException, trace: Any) -> None:
        """A process of a loader would show at length that this one, to which it was sending an image, is gone."""
        if os.getpid() == owner or not issubclass(kind, ConnectionError | EOFError):
            error_hook(kind, error, trace)

    again: list[threading.Timer] = []
    error_hook, sys.excepthook = sys.excepthook, uncaught
    hook, sys.unraisablehook = sys.unraisablehook, lost
    thread_hook, threading.excepthook = threading.excepthook, in_a_thread
    # What was ignored, as under nohup or in a shell's background, stays ignored.
    before = {each: signal.getsignal(each) for each in _STOPPING if signal.getsignal(each) != signal.SIG_IGN}
    for each in before:
        signal.signal(each, stop)
    try:
        yield
    finally:
        for timer in again:
            timer.cancel()
        sys.excepthook, sys.unraisablehook, threading.excepthook = error_hook, hook, thread_hook
        for each, handler in before.items():
            signal.signal(each, handler)


def mendable(error: BaseException) -> str | None:
    """Message to the user about an error that the machine is to blame for; None for a programming error."""
    if isinstance(error, UserError):
        return str(error)
    if isinstance(error, OSError) and error.errno in _DISK:
        return str(UserError(error.strerror or str(error), where=error.filename, do=f"mend that, then {AGAIN}"))
    if isinstance(error, BrokenProcessPool) or (isinstance(error, RuntimeError) and _LOST_WORKER.match(str(error))):
        return str(UserError("one of the command's other processes was killed, or could not send what it made",
                             expected="enough memory for all, in /dev/shm too",
                             do=f"{AGAIN}, with fewer workers"))  # fmt: skip
    return None


def inside(root: Path, relative: str, *, where: str | os.PathLike | None = None, line: int | None = None) -> Path:
    """The path `root/relative`, refused when it leaves `root`. Links in `root` are its owner's, and are followed.

    Args:
        root: the folder that paths from a data file are relative to.
        relative: such a path, with `/`.
        where, line: the data file and line it stands in, for the message.

    Raises:
        UserError: the path is absolute, names no file, is too long for one, holds a control character, or climbs out
            of `root` with `..`.
    """
    parts = relative.split("/")
    bad = (
        parts[-1] in ("", ".")
        or relative.startswith("/")
        or "\\" in relative
        or ".." in parts
        or (len(relative) > 1 and relative[1] == ":")
        or UNPRINTABLE.search(relative)
        or len(relative) > LONGEST_PATH
        or max(len(part.encode()) for part in parts) > LONGEST_NAME
    )
    if bad:
        backslash = "\\" in relative and not relative.startswith("\\")
        mends = (
            ("write / in place of \\", backslash),
            ("write it relative to that folder", relative.startswith("/")),
            ("give it a name in UTF-8, or where it has one, set PYTHONUTF8=1", re.search("[\ud800-\udfff]", relative)),
        )
        raise UserError(f"path {relative!r} is not usable", where=where, line=line,
                        expected=f"a path that stays inside {root}",
                        do=next((do for do, fits in mends if fits), None))  # fmt: skip
    return Path(root, *parts)
