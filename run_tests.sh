#!/usr/bin/env bash
# Sets up what is missing, then runs every test. Arguments go to pytest: ./run_tests.sh tests/common -k frame
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")"
environments/create.sh all
exec .envs/all/bin/python -m pytest "$@"
