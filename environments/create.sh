#!/usr/bin/env bash
# Makes the environment NAME in .envs/NAME and installs the project in it (editable), with whichever of these is found
# first: conda, mamba, micromamba; python3.11 with venv and pip; uv; uv from PyPI, by any other Python 3, in .envs/.uv.
#
#   environments/create.sh dgl_tf|grcam|spol|bas|all|tf221 [--gpu]
#
# all    what the tests and the demo use: the four together
# tf221  as all, with TensorFlow 2.21 and numpy 2
# --gpu  TensorFlow with CUDA (PyTorch's wheels from PyPI hold CUDA already)
#
# Run it again at any time: it does nothing while the environment is as asked for, and finishes one that was interrupted.
set -euo pipefail

here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
usage="usage: environments/create.sh dgl_tf|grcam|spol|bas|all|tf221 [--gpu]"

name=${1:-}
gpu=${2:-}
case "$name" in dgl_tf | grcam | spol | bas | all | tf221) ;; *) echo "error: which environment? $usage" >&2; exit 2 ;; esac
case "$gpu" in "" | --gpu) ;; *) echo "error: $gpu is no option. $usage" >&2; exit 2 ;; esac

file=$here/$name.yml
prefix=${WSOL_ENVS:-$(dirname "$here")/.envs}/$name
stamp=$prefix/.as-asked-for
root=$(dirname "$here")
pins=$here/$(sed -n 's/^      - -c //p' "$file")
asked=$(cat "$file" "$pins" <(echo "$gpu, with the project in $root") | sha256sum | cut -d' ' -f1)

if [ -f "$stamp" ] && [ "$(cat "$stamp")" = "$asked" ] && "$prefix/bin/python" -c '' 2>/dev/null; then
  echo "environment $name is ready: $prefix"
  exit 0
fi

if [ "$gpu" = --gpu ]; then
  gpu_file=$here/.$name-gpu.yml # beside the other, whose pins.txt it refers to
  trap 'rm -f "$gpu_file"' EXIT
  sed 's/- tensorflow-cpu==/- tensorflow[and-cuda]==/' "$file" >"$gpu_file"
  file=$gpu_file
fi

is_311() { "$1" -c 'import sys, venv, ensurepip; sys.exit(sys.version_info[:2] != (3, 11))' 2>/dev/null; }

# The lines below `- pip:` in the file, as pip's own requirements.
requirements() { sed -n 's/^      - //p' "$file" | sed "s#^-c #-c $here/#"; }

# Runs pip without its lines on what is there already. A terminal gets them too, because pip draws live bars only there.
without_satisfied() {
  if [ -t 1 ]; then "$@"; return; fi
  "$@" | while IFS= read -r line || [ -n "$line" ]; do
    case "$line" in "Requirement already satisfied"*) ;; *) printf '%s\n' "$line" ;; esac
  done
}

tool=
for candidate in conda mamba micromamba; do
  if command -v "$candidate" >/dev/null; then tool=$candidate; break; fi
done
if [ -z "$tool" ]; then
  for candidate in python3.11 python3; do
    if command -v "$candidate" >/dev/null && is_311 "$candidate"; then tool=$candidate; break; fi
  done
fi
if [ -z "$tool" ] && command -v uv >/dev/null; then tool=uv; fi
mkdir -p "$(dirname "$prefix")"
if [ -z "$tool" ]; then # any Python can fetch uv, and uv fetches Python 3.11
  private=$(dirname "$prefix")/.uv
  for candidate in python3 python; do
    [ ! -x "$private/bin/uv" ] || break
    command -v "$candidate" >/dev/null || continue
    echo "no Python 3.11 here: fetching uv from PyPI into $private"
    { "$candidate" -m venv --clear "$private" 2>/dev/null && "$private/bin/python" -m pip install --quiet uv; } ||
      "$candidate" -m pip install --quiet --target "$private" uv || true # Debian's Python may come without venv
  done
  if [ -x "$private/bin/uv" ]; then
    PATH=$private/bin:$PATH
    tool=uv
  fi
fi
if [ -z "$tool" ]; then
  echo "error: no conda, mamba, micromamba, uv or Python 3 with pip is on PATH. Install one of them: on Debian and Ubuntu" \
    "apt-get install python3-venv, on a Mac xcode-select --install." >&2
  exit 2
fi

echo "making environment $name in $prefix with $tool"
rm -f "$stamp"
case "$tool" in
  conda | mamba)
    if [ -d "$prefix/conda-meta" ]; then
      "$tool" env update --prefix "$prefix" --file "$file" --prune
    else
      "$tool" env create --yes --prefix "$prefix" --file "$file"
    fi
    ;;
  micromamba)
    micromamba create --yes --prefix "$prefix" --file "$file"
    ;;
  uv)
    [ -x "$prefix/bin/python" ] || uv venv --python 3.11 --seed "$prefix"
    uv pip install --python "$prefix/bin/python" --requirements <(requirements)
    ;;
  *)
    [ -x "$prefix/bin/pip" ] || "$tool" -m venv --clear "$prefix"
    without_satisfied "$prefix/bin/python" -m pip install --disable-pip-version-check --no-input \
      --requirement <(requirements)
    ;;
esac
# The project itself, editable, so that `wsol` and `import wsol` work from any folder.
if [ -f "$root/pyproject.toml" ]; then
  if [ "$tool" = uv ]; then
    uv pip install --python "$prefix/bin/python" --no-deps --no-build-isolation --editable "$root"
  else
    without_satisfied "$prefix/bin/python" -m pip install --disable-pip-version-check --no-input --no-deps \
      --no-build-isolation --editable "$root"
  fi
fi
echo "$asked" >"$stamp"
echo "environment $name is ready: $prefix"
