#!/usr/bin/env bash
# train: trains the CAM and BAS networks of the segmentation pipeline, below OUT. test: makes class maps and masks there and
# scores them, and trains IRN in between. More options go to bas.segmentation.run. $WSOL_PYTHON names an environment of your own.
#   bas/run_segmentation.sh train VOC2012 runs/seg --data.split train_aug
#   GPUS=4 bas/run_segmentation.sh train VOC2012 runs/seg --data.split train_aug
#   bas/run_segmentation.sh test VOC2012 runs/seg --data.split train_aug
set -euo pipefail
usage="usage: bas/run_segmentation.sh train|test DATA OUT [options of bas.segmentation.run]"
[ $# -ge 3 ] && { [ "$1" = train ] || [ "$1" = test ]; } || { echo "error: $usage" >&2; exit 2; }
step=$1
data=$(realpath "$2")
out=$(realpath -m "$3")
shift 3
cd "$(dirname "${BASH_SOURCE[0]}")/.."
command=("$(environments/python.sh bas)")
[ "$step" = test ] || [ "${GPUS:-1}" -eq 1 ] || command+=(-m torch.distributed.run --standalone --nproc_per_node "$GPUS")
exec "${command[@]}" -m bas.segmentation.run "$step" --data.name voc --data.root "$data" --out "$out" "$@"
