#!/usr/bin/env bash
# Fine-tunes one classifier as released; more options go to dgl_tf.train. $WSOL_PYTHON names an environment of your own.
#   dgl_tf/run_train.sh mobilenetv1 CUB_200_2011
#   dgl_tf/run_train.sh inceptionv3 /data/imagenet --data.name ilsvrc --gpu 0,1
set -euo pipefail
usage="usage: dgl_tf/run_train.sh vgg|resnet50|resnet50se|inceptionv3|mobilenetv1 DATA [options of dgl_tf.train]"
[ $# -ge 2 ] || { echo "error: $usage" >&2; exit 2; }
arch=$1
data=$(realpath "$2")
shift 2
cd "$(dirname "${BASH_SOURCE[0]}")/.."
python=$(environments/python.sh dgl_tf)
exec "$python" -m dgl_tf.train --arch "$arch" --data.name cub \
  --data.root "$data" --data.split train --load auto --out "runs/dgl-$arch" "$@"
