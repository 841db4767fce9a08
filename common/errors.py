"""What the user can mend, and how a command says it."""

import os
import re
import sys
from collections.abc import Callable
from pathlib import Path
from typing import NoReturn

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


def run_command(main: Callable[[], int | None]) -> NoReturn:
    """Run a command's `main` and leave the process with its status.

    A `UserError` becomes one line on stderr and status 2; Ctrl-C one line and status 130, since every long command
    resumes; a closed pipe ends quietly. Any other exception is a programming error and keeps its traceback.
    """
    try:
        status = main() or 0
        sys.stdout.flush()
    except UserError as error:
        print(f"error: {error}", file=sys.stderr)
        status = 2
    except KeyboardInterrupt:
        print("stopped; the same command continues where this one ended", file=sys.stderr)
        status = 130
    except BrokenPipeError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        status = 141
    sys.exit(status)


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
        raise UserError(
            f"path {relative!r} is not usable", where=where, line=line, expected=f"a path that stays inside {root}"
        )
    return Path(root, *parts)
