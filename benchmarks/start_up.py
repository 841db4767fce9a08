"""Time that a command takes to say what its options are.

python -m benchmarks.start_up
"""

import subprocess
import sys
import time

MODULES = (
    "common.prepare", "common.evaluate", "common.report", "common.export", "common.merge", "common.pytorch.cam",
    "bas.train", "bas.inference", "spol.seg.train", "spol.cam.test", "dgl_tf.train", "dgl_tf.test",
    "grcam.generate_predicted_bbox", "grcam.pseudo_bbox.main", "grcam.revise_bbox",
)  # fmt: skip
REPEATS = 2


def seconds(module: str) -> float:
    """Seconds of the fastest of some runs of `--help`."""
    times = []
    for _ in range(REPEATS):
        start = time.perf_counter()
        subprocess.run([sys.executable, "-m", module, "--help"], check=True, capture_output=True)
        times.append(time.perf_counter() - start)
    return min(times)


def main() -> None:
    """Print a line a command."""
    for module in MODULES:
        print(f"python -m {module} --help: {seconds(module):.1f} s")


if __name__ == "__main__":
    main()
