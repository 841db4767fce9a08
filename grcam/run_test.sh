#!/usr/bin/env bash
# Runs GRCAM's four steps on a split: maps and boxes, groups, pseudo boxes, revision. Then it scores them under every protocol.
# OUT gets class.txt, boxes/, groups/, pseudo.txt, errors.json and predictions/. More options go to step 1; those of the data
# (--data.*, --image-path, --annotation-path, --synset) to step 4 as well. A second call goes on where the first one ended.
#   grcam/run_test.sh mobilenetv1 runs/dgl/model-1000 CUB_200_2011 runs/grcam/test
#   grcam/run_test.sh resnet50se model-40000 /data/imagenet runs/grcam --data.name ilsvrc --data.split val
# With --framework torch, an option of step 1, no step needs TensorFlow, and the checkpoints are the same.
# $STEP3 holds options of step 3, such as "--pseudo released" or "--pretrained-path resnet50.pth", and $STEP4 those of step 4,
# such as "--revise average --validation runs/grcam/held"; both are checked before step 1 starts. SCORE=no ends after step 3,
# where there are no boxes. $WSOL_PYTHON names an environment of your own.
set -euo pipefail
usage="usage: grcam/run_test.sh vgg|resnet50se|inceptionv3|mobilenetv1 CHECKPOINT DATA OUT [options of step 1]"
[ $# -ge 4 ] || { echo "error: $usage" >&2; exit 2; }
mode=$1
checkpoint=$2
case $checkpoint in imagenet:*) ;; *) checkpoint=$(realpath -m "$2") ;; esac
data=$(realpath "$3")
out=$(realpath -m "$4")
shift 4
cd "$(dirname "${BASH_SOURCE[0]}")/.."
python=$(environments/python.sh grcam)

images=(--data.name cub --data.root "$data")
truth=()
arguments=("$@")
for ((i = 0; i < $#; i++)); do
  case ${arguments[i]} in
    --data.*=* | --image?path=*) images+=("${arguments[i]}") ;;
    --data.* | --image?path) images+=("${arguments[i]}" "${arguments[i + 1]}") ;;
    --annotation?path=* | --synset=*) truth+=("${arguments[i]}") ;;
    --annotation?path | --synset) truth+=("${arguments[i]}" "${arguments[i + 1]}") ;;
  esac
done
files=(--bounding-box-save-path "$out/boxes/" --classify-save-path "$out/class.txt")
pseudo=(--pseudo-bounding-box-save-path "$out/pseudo.txt")
step3=(--arch resnet50)
[ "$mode" != mobilenetv1 ] || step3=(--arch mobilenet_v1)
read -r -a more3 <<< "${STEP3:-}"
read -r -a more4 <<< "${STEP4:-}"

step4=("${images[@]}" "${truth[@]}" "${files[@]}" "${pseudo[@]}" --mode "$mode" --out "$out/predictions" --json "$out/errors.json")

"$python" -m grcam.pseudo_bbox.main --rebuild-val-save-path "$out/groups" "${pseudo[@]}" "${step3[@]}" "${more3[@]}" --check
[ "${SCORE:-yes}" = no ] || "$python" -m grcam.revise_bbox "${step4[@]}" "${more4[@]}" --check

"$python" -m grcam.generate_predicted_bbox --mode "$mode" --load "$checkpoint" --data.name cub --data.root "$data" \
  --out "$out/predictions" "${files[@]}" --cam "$@"
"$python" -m grcam.pseudo_bbox.rebuild_val "${images[@]}" --classify-save-path "$out/class.txt" \
  --rebuild-val-save-path "$out/groups"
"$python" -m grcam.pseudo_bbox.main --rebuild-val-save-path "$out/groups" "${pseudo[@]}" "${step3[@]}" "${more3[@]}"
[ "${SCORE:-yes}" = yes ] || exit 0
"$python" -m grcam.revise_bbox "${step4[@]}" "${more4[@]}"
exec "$python" -m common.evaluate "$out"/predictions/*
