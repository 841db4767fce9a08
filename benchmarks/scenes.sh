#!/usr/bin/env bash
# Trains the segmentation networks on demo-scenes with several seeds, and scores CAM's class maps, BAS's, and both merged, at
# thresholds chosen on the split val: some fifteen minutes a seed on two cores.
# What is done already is not done again, and what was stopped goes on. $WSOL_PYTHON names an environment of your own.
#   benchmarks/scenes.sh runs/scenes        # the seeds 0, 1 and 2
#   benchmarks/scenes.sh runs/scenes 5 6
set -euo pipefail
usage="usage: benchmarks/scenes.sh OUT [SEED...]"
[ $# -ge 1 ] || { echo "error: $usage" >&2; exit 2; }
out=$(realpath -m "$1")
shift
seeds=("$@")
[ $# -gt 0 ] || seeds=(0 1 2)
cd "$(dirname "${BASH_SOURCE[0]}")/.."
python=$(environments/python.sh bas)
data=(--data.name demo-scenes --data.root "$out/data")
"$python" -m common.prepare demo-scenes --root "$out/data"
"$python" -m common.weights mobilenet_v1

scored=()
held=()
for seed in "${seeds[@]}"; do
  run=$out/seed-$seed
  "$python" -m bas.segmentation.run train "${data[@]}" --data.split train --out "$run" --backbone mobilenet_v1 --runtime.seed "$seed"
  for split in val test; do
    at=("${data[@]}" --data.split "$split" --scales 0.5 0.75)
    "$python" -m bas.segmentation.maps --cam "$run/cam/final.pth" "${at[@]}" --out "$run/$split-cam"
    "$python" -m bas.segmentation.maps --bas "$run/bas/final.pth" --merge none "${at[@]}" --out "$run/$split-bas"
    "$python" -m bas.segmentation.maps --bas "$run/bas/final.pth" --cam "$run/cam/final.pth" "${at[@]}" --out "$run/$split-merged"
  done
  scored+=("$run"/test-{cam,bas,merged})
  held+=("$run"/val-{cam,bas,merged})
done
"$python" -m common.evaluate "${scored[@]}" --validation "${held[@]}" --sweep whole --json "$out/results.json"
