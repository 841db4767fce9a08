"""What the user can mend, and how a command says it."""

import os
import sys
from collections.abc import Callable
from pathlib import Path
from typing import NoReturn


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
        message = place + found
        if expected:
            message += f"; expected {expected}"
        if do:
            message += f". {do[0].upper()}{do[1:]}."
        super().__init__(" ".join(message.split()))


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
    """The path `root/relative`, refused when it leaves `root`.

    Args:
        root: the folder that paths from a data file are relative to.
        relative: such a path, with `/`.
        where, line: the data file and line it stands in, for the message.

    Raises:
        UserError: the path is absolute, empty, holds a control character, or climbs out of `root` with `..`.
    """
    parts = relative.split("/")
    bad = (
        not relative
        or relative.startswith("/")
        or "\\" in relative
        or ".." in parts
        or (len(relative) > 1 and relative[1] == ":")
        or any(ord(character) < 32 for character in relative)
    )
    if bad:
        raise UserError(
            f"path {relative!r} is not usable", where=where, line=line, expected=f"a path that stays inside {root}"
        )
    return Path(root, *parts)
