"""Runs of a command with a fault, and the comparison with an undisturbed one: see `tests.faults.campaign`."""

import json
import os
import random
import re
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from tests import scenes, small_cub
from tests.faults.commands import COMMANDS, Command
from tests.faults.processes import members, send, title

ROOT = Path(__file__).resolve().parents[2]
SAID = ("terminate", "interrupt", "worker", "disk", "read-only")
"""Faults that the command can and must say something about."""
_SIGNALS = ("terminate", "interrupt")
HUNG = 999
PATIENCE = 60.0
"""Seconds after which a command hangs."""
LINGER = 8.0
"""Seconds that a dead command's other processes may take to notice; PyTorch's loaders look every 5."""
BAR = re.compile(r"^[^\n]*\d+%\|[^\n]*$")


@dataclass
class Outcome:
    """One fault and what came of it.

    Attributes:
        command, fault: their names.
        moment: the share of the undisturbed time, or of the disk.
        struck: False where the command had ended before.
        problems: what is not as it should be, a line each.
    """

    command: str
    fault: str
    moment: float
    struck: bool = True
    problems: list[str] = field(default_factory=list)


class Server:
    """A process that forks commands of one framework; see `server`."""

    def __init__(self, framework: str):
        modules = sorted({command.module for command in COMMANDS if command.framework == framework})
        environment = {**os.environ, "OMP_NUM_THREADS": "1", "TF_NUM_INTRAOP_THREADS": "1", "TQDM_MININTERVAL": "0"}
        self.process = subprocess.Popen(
            [sys.executable, "-m", "tests.faults.server", framework, *modules], cwd=ROOT, text=True, env=environment,
            stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL,
        )  # fmt: skip
        assert json.loads(self.process.stdout.readline())["ready"]

    def begin(self, **job: Any) -> int:
        """Start a job; gives its process id, which is its session's too."""
        print(json.dumps(job), file=self.process.stdin, flush=True)
        return json.loads(self.process.stdout.readline())["pid"]

    def end(self) -> int:
        """Wait for it; gives its exit status, minus the signal's number where one ended it."""
        return json.loads(self.process.stdout.readline())["status"]

    def close(self) -> None:
        self.process.stdin.close()
        self.process.wait()


class Lab:
    """Runs and compares.

    Args:
        folder: for all files.
        mount: mount file systems where that is allowed.
    """

    def __init__(self, folder: Path, mount: bool = True):
        self.folder = folder.resolve()
        self.cub = small_cub.make(self.folder / "CUB", train=4, test=3)
        self.voc = scenes.write(self.folder / "VOC")
        self.ref = self.folder / "undisturbed"
        # A path of its own: a loader's processes open sockets below it, whose names may have some 100 characters.
        self._scratch = tempfile.TemporaryDirectory(prefix="faults-")
        self.scratch = Path(self._scratch.name)
        self.servers: dict[str, Server] = {}
        self.seconds: dict[str, float] = {}
        self.digests: dict[str, dict[str, str]] = {}
        self.can_mount = mount and _can_mount(self.folder / "mount")
        self.lingering: list[tuple[float, int, Outcome]] = []
        self.count = 0

    def server(self, framework: str) -> Server:
        if framework not in self.servers:
            self.servers[framework] = Server(framework)
        return self.servers[framework]

    def begin(self, command: Command, cwd: Path, log: Path, limit: int | None = None) -> int:
        return self.server(command.framework).begin(
            module=command.module, argv=command.argv(cub=self.cub, voc=self.voc, ref=self.ref), cwd=str(cwd),
            scratch=str(self.scratch), log=str(log), limit=limit,
        )  # fmt: skip

    def end(self, command: Command, pid: int) -> int:
        """Wait, but not for ever: a command that hangs shows where, and is killed with all its processes."""
        server = self.server(command.framework)
        watch = subprocess.Popen([sys.executable, "-c", _WATCH, str(pid), str(PATIENCE)])
        status = server.end()
        watch.kill()
        watch.wait()
        return HUNG if status == -signal.SIGABRT else status

    def undisturbed(self, command: Command) -> None:
        """Run a command once, into `ref`, and note its time and results."""
        cwd = self.ref / command.name
        if command.name in self.seconds:
            return
        cwd.mkdir(parents=True)
        self.server(command.framework)
        started = time.monotonic()
        status = self.end(command, self.begin(command, cwd, self.folder / f"{command.name}.undisturbed"))
        self.seconds[command.name] = time.monotonic() - started
        if status != 0:
            raise RuntimeError(f"{command.name}: status {status}, see {self.folder / command.name}.undisturbed.err")
        self.digests[command.name] = self.digest(command, cwd)

    def digest(self, command: Command, folder: Path) -> dict[str, str]:
        path = self.folder / "digest.json"
        server = self.server(command.framework)
        server.begin(module="tests.faults.digest", argv=[str(folder), str(path)], cwd=str(ROOT), scratch=str(self.folder),
                     log=str(self.folder / "digest"))  # fmt: skip
        if server.end() != 0:
            raise RuntimeError(f"the digest of {folder} failed, see {self.folder / 'digest.err'}")
        return json.loads(path.read_text())

    def fault(self, command: Command, fault: str, moment: float, rng: random.Random) -> Outcome:
        """One fault, the run after it, and the comparison."""
        self.count += 1
        outcome = Outcome(command.name, fault, round(moment, 4))
        cwd = self.folder / f"run-{self.count:04d}-{command.name}-{fault}"
        log = self.folder / f"{cwd.name}.first"
        cwd.mkdir()
        with self._disk(command, cwd, fault, moment) as (limit, mend):
            status = self._strike(command, cwd, log, outcome, rng, limit)
            ended = self._check_first(command, cwd, log, status, outcome)
            mend()
            if not ended:
                again = self.folder / f"{cwd.name}.second"
                status = self.end(command, self.begin(command, cwd, again))
                # A stop between the last file and the end: what is whole is not replaced, and the comparison says so.
                if status != 0 and "is there already" not in _last_line(again):
                    outcome.problems.append(f"the second run's status is {status}: {_last_line(again)}")
            self._compare(command, cwd, outcome)
            if outcome.problems and os.path.ismount(cwd):
                shutil.copytree(cwd, f"{cwd}.kept", symlinks=True)
        if not outcome.problems:
            shutil.rmtree(cwd)
            for path in self.folder.glob(f"{cwd.name}.*"):
                path.unlink()
        return outcome

    @contextmanager
    def _disk(self, command: Command, cwd: Path, fault: str, moment: float) -> Iterator[tuple[int | None, Any]]:
        """A file system for a run: the limit of a file's size, and what mends it."""
        written = sum(path.stat().st_size for path in (self.ref / command.name).rglob("*") if path.is_file())
        if fault == "disk" and not self.can_mount:
            largest = max(path.stat().st_size for path in (self.ref / command.name).rglob("*") if path.is_file())
            yield max(1, int(moment * largest)), lambda: None
        elif fault in ("disk", "read-only"):
            size, room = max(4096, int(moment * written)) if fault == "disk" else 2**20, 4 * written + 2**26
            _mount("-t", "tmpfs", "-o", f"size={size}{',ro' if fault == 'read-only' else ''}", "tmpfs", cwd)
            try:
                yield None, lambda: _mount("-o", f"remount,rw,size={room}", cwd)
            finally:
                subprocess.run(["umount", "-l", cwd], check=True)
        else:
            yield None, lambda: None

    def _strike(
        self, command: Command, cwd: Path, log: Path, outcome: Outcome, rng: random.Random, limit: int | None
    ) -> int:
        pid = self.begin(command, cwd, log, limit)
        if outcome.fault not in ("disk", "read-only"):
            time.sleep(outcome.moment * self.seconds[command.name])
            outcome.struck = send(outcome.fault, pid, rng)
        status = self.end(command, pid)
        self.lingering.append((time.monotonic() + LINGER, pid, outcome))
        if outcome.fault == "disk" and status == 0:
            outcome.struck = False
        return status

    def _check_first(self, command: Command, cwd: Path, log: Path, status: int, outcome: Outcome) -> bool:
        """What the stopped command said, and that what looks whole is whole; gives whether it came to its end."""
        said = Path(f"{log}.err").read_text(errors="replace")
        every = [line for line in re.split(r"[\r\n]+", said) if line.strip() and not BAR.match(line)]
        lines = [line for line in every if not line.startswith("note: ")]  # said of the data, before the fault
        found = self.digest(command, cwd)
        # All was written, and only the interpreter still had to leave.
        ended = status == 0 or (status < 0 and "Traceback" not in said and found == self.digests[command.name])
        if status == HUNG:
            outcome.problems.append(f"it hung for {PATIENCE:.0f} s")
        if ended and outcome.fault in ("terminate", "interrupt") and outcome.struck:
            outcome.struck = False
        # Before `run_command` is reached there is only Python, which ends as it always does.
        importing = not found and ("Traceback" not in said or "run_command" not in said) and outcome.fault in _SIGNALS
        if not ended and outcome.fault in SAID and not importing:
            told = [line for line in lines if line.startswith(("error: ", "stopped"))]
            if status == HUNG:
                pass
            elif "Traceback" in said:
                outcome.problems.append(f"a traceback: {lines[-1][:200]}")
            elif status < 0:
                outcome.problems.append(f"no message, ended by signal {-status}")
            elif len(told) != 1 or len(lines) != 1:
                outcome.problems.append(f"{len(lines)} lines on stderr, not one: {' / '.join(lines)[:300]}")
        if status == 0 and outcome.fault == "read-only":
            outcome.problems.append("status 0 though nothing could be written")
        for name in command.whole:
            if name in found and found[name] != self.digests[command.name][name]:
                outcome.problems.append(f"{name} was there and not whole after the fault")
        for path in cwd.rglob("manifest.json"):
            with suppress(ValueError):
                name = path.relative_to(cwd).as_posix()
                if json.loads(path.read_text()).get("complete") and found[name] != self.digests[command.name][name]:
                    outcome.problems.append(f"{name} said complete after the fault, and differs")
        return ended

    def _compare(self, command: Command, cwd: Path, outcome: Outcome) -> None:
        expected, found = self.digests[command.name], self.digest(command, cwd)
        for what, names in (
            ("missing", expected.keys() - found.keys()),
            ("left over", found.keys() - expected.keys()),
            ("different", {name for name in expected.keys() & found.keys() if expected[name] != found[name]}),
        ):
            if names:
                shown = ", ".join(sorted(names)[:4])
                outcome.problems.append(f"{len(names)} files {what}: {shown}")
        # A process that is ended leaves the folder of the sockets it shared tensors through; the system clears /tmp.
        left = sorted(path.name for path in self.scratch.iterdir() if not path.name.startswith("pymp-"))
        if left and outcome.fault not in ("kill", "worker"):
            outcome.problems.append(f"temporary files left: {', '.join(left[:4])}")
        for path in self.scratch.iterdir():
            shutil.rmtree(path) if path.is_dir() else path.unlink()

    def bury(self, wait: bool = False) -> None:
        """Find processes that outlived their command, and end them."""
        left = []
        for deadline, session, outcome in self.lingering:
            if wait:
                while time.monotonic() < deadline and members(session):
                    time.sleep(0.1)
            left_over = members(session)
            if left_over and time.monotonic() >= deadline:
                outcome.problems.append(f"{len(left_over)} processes outlived it: {title(left_over[0])}")
                for pid in left_over:
                    with suppress(ProcessLookupError):
                        os.kill(pid, signal.SIGKILL)
            elif left_over:
                left.append((deadline, session, outcome))
        self.lingering = left

    def close(self) -> None:
        for server in self.servers.values():
            server.close()


_WATCH = """
import os, signal, sys, time
time.sleep(float(sys.argv[2]))
os.kill(int(sys.argv[1]), signal.SIGABRT)
time.sleep(1)
os.killpg(int(sys.argv[1]), signal.SIGKILL)
"""


def _can_mount(place: Path) -> bool:
    place.mkdir(exist_ok=True)
    done = subprocess.run(["mount", "-t", "tmpfs", "-o", "size=64k", "tmpfs", place], capture_output=True)
    if done.returncode == 0:
        subprocess.run(["umount", place], check=True)
    place.rmdir()
    return done.returncode == 0


def _mount(*arguments: Any) -> None:
    subprocess.run(["mount", *map(str, arguments)], check=True)


def _last_line(log: Path) -> str:
    lines = Path(f"{log}.err").read_text(errors="replace").strip().splitlines()
    return lines[-1][:300] if lines else ""
