#!/usr/bin/env bash
# Classifies a test split into OUT/verdicts, localizes it into OUT/test/crop and OUT/test/squash, and scores it under every
# protocol. OUT is run_train.sh's; $SNAPSHOT names another seg checkpoint, such as the authors' model-8, and $TOP1TOP5 names
# classifications that are there already, such as their top1top5.npy. Options go to both commands; $CLS and $SEG hold those of
# one. SCORE=no localizes without scoring, where there are no boxes.
#   spol/run_test.sh cub CUB_200_2011 runs/spol
#   SNAPSHOT=model-6000 TOP1TOP5=top1top5.npy spol/run_test.sh imagenet /data/imagenet runs/released
set -euo pipefail
usage="usage: spol/run_test.sh cub|imagenet DATA OUT [options of both stages]"
[ $# -ge 3 ] || { echo "error: $usage" >&2; exit 2; }
recipe=$1
data=$(realpath "$2")
out=$(realpath -m "$3")
shift 3
snapshot=${SNAPSHOT:+$(realpath -m "$SNAPSHOT")}
verdicts=${TOP1TOP5:+$(realpath -m "$TOP1TOP5")}
case $recipe in
  cub) source=(--data.name cub --data.split test) classifier=$out/cls/final.pth released=$out/seg/final.pth ;;
  imagenet) source=(--data.name ilsvrc --data.split val) classifier=imagenet:efficientnet-b7 released=$out/seg/model-6000 ;;
  *) echo "error: $recipe is neither cub nor imagenet. $usage" >&2; exit 2 ;;
esac
cd "$(dirname "${BASH_SOURCE[0]}")/.."
python=$(environments/python.sh spol)
source=(--recipe "$recipe" "${source[@]}" --datapath "$data" "$@")
[ -n "$snapshot" ] || { [ -f "$released" ] && snapshot=$released || snapshot=$out/seg/final.pth; }
read -ra cls <<<"${CLS:-}"
read -ra seg <<<"${SEG:-}"

. environments/data_options.sh
data_options "${source[@]}"
scored=(--boxes)
[ "${SCORE:-yes}" = yes ] || scored=(--no-boxes)
needs=("$snapshot" "${verdicts:-$classifier}")
[[ ${needs[1]} != imagenet:* ]] || needs=("$snapshot")
"$python" -m common.ready --data.root "$data" "${images[@]}" "${scored[@]}" --needs "${needs[@]}"

if [ -z "$verdicts" ]; then
  "$python" -m spol.cls.test "${source[@]}" --snapshot "$classifier" --out "$out/verdicts" "${cls[@]}"
  verdicts=$out/verdicts/classification.json
fi
"$python" -m spol.seg.test "${source[@]}" --snapshot "$snapshot" --top1top5 "$verdicts" --out "$out/test" "${seg[@]}"
[ "${SCORE:-yes}" = yes ] || exit 0
exec "$python" -m common.evaluate "$out"/test/*
