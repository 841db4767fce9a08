"""Progress bars with an estimate, that don't fill a log file."""

import sys
from collections.abc import Iterable

from tqdm import tqdm


def bar(
    iterable: Iterable | None = None,
    *,
    total: int,
    desc: str,
    unit: str = "image",
    initial: int = 0,
    disable: bool = False,
) -> tqdm:
    """A tqdm bar on stderr: twice a second on a terminal, every 20 seconds in a file or pipe."""
    interval = 0.5 if sys.stderr.isatty() else 20.0
    return tqdm(
        iterable, total=total, desc=desc, unit=unit, initial=initial, dynamic_ncols=True, mininterval=interval,
        maxinterval=2 * interval, disable=disable,
    )  # fmt: skip
