"""What hostile files would run, and how their refusal has to look."""

import os
import pickle
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from common.system.errors import UserError


class _Reduced:
    def __init__(self, function: Callable, arguments: tuple):
        self.function, self.arguments = function, arguments

    def __reduce__(self):
        return self.function, self.arguments


class Payload:
    """Objects whose unpickling creates `marker`, each in another way."""

    def __init__(self, marker: Path):
        self.marker = marker

    def objects(self) -> dict[str, Any]:
        text = f"open({str(self.marker)!r}, 'w').close()"
        return {
            "os.system": _Reduced(os.system, (f"touch {self.marker}",)),
            "eval": _Reduced(eval, (f"open({str(self.marker)!r}, 'w').close()",)),
            "exec": _Reduced(exec, (text,)),
            "subprocess": _Reduced(subprocess.check_call, (["touch", str(self.marker)],)),
            "open": _Reduced(open, (str(self.marker), "w")),
        }

    def pickles(self) -> dict[str, bytes]:
        """The same as pickles of every protocol."""
        return {
            f"{name}-{protocol}": pickle.dumps(thing, protocol)
            for name, thing in self.objects().items()
            for protocol in range(pickle.HIGHEST_PROTOCOL + 1)
        }


def refused(call: Callable[[], Any], path: Path, *words: str) -> str:
    """The message of a `UserError` that `call` must raise: one line that names the file, and holds some words."""
    with pytest.raises(UserError) as caught:
        call()
    message = str(caught.value)
    assert path.name in message
    assert len(message.splitlines()) == 1
    for word in words:
        assert word in message
    return message
