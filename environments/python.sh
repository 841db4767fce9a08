#!/usr/bin/env bash
# Prints the Python interpreter of the environment NAME, which is made first where it is missing.
# $WSOL_PYTHON, where set, is an interpreter of your own and is printed as it is.
#   "$(environments/python.sh bas)" -m bas.train --help
set -euo pipefail
here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
[ $# -eq 1 ] || { echo "error: which environment? usage: environments/python.sh NAME" >&2; exit 2; }
if [ -z "${WSOL_PYTHON:-}" ]; then
  "$here/create.sh" "$1" >&2
  WSOL_PYTHON=${WSOL_ENVS:-$(dirname "$here")/.envs}/$1/bin/python
fi
echo "$WSOL_PYTHON"
