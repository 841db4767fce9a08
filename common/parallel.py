"""Jobs in several processes, their results in the jobs' order."""

import os
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from multiprocessing.context import BaseContext
from typing import TypeVar

Job, Result = TypeVar("Job"), TypeVar("Result")


def in_processes(work: Callable[[Job], Result], jobs: Sequence[Job], workers: int) -> Iterator[Result]:
    """`work` of every job, in order; in this process where there is one worker or one job.

    Args:
        work: a function of a module, which other processes can import.
        jobs: its arguments.
        workers: processes.
    """
    if workers <= 1 or len(jobs) <= 1:
        yield from map(work, jobs)
    else:
        with pool_of(min(workers, len(jobs))) as pool:
            yield from pool.map(work, jobs)


def pool_of(
    workers: int, context: BaseContext | None = None, begin: Callable[[], None] | None = None
) -> ProcessPoolExecutor:
    """A pool whose processes end when this one does, even if it is killed.

    Args:
        workers: processes.
        context: of `multiprocessing`, where not the platform's own.
        begin: what each process does first.
    """
    return ProcessPoolExecutor(workers, context, initializer=_begin, initargs=(os.getpid(), begin))


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
