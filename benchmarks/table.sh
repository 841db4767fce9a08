#!/usr/bin/env bash
# Trains every method of the README's table with several seeds, localizes, and compares: one to two hours a seed on two cores.
# What is done already is not done again, and what was stopped goes on. $WSOL_PYTHON names an environment of your own.
# AMP=bf16 trains CAM, BAS and SPOL in mixed precision: in half the time on a processor that multiplies bfloat16 itself.
#   benchmarks/table.sh CUB_200_2011 runs/table        # the seeds 0, 1 and 2
#   benchmarks/table.sh CUB_200_2011 runs/table 5 6
set -euo pipefail
usage="usage: benchmarks/table.sh CUB_200_2011 OUT [SEED...]"
[ $# -ge 2 ] || { echo "error: $usage" >&2; exit 2; }
root=$(realpath "$1")
out=$(realpath -m "$2")
shift 2
seeds=("$@")
[ $# -gt 0 ] || seeds=(0 1 2)
cd "$(dirname "${BASH_SOURCE[0]}")/.."
python=$(environments/python.sh all)
export WSOL_PYTHON=$python
data=(--data.name cub --data.classes 10 --data.held-per-class 5)
rooted=("${data[@]}" --data.root "$root")
"$python" -m common.ready "${rooted[@]}" --data.split test
"$python" -m common.ready "${rooted[@]}" --data.split held
"$python" -m common.weights mobilenet_v1

for seed in "${seeds[@]}"; do
  run=$out/seed-$seed
  runtime=(--runtime.seed "$seed" --runtime.amp "${AMP:-off}")
  "$python" -m common.pytorch.cam train "${rooted[@]}" --data.split train --out "$run/cam" "${runtime[@]}"
  "$python" -m bas.train --arch mobilenet --pretrained tf-slim "${rooted[@]}" --data.split train --out "$run/bas" --lr 0.0002 \
    --warmup-steps 80 --epochs 40 --decay-epochs 32 --augmentation.resize 180 --augmentation.crop 160 "${runtime[@]}"
  small="--epochs 20 --batch-size 16 ${runtime[*]}"
  CLS="--arch mobilenet_v1 --lr 0.02 --resize 224 --crop 192 $small" CAM="--backbone mobilenet_v1 --resize 192 --crop 168 $small" \
    SEG="--backbone mobilenet_v1 --resize 192 --crop 168 --warmup-steps 20 $small" \
    spol/run_train.sh cub "$root" "$run/spol" "${data[@]}"
  "$python" -m dgl_tf.train --arch mobilenetv1 --load auto "${rooted[@]}" --data.split train --epochs 14 --steps-per-epoch 8 \
    --drops 8 12 --warmup-steps 16 --validate held --workers 0 --seed "$seed" --out "$run/dgl"
  [ -f "$run/mobilenetv1.npz" ] || "$python" -m grcam.from_cam --checkpoint "$run/cam/final.pth" --out "$run/mobilenetv1.npz"
  "$python" -m spol.cls.test "${data[@]}" --datapath "$root" --data.split test --snapshot "$run/spol/cls/final.pth" --out "$run/verdicts"
  for split in test held; do
    at=("${rooted[@]}" --data.split "$split")
    crops=()
    [ "$split" = test ] || crops=(--crops 1)
    verdicts=()
    [ "$split" = held ] || verdicts=(--top1top5 "$run/verdicts/classification.json")
    "$python" -m common.pytorch.cam localize --checkpoint "$run/cam/final.pth" "${at[@]}" --out "$run/$split/cam" "${crops[@]}"
    "$python" -m bas.inference --checkpoint "$run/bas/final.pth" "${at[@]}" --out "$run/$split/bas" "${crops[@]}"
    "$python" -m spol.seg.test "${data[@]}" --datapath "$root" --data.split "$split" --snapshot "$run/spol/seg/final.pth" \
      "${verdicts[@]}" --out "$run/$split/spol"
    "$python" -m dgl_tf.test --load "$run/dgl" "${at[@]}" --clayer Conv2d_9_pointwise --frames squash crop --methods dgl --out "$run/$split/dgl" "${crops[@]}"
    "$python" -m grcam.generate_predicted_bbox --mode mobilenetv1 --load "$run/mobilenetv1.npz" "${at[@]}" --frames squash crop \
      --out "$run/$split/grcam" --bounding-box-save-path "$run/$split/boxes/" --classify-save-path "$run/$split/class.txt" "${crops[@]}"
  done
done
"$python" -m common.evaluate "$out"/seed-*/test/{cam,bas,spol,dgl,grcam}/* --validation "$out"/seed-*/held/{cam,bas,spol,dgl,grcam}/* \
  --format markdown --json "$out/results.json" >"$out/results.md"
"$python" -m common.compare "$out/seed-${seeds[0]}"/test/{cam,bas,spol,dgl,grcam}/* \
  --validation "$out/seed-${seeds[0]}"/held/{cam,bas,spol,dgl,grcam}/* --format markdown --json "$out/compared.json" >"$out/compared.md"
echo "$out/results.md and $out/compared.md; python -m benchmarks.readme $out writes the READMEs' tables"
