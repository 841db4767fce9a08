"""Files that are whole or not there: written beside their place, flushed to the disk, then renamed."""

import hashlib
import json
import os
import re
import stat
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any, BinaryIO

from common.system.errors import AGAIN, UserError

PART = ".part"


@contextmanager
def writing(path: Path) -> Iterator[None]:
    """Say of what goes wrong in the block that `path` can't be written.

    Raises:
        UserError: the disk is full, or the place can't be written to.
    """
    try:
        yield
    except OSError as error:
        raise UserError(
            f"can't be written ({error.strerror or error})", where=path, do=f"mend that, then {AGAIN}"
        ) from error


def write_atomically(path: Path, write: Callable[[BinaryIO], object]) -> None:
    """Give `write` a file to fill, then put it in the place of `path`; folders are made as needed.

    A process that is killed in between leaves `path` as it was, and at worst a `.part` file that the next write takes
    the place of. Nothing is written through a link that lies at either place.

    Raises:
        UserError: the disk is full, or the place can't be written to.
    """
    temporary = path.with_name(f".{path.name}{PART}")
    with writing(path):
        path.parent.mkdir(parents=True, exist_ok=True)
        try:
            temporary.unlink(missing_ok=True)
            with open(temporary, "wb") as file:
                write(file)
                file.flush()
                os.fsync(file.fileno())
            os.replace(temporary, path)
        except BaseException:  # on a full disk the half file would be in the way of the next attempt
            with suppress(OSError):
                temporary.unlink()
            raise


def holds_files(folder: Path) -> bool:
    """Whether a folder is there and holds anything but the `.part` files of a process that was killed."""
    return folder.is_dir() and any(
        not (path.name.startswith(".") and path.name.endswith(PART)) for path in folder.iterdir()
    )


def write_text(path: Path, text: str) -> None:
    """`write_atomically` for UTF-8 text; line ends are written as they stand."""
    write_atomically(path, lambda file: file.write(text.encode("utf-8")))


def write_json(path: Path, value: Any) -> None:
    """`write_atomically` for JSON, indented by 2; NaN and infinities, which JSON has not, become null."""
    try:
        text = json.dumps(value, indent=2, ensure_ascii=False, allow_nan=False)
    except ValueError:
        value = json.loads(json.dumps(value), parse_constant=lambda _: None)
        text = json.dumps(value, indent=2, ensure_ascii=False)
    write_text(path, text + "\n")


def need_file(path: str | os.PathLike, error: type[UserError] = UserError) -> None:
    """Refuse what is no file before it is opened: a pipe would be waited for, and a device may have no end.

    Links are followed. Of what is missing, or can't be looked at, whoever opens it has more to say.

    Raises:
        error: it is a folder, pipe, socket or device.
    """
    try:
        mode = os.stat(path).st_mode
    except (OSError, ValueError):
        return
    if not stat.S_ISREG(mode):
        raise error(f"this is {_NO_FILES.get(stat.S_IFMT(mode), 'no file')}", where=path, expected="a file")


_NO_FILES = {
    stat.S_IFDIR: "a folder", stat.S_IFIFO: "a pipe", stat.S_IFSOCK: "a socket", stat.S_IFCHR: "a device",
    stat.S_IFBLK: "a device",
}  # fmt: skip


def read_json(path: Path, do: str | None = None) -> Any:
    """The parsed file.

    Raises:
        UserError: missing or not JSON.
    """
    need_file(path)
    try:
        return parse_json(path.read_text(encoding="utf-8"))
    except FileNotFoundError as error:
        raise UserError("no such file", where=path, do=do) from error
    except (ValueError, OSError) as error:
        raise UserError(f"not a JSON file ({error})", where=path, do=do) from error


def parse_json(text: str) -> Any:
    """The parsed document.

    Raises:
        ValueError: not JSON, nested too deeply, or a string in it that UTF-8 can't hold.
    """
    try:
        value = json.loads(text)
        if _HALF_PAIR.search(text):
            json.dumps(value, ensure_ascii=False).encode("utf-8")
    except RecursionError as error:
        raise ValueError("it is nested too deeply") from error
    return value


_HALF_PAIR = re.compile(r"\\u[dD][89a-fA-F]")


def sha256(path: Path) -> str:
    """The file's sha256 in hexadecimal.

    Raises:
        UserError: no such file.
    """
    need_file(path)
    try:
        with open(path, "rb") as file:
            return hashlib.file_digest(file, "sha256").hexdigest()
    except OSError as error:
        raise UserError(f"can't be read ({error.strerror})", where=path) from error
