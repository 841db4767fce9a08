#!/usr/bin/env bash
# Sets up what is missing, then runs the tests in two processes.
#   ./run_tests.sh              every test
#   ./run_tests.sh --quick      without those marked slow: one to two minutes on two cores, to be run after every change
# Other arguments go to pytest: ./run_tests.sh tests/common -k frame; ./run_tests.sh -n 0 --pdb tests/bas
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")"
python=$(environments/python.sh all)
quick=()
if [ "${1:-}" = --quick ]; then
  shift
  quick=(-m "not slow" --ignore=tests/faults --ignore=tests/hostile --ignore=tests/own)
  # Thousands of small files, 200 MB at once: in memory, where it can be had, they save a quarter of the time.
  room=$(df -Pk /dev/shm 2>/dev/null | awk 'NR == 2 { print $4 }' || true)
  if [ -z "${TMPDIR:-}" ] && [ -w /dev/shm ] && [ "${room:-0}" -gt 1000000 ]; then export TMPDIR=/dev/shm; fi
fi
# One thread a process: two processes with two threads each would wait for one another.
export OMP_NUM_THREADS=1 OPENBLAS_NUM_THREADS=1
exec "$python" -m pytest -n 2 --dist loadfile --no-loadscope-reorder ${quick[@]+"${quick[@]}"} "$@"
