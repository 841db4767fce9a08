#!/usr/bin/env bash
# Localizes a test split with a checkpoint, ours or the authors', into OUT and scores it under every protocol.
# More options go to bas.inference. SCORE=no localizes without scoring, where there are no boxes. $WSOL_PYTHON names an
# environment of your own.
#   bas/run_test.sh runs/bas-mobilenet/final.pth CUB_200_2011 runs/bas-mobilenet/test
#   bas/run_test.sh resnet8_final.pth.tar /data/imagenet runs/resnet --data.name ilsvrc --data.split val
set -euo pipefail
usage="usage: bas/run_test.sh CHECKPOINT DATA OUT [options of bas.inference]"
[ $# -ge 3 ] || { echo "error: $usage" >&2; exit 2; }
checkpoint=$(realpath -m "$1")
data=$(realpath "$2")
out=$(realpath -m "$3")
shift 3
cd "$(dirname "${BASH_SOURCE[0]}")/.."
python=$(environments/python.sh bas)
. environments/data_options.sh
scored=(--boxes)
[ "${SCORE:-yes}" = yes ] || scored=(--no-boxes)
data_options "$@"
"$python" -m common.ready --data.name cub --data.root "$data" "${images[@]}" "${scored[@]}" --needs "$checkpoint"
"$python" -m bas.inference --checkpoint "$checkpoint" --data.name cub --data.root "$data" --out "$out" "$@"
[ "${SCORE:-yes}" = yes ] || exit 0
exec "$python" -m common.evaluate "$out"/*
