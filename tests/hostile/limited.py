"""Reads files under a limit of memory, each in turn, and prints what became of each as a line of JSON; and at last
whether the limit is one.

    python -m tests.hostile.limited map=/tmp/a.npy image-plain.jpg=/tmp/b.jpg

A process of its own, because the limit is one of the process, and so that a reader that takes the machine's memory
takes only this one with it.
"""

import dataclasses
import json
import os
import resource
import sys
import tempfile
from pathlib import Path

import numpy as np

from tests.hostile import readers

MORE = 1536 * 2**20
"""Bytes that reading one file may map beyond what the process has."""


def mapped() -> int:
    """Bytes of address space that this process has."""
    return int(Path("/proc/self/statm").read_text().split()[0]) * os.sysconf("SC_PAGE_SIZE")


def main() -> None:
    """Arguments are `reader=file`."""
    with tempfile.TemporaryDirectory() as folder:
        world = readers.make_world(Path(folder))
        for argument in sys.argv[1:]:
            name, _, path = argument.partition("=")
            reader = readers.BY_NAME[name]
            content = Path(path).read_bytes()
            assert readers.attempt(reader, world, (world / reader.place).read_bytes()).kind == "read"
            resource.setrlimit(resource.RLIMIT_AS, (mapped() + MORE, resource.RLIM_INFINITY))
            outcome = readers.attempt(reader, world, content)
            resource.setrlimit(resource.RLIMIT_AS, (resource.RLIM_INFINITY, resource.RLIM_INFINITY))
            print(json.dumps(dataclasses.asdict(outcome)), flush=True)
    resource.setrlimit(resource.RLIMIT_AS, (mapped() + MORE, resource.RLIM_INFINITY))
    try:
        np.ones(MORE // 4)
        print('{"kind": "not limited", "message": ""}')
    except MemoryError:
        print('{"kind": "limited", "message": ""}')


if __name__ == "__main__":
    main()
