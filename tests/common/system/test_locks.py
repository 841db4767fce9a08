import os
import signal
import subprocess
import sys

import pytest

from common.system.errors import UserError
from common.system.locks import hold, release

HOLDER = """
import sys, time
from pathlib import Path
from common.system.locks import hold
hold(Path(sys.argv[1]))
print("held", flush=True)
time.sleep(60)
"""


def test_a_second_process_is_refused_until_the_first_one_ends(tmp_path):
    folder = tmp_path / "out"
    holder = subprocess.Popen([sys.executable, "-c", HOLDER, folder], stdout=subprocess.PIPE, text=True)
    try:
        assert holder.stdout.readline() == "held\n"
        with pytest.raises(UserError, match="out: another process is writing to this folder"):
            hold(folder)
    finally:
        os.kill(holder.pid, signal.SIGKILL)
        holder.wait()
        holder.stdout.close()
    hold(folder)
    release(folder)


def test_a_process_may_hold_a_folder_twice_and_leaves_nothing_in_it(tmp_path):
    hold(tmp_path / "out")
    hold(tmp_path / "out")
    assert list((tmp_path / "out").iterdir()) == []
    release(tmp_path / "out")
    release(tmp_path / "out")
    hold(tmp_path / "out")
    release(tmp_path / "out")


def test_a_forked_process_does_not_keep_the_lock(tmp_path):
    hold(tmp_path)
    reading, writing = os.pipe()
    child = os.fork()
    if child == 0:
        os.close(writing)
        os.read(reading, 1)
        os._exit(0)
    os.close(reading)
    release(tmp_path)
    done = subprocess.run([sys.executable, "-c", HOLDER.replace("time.sleep(60)", ""), tmp_path], capture_output=True)
    os.close(writing)
    os.waitpid(child, 0)
    assert done.returncode == 0
