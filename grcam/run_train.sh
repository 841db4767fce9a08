#!/usr/bin/env bash
# Fine-tunes a classifier for step 1. GRCAM released no training; its classifiers are DGL's, and so is this.
#   grcam/run_train.sh mobilenetv1 CUB_200_2011
set -euo pipefail
usage="usage: grcam/run_train.sh vgg|resnet50se|inceptionv3|mobilenetv1 DATA [options of dgl_tf.train]"
[ $# -ge 2 ] || { echo "error: $usage" >&2; exit 2; }
exec "$(dirname "${BASH_SOURCE[0]}")/../dgl_tf/run_train.sh" "$@"
