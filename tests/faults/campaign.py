"""Stop the project's long commands at random moments, in every way a machine does, and see whether they go on to the same end.

    python -m tests.faults.campaign --runs 200 --seed 0 --out faults
    python -m tests.faults.campaign --runs 20 --only bas --faults kill disk --out faults

Each command is run once undisturbed. Then, again and again: a fault at a random moment of that time, the same command
once more undisturbed, and a comparison of all it wrote with the undisturbed run's. The first fault that is not as it
should be does not end the campaign; OUT/report.md and OUT/report.json count and name them all, and the exit status is 1.

| fault | what happens |
|---|---|
| kill | SIGKILL to the command, as from the kernel when memory is short |
| terminate | SIGTERM to the command, or to all its processes, as batch systems send it |
| interrupt | SIGINT to all its processes, as Ctrl-C sends it |
| worker | SIGKILL to one of its other processes |
| disk | the file system is full after a random share of what it writes; made larger before the second run |
| read-only | the file system can't be written to; it can be in the second run |

The two last need the right to mount a tmpfs. Without it, `disk` limits the size of a file instead, and `read-only` is
not run, which the report says.
"""

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
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, Literal

import tyro

from tests import small_cub
from tests.faults.commands import COMMANDS, Command, with_needs

ROOT = Path(__file__).resolve().parents[2]
FAULTS = ("kill", "terminate", "interrupt", "worker", "disk", "read-only")
SAID = ("terminate", "interrupt", "worker", "disk", "read-only")
"""Faults that the command can and must say something about."""
_SIGNALS = ("terminate", "interrupt")
HUNG = 999
PATIENCE = 60.0
"""Seconds after which a command hangs."""
LINGER = 8.0
"""Seconds that a dead command's other processes may take to notice; PyTorch's loaders look every 5."""
BAR = re.compile(r"^[^\n]*\d+%\|[^\n]*$")


@dataclass(frozen=True)
class Campaign:
    """Stop commands at random moments and compare what they end with."""

    out: Path
    """Folder for the report, and while it goes on for all runs; a run that went wrong is kept there."""
    runs: int = 200
    """Faults in all, spread evenly over commands and kinds."""
    seed: int = 0
    """Of the moments."""
    only: tuple[str, ...] = ()
    """Commands whose names begin so; by default all."""
    faults: tuple[Literal["kill", "terminate", "interrupt", "worker", "disk", "read-only"], ...] = FAULTS
    """Only these kinds."""
    mount: bool = True
    """Mount file systems where that is allowed; otherwise as where it is not."""


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
            module=command.module, argv=command.argv(self.cub, self.ref), cwd=str(cwd), scratch=str(self.scratch), log=str(log),
            limit=limit,
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
            outcome.struck = _signal(outcome.fault, pid, rng)
        status = self.end(command, pid)
        self.lingering.append((time.monotonic() + LINGER, pid, outcome))
        if outcome.fault == "disk" and status == 0:
            outcome.struck = False
        return status

    def _check_first(self, command: Command, cwd: Path, log: Path, status: int, outcome: Outcome) -> bool:
        """What the stopped command said, and that what looks whole is whole; gives whether it came to its end."""
        said = Path(f"{log}.err").read_text(errors="replace")
        lines = [line for line in re.split(r"[\r\n]+", said) if line.strip() and not BAR.match(line)]
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
                while time.monotonic() < deadline and _members(session):
                    time.sleep(0.1)
            members = _members(session)
            if members and time.monotonic() >= deadline:
                outcome.problems.append(f"{len(members)} processes outlived it: {_title(members[0])}")
                for pid in members:
                    with suppress(ProcessLookupError):
                        os.kill(pid, signal.SIGKILL)
            elif members:
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


def _members(session: int) -> list[int]:
    """The living processes of a session."""
    found = []
    for entry in Path("/proc").iterdir():
        if entry.name.isdecimal():
            with suppress(OSError):
                state, _, _, of = (entry / "stat").read_text().rpartition(")")[2].split()[:4]
                if int(of) == session and state not in "ZX":
                    found.append(int(entry.name))
    return found


def _title(pid: int) -> str:
    try:
        return Path(f"/proc/{pid}/cmdline").read_bytes().replace(b"\0", b" ").decode(errors="replace")[-120:].strip()
    except OSError:
        return "?"


def _signal(fault: str, pid: int, rng: random.Random) -> bool:
    """Send what a fault is; False where the command, or any other process of it, was gone."""
    everyone = rng.random() < 0.5
    try:
        if fault == "worker":
            until = time.monotonic() + 1.0
            others: list[int] = []
            while not others and time.monotonic() < until and pid in _members(pid):
                others = sorted(set(_members(pid)) - {pid})
                time.sleep(0.002)
            if not others:
                return False
            os.kill(rng.choice(others), signal.SIGKILL)
        elif pid not in _members(pid):
            return False
        elif fault == "interrupt" or (fault == "terminate" and everyone):
            os.killpg(pid, signal.SIGINT if fault == "interrupt" else signal.SIGTERM)
        else:
            os.kill(pid, signal.SIGKILL if fault == "kill" else signal.SIGTERM)
    except ProcessLookupError:
        return False
    return True


def _last_line(log: Path) -> str:
    lines = Path(f"{log}.err").read_text(errors="replace").strip().splitlines()
    return lines[-1][:300] if lines else ""


def planned(commands: list[Command], faults: tuple[str, ...], runs: int, rng: random.Random) -> Iterator[tuple]:
    """(command, fault, moment), the pairs in turn, each turn in another order; a pair's moments spread over 0 to 1."""
    pairs = [(command, fault) for command in commands for fault in faults if fault != "worker" or command.workers]
    turns = -(-runs // len(pairs))
    moments = {
        (c.name, f): [(number + rng.random()) / turns for number in rng.sample(range(turns), turns)] for c, f in pairs
    }
    count = 0
    for turn in range(turns):
        for command, fault in rng.sample(pairs, len(pairs)):
            if count == runs:
                return
            count += 1
            yield command, fault, moments[command.name, fault][turn]


def run(options: Campaign, say: Any = print) -> list[Outcome]:
    """The campaign; gives every outcome."""
    rng = random.Random(options.seed)  # noqa: S311
    shutil.rmtree(options.out / "runs", ignore_errors=True)
    (options.out / "runs").mkdir(parents=True)
    lab = Lab(options.out / "runs", options.mount)
    chosen = [c for c in COMMANDS if not options.only or c.name.startswith(options.only)]
    faults = tuple(fault for fault in options.faults if fault != "read-only" or lab.can_mount)
    outcomes: list[Outcome] = []
    try:
        for command in with_needs([command.name for command in chosen]):
            lab.undisturbed(command)
        say(f"undisturbed: {', '.join(f'{name} {seconds:.1f} s' for name, seconds in lab.seconds.items())}")
        for command, fault, moment in planned(chosen, faults, options.runs, rng):
            outcomes.append(lab.fault(command, fault, moment, rng))
            lab.bury()
            if outcomes[-1].problems:
                say(f"{len(outcomes)}: {command.name} {fault} at {moment:.2f}: {'; '.join(outcomes[-1].problems)}")
        lab.bury(wait=True)
    finally:
        lab.close()
    write_report(options, lab, outcomes)
    return outcomes


def write_report(options: Campaign, lab: Lab, outcomes: list[Outcome]) -> None:
    """`report.json` and `report.md`."""
    struck = Counter((o.command, o.fault) for o in outcomes if o.struck)
    wrong = Counter((o.command, o.fault) for o in outcomes if o.problems)
    late = sum(not o.struck for o in outcomes)
    disk = "a full file system" if lab.can_mount else "a limit on a file's size, for no file system can be mounted here"
    lines = [
        f"{sum(struck.values())} faults struck, {late} came too late; {sum(wrong.values())} ended otherwise than they "
        f"should. Seed {options.seed}; `disk` is {disk}.",
        "", f"| command | undisturbed s | {' | '.join(FAULTS)} |", f"|---|---|{'---|' * len(FAULTS)}",
    ]  # fmt: skip
    for name in [c.name for c in COMMANDS if any(o.command == c.name for o in outcomes)]:
        cells = [
            f"{struck[name, fault]}" + (f" ({wrong[name, fault]} wrong)" if wrong[name, fault] else "")
            if any((o.command, o.fault) == (name, fault) for o in outcomes) else "-"
            for fault in FAULTS
        ]  # fmt: skip
        lines.append(f"| {name} | {lab.seconds[name]:.1f} | {' | '.join(cells)} |")
    lines += ["", *(f"- {o.command} {o.fault} at {o.moment}: {'; '.join(o.problems)}" for o in outcomes if o.problems)]
    (options.out / "report.md").write_text("\n".join(lines) + "\n")
    (options.out / "report.json").write_text(json.dumps([asdict(outcome) for outcome in outcomes], indent=1) + "\n")
    print("\n".join(lines))


def main() -> int:
    """The command line."""
    signal.signal(signal.SIGINT, signal.default_int_handler)  # ignored in a shell's background, and so by all commands
    return int(any(outcome.problems for outcome in run(tyro.cli(Campaign, description=__doc__))))


if __name__ == "__main__":
    sys.exit(main())
