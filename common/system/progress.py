"""Progress bars with an estimate that don't fill a log file, and the line at the end of an epoch."""

import math
import sys
import time
from collections import Counter
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


def above(bar: tqdm, line: str) -> None:
    """Print a line to stdout above a bar, at once where stdout is a file too."""
    bar.write(line)
    sys.stdout.flush()


class Epoch:
    """Mean losses of an epoch and its speed, for the line at its end."""

    def __init__(self) -> None:
        self._began, self._images, self._steps = time.monotonic(), 0, 0
        self._sums: dict[str, float] = {}
        self._counts: Counter[str] = Counter()

    def add(self, values: dict[str, float], images: int) -> None:
        """Count a step's losses, and the images of all processes."""
        self._steps, self._images = self._steps + 1, self._images + images
        self.recall(values)

    def recall(self, values: dict[str, float]) -> None:
        """Count losses of a step that an earlier process took, for the means alone."""
        for name, value in values.items():
            if math.isfinite(value):
                self._sums[name] = self._sums.get(name, 0.0) + value
                self._counts[name] += 1

    def told(self, steps_left: int) -> str:
        """The line, without what is no number; the time left is that of `steps_left` steps as long as this epoch's."""
        if not self._steps:
            return "no step"
        seconds = max(time.monotonic() - self._began, 1e-9)
        shown = ", ".join(f"{name} {total / self._counts[name]:.3f}" for name, total in self._sums.items())
        left = seconds * steps_left / self._steps
        time_left = "" if not steps_left else f", {left / 60:.0f} min left" if left >= 90 else f", {left:.0f} s left"
        return f"{shown}; {self._images / seconds:.1f} images/s{time_left}"
