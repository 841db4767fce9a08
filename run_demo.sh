#!/usr/bin/env bash
# Sets up what is missing, shows five photographs under the methods that need no training, then trains CAM and the four
# methods on the embedded data, scores them under every protocol and writes a page about them. Stages that are done are
# skipped; an interrupted one goes on.
#   ./run_demo.sh                                      forty minutes to an hour and a half on two cores, after the set-up
#   ./run_demo.sh --quick                              fewer images, steps and crops, BAS left out: five to ten minutes, worse numbers
#   ./run_demo.sh --seeds 3                            trains every method three times; tables have mean, spread and interval
#   ./run_demo.sh --data cub --root CUB_200_2011 --classes 10    the same on a data set of yours
#   ./run_demo.sh --data folder --root pets --boxes pets.csv     class folders in train/ and test/; without boxes, pictures alone
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")"
usage="usage: ./run_demo.sh [--quick] [--data cub|ilsvrc|folder --root DIR [--boxes CSV] [--classes N]] [--seeds N]"
quick= name=demo root= classes= boxes= seeds=1
while [ $# -gt 0 ]; do
  case $1 in
    --quick) quick=yes; shift ;;
    --data | --root | --classes | --boxes | --seeds)
      [ $# -ge 2 ] || { echo "error: $1 needs a value. $usage" >&2; exit 2; }
      case $1 in --data) name=$2 ;; --root) root=$2 ;; --classes) classes=$2 ;; --boxes) boxes=$2 ;; --seeds) seeds=$2 ;; esac
      shift 2 ;;
    --help | -h) echo "$usage"; exit ;;
    *) echo "error: $1 is no option. $usage" >&2; exit 2 ;;
  esac
done
case $name in
  demo) [ -z "$root$classes$boxes" ] || { echo "error: --root, --boxes and --classes go with --data. $usage" >&2; exit 2; } ;;
  cub | ilsvrc | folder) [ -d "$root" ] || { echo "error: --data $name needs --root, a folder. $usage" >&2; exit 2; } ;;
  *) echo "error: unknown data set $name. $usage" >&2; exit 2 ;;
esac

[ -z "$boxes" ] || [ "$name" = folder ] || { echo "error: --boxes goes with --data folder. $usage" >&2; exit 2; }
[ -z "$boxes" ] || [ -f "$boxes" ] || { echo "error: $boxes: no such file. $usage" >&2; exit 2; }
[[ $seeds =~ ^[1-9][0-9]?$ ]] || { echo "error: --seeds $seeds is no number from 1 to 99. $usage" >&2; exit 2; }

python=$(environments/python.sh all)
export WSOL_PYTHON=$python
out=runs/demo${quick:+-quick}
rendered=()
case $name in
  demo)
    root=data/demo${quick:+-quick}
    [ -z "$quick" ] || rendered=(--recipe.train-per-class 20 --recipe.test-per-class 8) ;;
  *) out=$out-$name ;;
esac
held=5
[ -z "$quick" ] || held=3
data=(--data.name "$name" --data.held-per-class "$held" ${classes:+--data.classes "$classes"} ${boxes:+--data.boxes "$boxes"})
test=test
[ "$name" != ilsvrc ] || test=val
scored=yes validated=yes # whether the test and the held-out images have boxes
if [ "$name" != demo ]; then # all that later stages need of the data, before the first one starts
  for split in train held "$test"; do
    $python -m common.ready "${data[@]}" --data.root "$root" --data.split "$split" --no-boxes
  done
  has_boxes() { $python -m common.ready "${data[@]}" --data.root "$root" --data.split "$1" 2>/dev/null; }
  has_boxes "$test" || { scored=no; echo "the test images have no boxes: the page will hold pictures, and no table"; }
  [ "$scored" = no ] || has_boxes held || { validated=no; echo "the held-out images have no boxes: no threshold is chosen on them"; }
  export SCORE=$scored
fi
size=(--augmentation.resize 148 --augmentation.crop 128)

left_out="BAS is left out of --quick, because it needs more steps than fit into ten minutes; ./run_demo.sh trains it."
crops=() # ten, as released
if [ -n "$quick" ]; then
  cam=4 dgl=3 spol_cls=2 spol=2 crops=(--crops 1)
else
  cam=10 bas=10 dgl=6 spol_cls=4 spol=8
fi

page=$out/report.html
started=$SECONDS
stages=8
first= # the share of the time, in percent, that lies before the first stage that this run does
stage() { # number, what, the share of the time that lies before it in percent; fails where the stage is done
  [ ! -f "$out/stage-$1.done" ] || { printf '== %s of %s: %s: done\n' "$1" "$stages" "$2"; return 1; }
  local left=""
  first=${first:-$3}
  [ "$3" -eq "$first" ] || [ "$3" -lt 16 ] || left=", about $(((SECONDS - started) * (100 - $3) / ($3 - first) / 60 + 1)) min to go"
  printf '\n== %s of %s: %s (%s s so far%s)\n' "$1" "$stages" "$2" "$((SECONDS - started))" "$left"
}
finished() { mkdir -p "$out" && touch "$out/stage-$1.done"; }

photographs=$out/photographs.html
if [ "$name" = demo ] && stage 1 "photographs of installed packages, with MobileNetV1's own ImageNet head" 0; then
  $python -m common.weights mobilenet_v1
  $python -m common.prepare photographs --root data/photographs
  $python -m common.pytorch.maps.localize --checkpoint imagenet:mobilenet_v1 --data.name photographs --data.split val \
    --data.root data/photographs --methods cam grad-cam dgl grcam --layers features.pointwise_13 features.pointwise_11 \
    --out "$out/photographs"
  $python -m common.report "$out"/photographs/* --out "$photographs" --overwrite
  printf '\nA first page, to open while the rest is trained: %s\n' "$PWD/$photographs"
  finished 1
fi

if stage 2 "the data, and MobileNetV1's ImageNet weights" 4; then
  $python -m common.weights mobilenet_v1
  if [ "$name" = demo ]; then
    $python -m common.prepare demo --root "$root" --decode headers "${rendered[@]}"
  else
    $python -m common.prepare "$name" --root "$root" --decode headers ${classes:+--classes "$classes"} ${boxes:+--boxes "$boxes"}
  fi
  finished 2
fi

train_all() { # stages 3 to 7, into $out
  if stage 3 "CAM, the baseline" 6; then
    $python -m common.pytorch.cam train "${data[@]}" --data.root "$root" --data.split train --out "$out/cam" \
      --epochs "$cam" --lr 0.01 --warmup-steps 20 "${size[@]}" ${seed[@]+"${seed[@]}"}
    $python -m common.pytorch.cam localize --checkpoint "$out/cam/final.pth" "${data[@]}" --data.root "$root" \
      --data.split "$test" --out "$out/cam/test" "${crops[@]}"
    $python -m common.pytorch.cam localize --checkpoint "$out/cam/final.pth" "${data[@]}" --data.root "$root" \
      --data.split held --out "$out/cam/held" --crops 1
    finished 3
  fi

  if [ -n "$quick" ]; then
    printf '\n== 4 of %s: %s\n' "$stages" "$left_out"
  elif stage 4 "BAS" 16; then
    bas/run_train.sh mobilenet "$root" "${data[@]}" --pretrained tf-slim --out "$out/bas" --lr 0.0002 --warmup-steps 40 \
      --epochs "$bas" --decay-epochs "$((bas * 4 / 5))" "${size[@]}" ${seed[@]+"${seed[@]}"}
    bas/run_test.sh "$out/bas/final.pth" "$root" "$out/bas/test" "${data[@]}" --data.split "$test" "${crops[@]}" \
      >"$out/bas/test.txt"
    bas/run_test.sh "$out/bas/final.pth" "$root" "$out/bas/held" "${data[@]}" --data.split held --crops 1 >"$out/bas/held.txt"
    finished 4
  fi

  if stage 5 "SPOL: a classifier, class maps, pseudo masks, segmentation" 56; then
    recipe=cub
    [ "$name" != ilsvrc ] || recipe=imagenet
    small="--batch-size 16 --resize 146 --crop 128${seed[*]:+ ${seed[*]}}"
    CLS="--arch mobilenet_v1 --epochs $spol_cls --lr 0.02 $small" CAM="--backbone mobilenet_v1 --epochs $spol $small" \
      SEG="--backbone mobilenet_v1 --epochs $spol $small" spol/run_train.sh "$recipe" "$root" "$out/spol" "${data[@]}"
    spol/run_test.sh "$recipe" "$root" "$out/spol" "${data[@]}" >"$out/spol/test.txt"
    $python -m spol.seg.test --recipe "$recipe" "${data[@]}" --datapath "$root" --data.split held \
      --snapshot "$out/spol/seg/final.pth" --out "$out/spol/held"
    finished 5
  fi

  if stage 6 "DGL: a classifier in TensorFlow, dual gradients at two of its layers" 75; then
    dgl_tf/run_train.sh mobilenetv1 "$root" "${data[@]}" --out "$out/dgl" --epochs "$dgl" --steps-per-epoch 12 --drops "$((dgl - 1))" \
      --warmup-steps 16 --final-size 160 --workers 0 ${seed[1]:+--seed "${seed[1]}"}
    for split in "$test" held; do
      dgl_tf/run_test.sh "$out/dgl" "$root" "$out/dgl/$split" "${data[@]}" --data.split "$split" --clayer 2 5 --frames squash crop \
        --methods dgl "${crops[@]}" >"$out/dgl/$split.txt"
    done
    finished 6
  fi

  if stage 7 "GRCAM: refined maps, pseudo boxes of each class, revision" 86; then
    for split in "$test" held; do
      grcam/run_test.sh mobilenetv1 "$out/dgl/final.npz" "$root" "$out/grcam/$split" "${data[@]}" --data.split "$split" \
        "${crops[@]}" >"$out/grcam-$split.txt"
    done
    finished 7
  fi
}

base=$out places=("$out") seed=() # without --seeds each method's own
if [ "$seeds" -eq 1 ]; then
  train_all
else
  places=()
  for ((number = 0; number < seeds; number++)); do
    printf '\n== seed %s, of 0 to %s\n' "$number" "$((seeds - 1))"
    out=$base/seed-$number seed=(--runtime.seed "$number")
    places+=("$out")
    train_all
  done
  out=$base
fi

if stage 8 "every protocol, and the page" 93; then
  tested=() held_out=()
  for at in "${places[@]}"; do
    tested+=("$at"/cam/test/*)
    held_out+=("$at"/cam/held/*)
    if [ -z "$quick" ]; then # BAS needs more steps than --quick has
      tested+=("$at"/bas/test/*)
      held_out+=("$at"/bas/held/*)
    fi
    tested+=("$at"/spol/test/* "$at"/dgl/"$test"/* "$at"/grcam/"$test"/predictions/*)
    held_out+=("$at"/spol/held/* "$at"/dgl/held/* "$at"/grcam/held/predictions/{squash,cam-squash})
  done
  validation=()
  [ "$scored$validated" != yesyes ] || validation=(--validation "${held_out[@]}")
  $python -m common.report "${tested[@]}" ${validation[@]+"${validation[@]}"} --out "$page" --overwrite ${quick:+--note "$left_out"}
  finished 8
fi

printf '\nThe page is %s\n' "$PWD/$page"
[ "$name" != demo ] || printf 'and, of five photographs, %s\n' "$PWD/$photographs"
