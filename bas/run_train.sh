#!/usr/bin/env bash
# Trains one backbone as released; more options go to bas.train. $WSOL_PYTHON names an environment of your own.
#   bas/run_train.sh mobilenet CUB_200_2011
#   bas/run_train.sh resnet /data/imagenet --variant ILSVRC --data.name ilsvrc
#   GPUS=4 bas/run_train.sh resnet /data/imagenet --variant ILSVRC --data.name ilsvrc
set -euo pipefail
usage="usage: bas/run_train.sh vgg|mobilenet|resnet|inception DATA [options of bas.train]"
[ $# -ge 2 ] || { echo "error: $usage" >&2; exit 2; }
arch=$1
data=$(realpath "$2")
shift 2
cd "$(dirname "${BASH_SOURCE[0]}")/.."
command=("$(environments/python.sh bas)")
[ "${GPUS:-1}" -eq 1 ] || command+=(-m torch.distributed.run --standalone --nproc_per_node "$GPUS")
command+=(-m bas.train --arch "$arch" --data.name cub --data.root "$data" --data.split train --out "runs/bas-$arch")
exec "${command[@]}" "$@"
