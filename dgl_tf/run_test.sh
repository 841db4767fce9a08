#!/usr/bin/env bash
# Localizes a test split with a checkpoint, ours or the authors', into OUT and scores it under every protocol that fits.
# More options go to dgl_tf.test. SCORE=no localizes without scoring, where there are no boxes. $WSOL_PYTHON names an
# environment of your own.
#   dgl_tf/run_test.sh runs/dgl-mobilenetv1 CUB_200_2011 runs/dgl-mobilenetv1/test --clayer all
#   dgl_tf/run_test.sh Imagenet_inceptionV3_model-240000 /data/imagenet runs/dgl --mode inceptionv3 --data.name ilsvrc --data.split val
set -euo pipefail
usage="usage: dgl_tf/run_test.sh CHECKPOINT DATA OUT [options of dgl_tf.test]"
[ $# -ge 3 ] || { echo "error: $usage" >&2; exit 2; }
checkpoint=$1
[[ $checkpoint == imagenet:* ]] || checkpoint=$(realpath -m "$1")
data=$(realpath "$2")
out=$(realpath -m "$3")
shift 3
cd "$(dirname "${BASH_SOURCE[0]}")/.."
python=$(environments/python.sh dgl_tf)
. environments/data_options.sh
scored=(--boxes)
[ "${SCORE:-yes}" = yes ] || scored=(--no-boxes)
data_options "$@"
"$python" -m common.ready --data.name cub --data.root "$data" "${images[@]}" "${scored[@]}"
"$python" -m dgl_tf.test --load "$checkpoint" --data.name cub --data.root "$data" --out "$out" "$@"
[ "${SCORE:-yes}" = yes ] || exit 0
exec "$python" -m common.evaluate "$out"/*
