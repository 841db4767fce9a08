"""The processes of a command, found by their session, and the signals that a fault is."""

import os
import random
import signal
import time
from contextlib import suppress
from pathlib import Path


def members(session: int) -> list[int]:
    """The living processes of a session."""
    found = []
    for entry in Path("/proc").iterdir():
        if entry.name.isdecimal():
            with suppress(OSError):
                state, _, _, of = (entry / "stat").read_text().rpartition(")")[2].split()[:4]
                if int(of) == session and state not in "ZX":
                    found.append(int(entry.name))
    return found


def title(pid: int) -> str:
    """A process's command line, its end."""
    try:
        return Path(f"/proc/{pid}/cmdline").read_bytes().replace(b"\0", b" ").decode(errors="replace")[-120:].strip()
    except OSError:
        return "?"


def send(fault: str, pid: int, rng: random.Random) -> bool:
    """Send what a fault is; False where the command, or any other process of it, was gone."""
    everyone = rng.random() < 0.5
    try:
        if fault == "worker":
            until = time.monotonic() + 1.0
            others: list[int] = []
            while not others and time.monotonic() < until and pid in members(pid):
                others = sorted(set(members(pid)) - {pid})
                time.sleep(0.002)
            if not others:
                return False
            os.kill(rng.choice(others), signal.SIGKILL)
        elif pid not in members(pid):
            return False
        elif fault == "interrupt" or (fault == "terminate" and everyone):
            os.killpg(pid, signal.SIGINT if fault == "interrupt" else signal.SIGTERM)
        else:
            os.kill(pid, signal.SIGKILL if fault == "kill" else signal.SIGTERM)
    except ProcessLookupError:
        return False
    return True
