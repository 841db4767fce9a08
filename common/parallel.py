"""Jobs in several processes, their results in the jobs' order."""

from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
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
        with ProcessPoolExecutor(min(workers, len(jobs))) as pool:
            yield from pool.map(work, jobs)
