"""A longer search for files that a reader crashes on, hangs on, or complains of without saying where.

    python -m tests.hostile.fuzz --minutes 10 --seed 1

prints how many files each reader read and refused, and every fault once with the seed that makes it again:

    python -m tests.hostile.fuzz --reader map --again 4711
"""

import argparse
import contextlib
import io
import itertools
import os
import re
import sys
import tempfile
import time
import warnings
from collections import Counter
from pathlib import Path

from tests.hostile import mutate, readers
from tests.hostile.readers import CORPUS, Outcome, Reader


def good_files(reader: Reader, world: Path) -> list[bytes]:
    """What is changed: the reader's file in the world, and what its folder in the corpus holds."""
    kept = sorted((CORPUS / reader.name).glob("*")) if (CORPUS / reader.name).is_dir() else []
    return [(world / reader.place).read_bytes(), *(path.read_bytes() for path in kept)]


def once(reader: Reader, world: Path, seed: int) -> tuple[bytes, Outcome]:
    """The file that a seed makes, and what became of it."""
    files = good_files(reader, world)
    content = mutate.mutated(files[seed % len(files)], seed)
    with warnings.catch_warnings(), contextlib.redirect_stdout(io.StringIO()):
        warnings.simplefilter("ignore")
        return content, readers.attempt(reader, world, content)


def _signature(outcome: Outcome) -> str:
    """One fault is one line of code, or one way to be vague."""
    places = re.findall(r'File "([^"]+)", line (\d+)', outcome.message)
    last = outcome.message.strip().splitlines()[-1][:80] if outcome.message else ""
    return f"{outcome.kind} {':'.join(places[-1]) if places else ''} {re.sub(r'[0-9]+', '#', last)}"


def main() -> int:
    """The command line; 1 where there is a fault."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--minutes", type=float, default=1.0)
    parser.add_argument("--seed", type=int, default=0, help="the first file's; each further file has the next")
    parser.add_argument("--reader", nargs="*", default=list(readers.BY_NAME), choices=readers.BY_NAME, metavar="NAME")
    parser.add_argument("--again", type=int, help="only the file of this seed, with its traceback")
    options = parser.parse_args()
    chosen = [readers.BY_NAME[name] for name in options.reader]
    with tempfile.TemporaryDirectory() as folder:
        world = readers.make_world(Path(folder))
        if options.again is not None:
            for reader in chosen:
                content, outcome = once(reader, world, options.again)
                print(f"{reader.name}: {content[:2000]!r}\n{outcome.kind}: {outcome.message}")
            return 0
        return _search(chosen, world, options.seed, 60 * options.minutes)


def _search(chosen: list[Reader], world: Path, seed: int, seconds: float) -> int:
    counts: dict[str, Counter[str]] = {reader.name: Counter() for reader in chosen}
    faults: dict[tuple[str, str], int] = {}
    ends = time.monotonic() + seconds
    for number in itertools.count(seed):
        for reader in chosen:
            if time.monotonic() > ends:
                break
            _, outcome = once(reader, world, number)
            counts[reader.name][outcome.kind] += 1
            key = (reader.name, _signature(outcome))
            if not outcome.allowed and key not in faults:
                faults[key] = number
                print(f"{reader.name}, seed {number}: {outcome.kind}\n{outcome.message}", flush=True)
        if time.monotonic() > ends:
            break
    for name, found in counts.items():
        print(f"{name}: {', '.join(f'{kind} {count}' for kind, count in sorted(found.items())) or 'none'}")
    print(f"{sum(found.total() for found in counts.values())} files, {len(faults)} distinct faults")
    return 1 if faults else 0


if __name__ == "__main__":
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
    sys.exit(main())
