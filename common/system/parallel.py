"""Jobs in several processes, their results in the jobs' order."""

import os
import signal
import threading
import time
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future, ProcessPoolExecutor
from contextlib import contextmanager
from multiprocessing.context import BaseContext
from typing import TypeVar

Job = TypeVar("Job")
Result = TypeVar("Result")

AHEAD = 4
"""Jobs a process that are given out before their results are read."""


def in_processes(work: Callable[[Job], Result], jobs: Sequence[Job], workers: int) -> Iterator[Result]:
    """`work` of every job, in order, as fast as its results are read; in this process where there is one worker or job.

    Args:
        work: a function of a module, which other processes can import.
        jobs: its arguments.
        workers: processes.
    """
    if workers <= 1 or len(jobs) <= 1:
        yield from map(work, jobs)
    else:
        with pool_of(min(workers, len(jobs))) as pool:
            given: deque[Future[Result]] = deque()
            for job in jobs:
                given.append(pool.submit(work, job))
                if len(given) > AHEAD * workers:  # `pool.map` keeps whatever its reader has not taken yet
                    yield given.popleft().result()
            yield from (each.result() for each in given)


@contextmanager
def pool_of(
    workers: int, context: BaseContext | None = None, begin: Callable[[], None] | None = None
) -> Iterator[ProcessPoolExecutor]:
    """A pool whose processes end when the block does, whatever ends it, and with this process, even if it is killed.

    Args:
        workers: processes.
        context: of `multiprocessing`, where not the platform's own.
        begin: what each process does first.
    """
    pool = ProcessPoolExecutor(workers, context, initializer=_begin, initargs=(os.getpid(), begin))
    try:
        yield pool
    except BaseException:
        # One that was lost, or an error that a signal raised in the middle of things, can leave the others waiting for
        # work, and this process for them, for ever.
        for process in list((pool._processes or {}).values()):
            process.kill()
        raise
    finally:
        pool.shutdown()


@contextmanager
def left_to_this_process() -> Iterator[None]:
    """Processes that are started in the block never get Ctrl-C's signal; here it waits until the block's end."""
    before = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


def _begin(parent: int, begin: Callable[[], None] | None) -> None:
    end_with(parent)
    if begin is not None:
        begin()


def end_with(parent: int) -> None:
    """Let this process end when the one that started it does, even if that one was killed."""

    def watch() -> None:
        while os.getppid() == parent:
            time.sleep(1)
        os._exit(1)

    threading.Thread(target=watch, daemon=True).start()
