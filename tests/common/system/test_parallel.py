import os
import signal
import subprocess
import sys
import time

from common.system.parallel import AHEAD, in_processes


def square(number):
    return number * number


def test_results_are_in_order():
    assert list(in_processes(square, [3, 1, 2], 2)) == list(in_processes(square, [3, 1, 2], 1)) == [9, 1, 4]


def test_no_more_is_done_than_is_read():
    """Else results, of fifty thousand images say, lie in memory until a slower reader comes to them."""
    taken = []

    class Jobs(list):
        def __iter__(self):
            for job in super().__iter__():
                taken.append(job)
                yield job

    results = in_processes(square, Jobs(range(100)), 2)
    assert next(results) == 0
    assert len(taken) == 2 * AHEAD + 1
    assert list(results) == [number**2 for number in range(1, 100)]


def test_processes_end_with_a_killed_parent(tmp_path):
    script = tmp_path / "hold.py"
    script.write_text(
        "import os, time\nfrom common.system.parallel import pool_of\n\n"
        "def own(number):\n    time.sleep(0.2)\n    return os.getpid()\n\n"
        "with pool_of(2) as pool:\n    print(*set(pool.map(own, range(4))), flush=True)\n    time.sleep(600)\n"
    )
    environment = {**os.environ, "PYTHONPATH": os.getcwd()}
    parent = subprocess.Popen([sys.executable, str(script)], stdout=subprocess.PIPE, text=True, env=environment)
    children = [int(word) for word in parent.stdout.readline().split()]
    parent.send_signal(signal.SIGKILL)
    parent.wait()
    deadline = time.monotonic() + 20
    while any(map(alive, children)) and time.monotonic() < deadline:
        time.sleep(0.1)
    assert children
    assert not any(map(alive, children))


def alive(pid):
    try:
        with open(f"/proc/{pid}/stat") as file:
            return file.read().rpartition(")")[2].split()[0] != "Z"
    except FileNotFoundError:
        return False
