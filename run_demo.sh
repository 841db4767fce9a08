#!/usr/bin/env bash
# Sets up what is missing, trains and localizes on the embedded data, and writes a page about it.
# Stages that are done are skipped; an interrupted one goes on where it ended.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")"
[ $# -eq 0 ] || { echo "error: $1 is no option. usage: ./run_demo.sh" >&2; exit 2; }

environments/create.sh all
python=.envs/all/bin/python
data=data/demo
out=runs/demo
source=(--data.name demo --data.root "$data" --data.held-per-class 5)

stage() { printf '\n== %s\n' "$*"; }

stage "1 of 5: MobileNetV1's ImageNet weights"
$python -m common.weights mobilenet_v1

stage "2 of 5: the embedded data"
$python -m common.prepare demo --root "$data" --decode headers

stage "3 of 5: the CAM baseline, trained on class labels only"
$python -m common.pytorch.cam train "${source[@]}" --data.split train --out "$out/cam" \
  --epochs 10 --lr 0.01 --warmup-steps 20 --augmentation.resize 148 --augmentation.crop 128

stage "4 of 5: localization of the test images, and of held-out training images to choose thresholds on"
$python -m common.pytorch.cam localize --checkpoint "$out/cam/final.pth" "${source[@]}" --data.split test --out "$out/cam/test"
$python -m common.pytorch.cam localize --checkpoint "$out/cam/final.pth" "${source[@]}" --data.split held --out "$out/cam/held" --crops 1

stage "5 of 5: every protocol, and the page"
page=$out/report.html
if [ ! -f "$page" ] || [ "$out/cam/test/squash/manifest.json" -nt "$page" ]; then
  $python -m common.report "$out"/cam/test/{crop,squash} --validation "$out"/cam/held/{crop,squash} --out "$page" --overwrite
fi
printf '\nThe page is %s\n' "$PWD/$page"
