"""A few faults of the campaign, and the campaign's own eyes: see `tests.faults.campaign`, which runs as many as one asks for."""

import json
import os
import random
import re
import signal
import subprocess
import sys

from tests.faults.campaign import FAULTS, Campaign, planned, run
from tests.faults.commands import BY_NAME, COMMANDS, with_needs
from tests.faults.digest import digest
from tests.faults.processes import members

SPEECH = re.compile(r"a traceback|no message|\d+ lines on stderr")
"""What a signal may get wrong at one moment in thousands, inside a library: the campaign counts it, CI can't depend on it."""


def test_stopped_commands_go_on_to_the_same_end(tmp_path):
    """One fault of each kind and command, at seeded moments."""
    outcomes = run(Campaign(tmp_path, runs=17, seed=11, only=("cam-", "spol-cam-test"), faults=FAULTS))
    wrong = [
        (outcome.command, outcome.fault, outcome.moment, problem)
        for outcome in outcomes
        for problem in outcome.problems
        if outcome.fault in ("disk", "read-only") or not SPEECH.match(problem)
    ]
    assert wrong == []
    assert all(outcome.struck for outcome in outcomes if outcome.fault in ("disk", "read-only"))
    assert "faults struck" in (tmp_path / "report.md").read_text()
    assert len(json.loads((tmp_path / "report.json").read_text())) == len(outcomes)


def test_where_nothing_can_be_mounted_a_files_size_stands_in(tmp_path):
    """Where the limit strikes first a loader's shared memory, which is a file too, and where it strikes what is written."""
    outcomes = run(Campaign(tmp_path, runs=4, seed=1, only=("cam-",), faults=("disk", "read-only"), mount=False))
    assert [(outcome.fault, outcome.struck, outcome.problems) for outcome in outcomes] == [("disk", True, [])] * 4
    assert "`disk` is a limit on a file's size" in (tmp_path / "report.md").read_text()


def test_every_pair_has_its_turn_and_moments_are_spread():
    chosen = [BY_NAME["dgl-train"], BY_NAME["cam-train"]]
    plan = list(planned(chosen, FAULTS, 44, random.Random(0)))  # noqa: S311
    assert len(plan) == 44
    pairs = {(command.name, fault) for command, fault, _ in plan}
    assert pairs == {(c.name, f) for c in chosen for f in FAULTS} - {("dgl-train", "worker")}  # it has no other process
    moments = sorted(moment for command, fault, moment in plan if (command.name, fault) == ("cam-train", "kill"))
    assert [int(moment * 4) for moment in moments] == [0, 1, 2, 3]


def test_needs_come_first():
    names = [command.name for command in with_needs(["grcam-revise"])]
    for name in names:
        assert all(names.index(need) < names.index(name) for need in BY_NAME[name].needs)
    assert [command.name for command in with_needs([command.name for command in COMMANDS])] == list(BY_NAME)


def test_the_digest_sees_values_and_not_clocks(tmp_path):
    for name, seconds, version in (("one", 1, "1.26"), ("two", 2, "2.0")):
        folder = tmp_path / name
        folder.mkdir()
        (folder / "a.json").write_text(json.dumps({"complete": True, "seconds": seconds, "processes": [version]}))
        (folder / "b.txt").write_text("same")
    assert digest(tmp_path / "one") == digest(tmp_path / "two")
    (tmp_path / "two/a.json").write_text(json.dumps({"complete": False}))
    (tmp_path / "two/.c.part").write_text("half")
    one, two = digest(tmp_path / "one"), digest(tmp_path / "two")
    assert (one["a.json"] != two["a.json"], one["b.txt"] == two["b.txt"], two.keys() - one.keys()) == (
        True,
        True,
        {".c.part"},
    )
    (tmp_path / "two/d.json").write_text("{")
    assert digest(tmp_path / "two")["d.json"].startswith("unreadable: JSONDecodeError")


def test_processes_that_outlive_a_command_are_seen():
    script = "import os, time; os.setsid(); pid = os.fork(); print(os.getpid(), flush=True) if pid else None; time.sleep(60 * (not pid))"
    parent = subprocess.Popen([sys.executable, "-c", script], stdout=subprocess.PIPE, text=True)
    session = int(parent.stdout.readline())
    parent.wait()
    (left,) = members(session)
    os.kill(left, signal.SIGKILL)
