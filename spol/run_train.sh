#!/usr/bin/env bash
# Trains the three stages as released, into OUT/cls, OUT/cam, OUT/masks (pseudo masks) and OUT/seg. Options such as --data.name
# go to every command; $CLS, $CAM, $MASKS and $SEG hold those of one stage. What is done already is not done again. ImageNet's
# classifier is the stock one, so there is none to train. $WSOL_PYTHON names an environment of your own.
#   spol/run_train.sh cub CUB_200_2011 runs/spol
#   GPUS=4 spol/run_train.sh imagenet /data/imagenet runs/spol
#   CLS="--arch mobilenet_v1 --resize 256 --crop 224" CAM="--backbone mobilenet_v1" SEG="--backbone mobilenet_v1" \
#     spol/run_train.sh cub CUB_200_2011 runs/spol
set -euo pipefail
usage="usage: spol/run_train.sh cub|imagenet DATA OUT [options of every stage]"
[ $# -ge 3 ] || { echo "error: $usage" >&2; exit 2; }
recipe=$1
data=$(realpath "$2")
out=$(realpath -m "$3")
shift 3
case $recipe in
  cub) name=cub ;;
  imagenet) name=ilsvrc ;;
  *) echo "error: $recipe is neither cub nor imagenet. $usage" >&2; exit 2 ;;
esac
cd "$(dirname "${BASH_SOURCE[0]}")/.."
python=$(environments/python.sh spol)
trained=("$python")
[ "${GPUS:-1}" -eq 1 ] || trained+=(-m torch.distributed.run --standalone --nproc_per_node "$GPUS")
source=(--recipe "$recipe" --data.name "$name" --datapath "$data" --data.split train "$@")
read -ra cls <<<"${CLS:-}"
read -ra cam <<<"${CAM:-}"
read -ra masks <<<"${MASKS:-}"
read -ra seg <<<"${SEG:-}"

if [ "$recipe" = cub ]; then
  "${trained[@]}" -m spol.cls.train "${source[@]}" --out "$out/cls" "${cls[@]}"
fi
"${trained[@]}" -m spol.cam.train "${source[@]}" --out "$out/cam" "${cam[@]}"
snapshot=$out/cam/final.pth
[ ! -f "$out/cam/model-6000" ] || snapshot=$out/cam/model-6000 # ImageNet's pass has 10,010 steps; the release takes the 6000th
"$python" -m spol.cam.test "${source[@]}" --snapshot "$snapshot" --masks "$out/masks" "${masks[@]}"
exec "${trained[@]}" -m spol.seg.train "${source[@]}" --masks "$out/masks" --out "$out/seg" "${seg[@]}"
