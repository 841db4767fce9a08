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
import random
import shutil
import signal
import sys
from collections import Counter
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Literal

import tyro

from tests.faults.commands import COMMANDS, Command, with_needs
from tests.faults.lab import Lab, Outcome

FAULTS = ("kill", "terminate", "interrupt", "worker", "disk", "read-only")


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
