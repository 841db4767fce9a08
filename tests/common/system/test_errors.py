import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from common.system.errors import UserError, inside, run_command
from tests.conftest import ROOT


def test_a_message_says_where_what_and_what_to_do():
    error = UserError("label 207 is out of range", where="list.txt", line=3, expected="0 to 199", do="mend the line")
    assert str(error) == "list.txt:3: label 207 is out of range; expected 0 to 199. Mend the line."
    assert str(UserError("no such folder", where="data")) == "data: no such folder"
    assert "\n" not in str(UserError("two\nlines"))


def run(body):
    code = f"from common.system.errors import *\ndef main():\n    {body}\nrun_command(main)"
    return subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=120)


def test_user_errors_are_one_line_and_status_2():
    done = run("raise UserError('no such folder', where='data')")
    assert (done.returncode, done.stderr) == (2, "error: data: no such folder\n")


def test_interrupts_say_that_one_can_go_on():
    done = run("raise KeyboardInterrupt")
    assert done.returncode == 130
    assert done.stderr == "stopped; the same command continues where this one ended\n"


@pytest.mark.parametrize(("number", "status"), [("SIGINT", 130), ("SIGTERM", 143)])
def test_signals_end_in_one_line(number, status):
    """Whatever the interruption turns into on its way out: here, what a library makes of it."""
    body = (f"import signal\n    try:\n        os.kill(os.getpid(), signal.{number})\n        while True: pass\n"
            "    except KeyboardInterrupt as error:\n        raise RuntimeError('a worker is gone') from error")  # fmt: skip
    done = run(body)
    assert (done.returncode, done.stderr) == (status, "stopped; the same command continues where this one ended\n")


COMMANDS = [
    "common.evaluate",
    "common.report",
    "common.pytorch.cam",
    "bas.train",
    "spol.cam.train",
    "dgl_tf.train",
    "grcam.revise_bbox",
]


@pytest.mark.slow
@pytest.mark.parametrize("command", COMMANDS)
@pytest.mark.parametrize(("number", "status"), [("SIGINT", 130), ("SIGTERM", 143)])
def test_signals_while_a_command_still_imports_end_in_one_line(tmp_path, command, number, status):
    """A library of our own, which every command imports, sends the signal; and catches all, as libraries do."""
    code = f"import os, signal, time\ntry:\n    os.kill(os.getpid(), signal.{number})\n    time.sleep(60)\nexcept BaseException:\n    pass"
    for library in ("numpy", "torch", "tensorflow"):
        (tmp_path / f"{library}.py").write_text(code)
    done = subprocess.run([sys.executable, "-m", command, "--help"], capture_output=True, text=True, cwd=ROOT,
                          env={**os.environ, "PYTHONPATH": str(tmp_path)})  # fmt: skip
    assert (done.returncode, done.stderr) == (status, "stopped; the same command continues where this one ended\n")


def test_importing_our_packages_leaves_signals_alone():
    code = ("import signal\nbefore = [signal.getsignal(n) for n in (signal.SIGINT, signal.SIGTERM)]\n"
            "import common.system.errors, bas, spol, dgl_tf, grcam\n"
            "assert before == [signal.getsignal(n) for n in (signal.SIGINT, signal.SIGTERM)]")  # fmt: skip
    for arguments in (["-c", code, "-m"], ["-"]):
        subprocess.run([sys.executable, *arguments], input=code, text=True, cwd=ROOT, check=True)


def test_what_is_ignored_stays_ignored_while_a_command_imports(tmp_path):
    """As under nohup, or in a shell's background."""
    (tmp_path / "numpy.py").write_text("import os, signal\nos.kill(os.getpid(), signal.SIGINT)\nraise SystemExit(7)\n")
    done = subprocess.run([sys.executable, "-m", "common.evaluate"], cwd=ROOT, env={**os.environ, "PYTHONPATH": str(tmp_path)},
                          preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_IGN))  # fmt: skip
    assert done.returncode == 7


def test_a_stop_that_python_drops_comes_again():
    """In a destructor, whose exceptions are shown and forgotten."""
    body = ("import signal, time\n    class Dropped:\n        def __del__(self):\n            os.kill(os.getpid(), signal.SIGTERM)\n"
            "            time.sleep(1)\n    Dropped()\n    time.sleep(60)")  # fmt: skip
    done = run(body)
    assert (done.returncode, done.stderr) == (143, "stopped; the same command continues where this one ended\n")


def test_ctrl_c_is_left_to_the_main_process():
    """Ctrl-C reaches every process; a forked one goes on until its parent ends it."""
    body = ("import signal, time\n    child = os.fork()\n    if child == 0:\n        os.kill(os.getpid(), signal.SIGINT)\n"
            "        print('still here', flush=True)\n        os.kill(os.getpid(), signal.SIGTERM)\n        time.sleep(60)\n"
            "    assert os.waitpid(child, 0)[1] == signal.SIGTERM")  # fmt: skip
    done = run(body)
    assert (done.returncode, done.stdout, done.stderr) == (0, "still here\n", "")


@pytest.mark.parametrize(("error", "message"), [
    ("OSError(28, 'No space left on device', 'out/a.npy')", "out/a.npy: No space left on device. Mend that, then give"),
    ("OSError(30, 'Read-only file system')", "Read-only file system. Mend that"),
    ("RuntimeError('DataLoader worker (pid 7) is killed by signal: Killed. ')", "processes was killed, or could not send what it made; expected enough memory"),
    ("RuntimeError('DataLoader worker (pid(s) 7) exited unexpectedly')", "processes was killed"),
    ("BrokenProcessPool()", "one of the command's other processes was killed"),
])  # fmt: skip
def test_what_the_machine_does_is_one_line(error, message):
    done = run(f"raise {error}")
    assert (done.returncode, done.stderr.count("\n")) == (2, 1)
    assert done.stderr.startswith("error: ")
    assert message in done.stderr


@pytest.mark.parametrize("error", ["OSError(22, 'Invalid argument')", "RuntimeError('shapes differ')"])
def test_other_system_and_runtime_errors_keep_their_traceback(error):
    done = run(f"raise {error}")
    assert done.returncode == 1
    assert "Traceback" in done.stderr


def test_programming_errors_keep_their_traceback():
    done = run("raise TypeError('a bug')")
    assert done.returncode == 1
    assert "Traceback" in done.stderr


def test_a_status_is_passed_on():
    with pytest.raises(SystemExit) as left:
        run_command(lambda: 7)
    assert left.value.code == 7


def test_a_closed_pipe_ends_quietly():
    code = "from common.system.errors import *\nrun_command(lambda: [print('x' * 1000) for _ in range(10000)] and None)"
    done = subprocess.run(["bash", "-c", f'{sys.executable} -c "{code}" | head -1; echo ${{PIPESTATUS[0]}}'],
                          capture_output=True, text=True)  # fmt: skip
    assert done.stdout.splitlines()[-1] == "141"
    assert done.stderr == ""


@pytest.mark.parametrize("path", ["a.jpg", "b/c.jpg", "b/..c.jpg", "ü/ä.jpg", "a b/c,d.jpg"])
def test_paths_inside(tmp_path, path):
    assert inside(tmp_path, path) == tmp_path / path


@pytest.mark.parametrize("path", ["", "/etc/passwd", "../a", "a/../../b", "a/..", "a\\b", "C:/a", "a\0b", "a\nb", ".."])
def test_paths_that_leave_or_hide(tmp_path, path):
    with pytest.raises(UserError, match="is not usable"):
        inside(tmp_path, path)


def test_a_name_that_is_not_utf_8_is_told():
    with pytest.raises(
        UserError, match="is not usable.* Give it a name in UTF-8, or where it has one, set PYTHONUTF8=1"
    ):
        inside(Path("root"), "B\udce4r/1.jpg")
