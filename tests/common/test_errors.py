import os
import subprocess
import sys

import pytest

from common.errors import UserError, inside, run_command


def test_a_message_says_where_what_and_what_to_do():
    error = UserError("label 207 is out of range", where="list.txt", line=3, expected="0 to 199", do="mend the line")
    assert str(error) == "list.txt:3: label 207 is out of range; expected 0 to 199. Mend the line."
    assert str(UserError("no such folder", where="data")) == "data: no such folder"
    assert "\n" not in str(UserError("two\nlines"))


def run(body):
    code = f"from common.errors import *\ndef main():\n    {body}\nrun_command(main)"
    return subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, cwd=os.getcwd())


def test_user_errors_are_one_line_and_status_2():
    done = run("raise UserError('no such folder', where='data')")
    assert (done.returncode, done.stderr) == (2, "error: data: no such folder\n")


def test_interrupts_say_that_one_can_go_on():
    done = run("raise KeyboardInterrupt")
    assert done.returncode == 130
    assert done.stderr == "stopped; the same command continues where this one ended\n"


def test_programming_errors_keep_their_traceback():
    done = run("raise TypeError('a bug')")
    assert done.returncode == 1
    assert "Traceback" in done.stderr


def test_a_status_is_passed_on():
    with pytest.raises(SystemExit) as left:
        run_command(lambda: 7)
    assert left.value.code == 7


def test_a_closed_pipe_ends_quietly():
    code = "from common.errors import *\nrun_command(lambda: [print('x' * 1000) for _ in range(10000)] and None)"
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
