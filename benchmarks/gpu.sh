#!/usr/bin/env bash
# Measures Espalier on a GPU, from start to end in under 8 minutes, without a network.
#
#   bash gpu.sh [OUT]      DEVICE=cuda:0 (default) or cpu (tiny sizes, to try the script itself)
#                          PYTHON=python3   a Python with PyTorch; transformers, too, where it has it
#                          WORK=folder      keeps what is unpacked and compiled there for the next call
#                          ONLY=setup,numerics   some of the steps (see gpu/run.mjs)
#
# Beside it, or in ../.gpu-bundle, lies what gpu-bundle.mjs packed: node.xz and project.tar.xz. The machine needs that Python,
# a C++ compiler and, for a GPU, the driver.
set -eu
here=$(cd "$(dirname "$0")" && pwd)
bundle=$here
[ -f "$bundle/project.tar.xz" ] || bundle=$here/../.gpu-bundle
if [ ! -f "$bundle/project.tar.xz" ]; then
  echo "there is no project.tar.xz beside this script: node benchmarks/gpu-bundle.mjs packs it" >&2
  exit 2
fi
out=${1:-${OUT:-$PWD/gpu-results}}
mkdir -p "$out"
out=$(cd "$out" && pwd)
export PYTHON=${PYTHON:-python3} DEVICE=${DEVICE:-cuda:0}
if [ -n "${WORK:-}" ]; then
  work=$WORK
  mkdir -p "$work"
else
  work=$(mktemp -d)
  trap 'rm -rf "$work"' EXIT
fi
if [ ! -d "$work/project" ]; then
  echo "unpacking into $work"
  # Python is there anyway; xz may not be.
  "$PYTHON" - "$bundle" "$work" <<'UNPACK'
import lzma, os, shutil, sys, tarfile
bundle, work = sys.argv[1:]
with lzma.open(f"{bundle}/node.xz") as packed, open(f"{work}/node", "wb") as node:
    shutil.copyfileobj(packed, node)
os.chmod(f"{work}/node", 0o755)
with tarfile.open(f"{bundle}/project.tar.xz") as project:
    project.extractall(f"{work}/unfinished")
os.rename(f"{work}/unfinished", f"{work}/project")
UNPACK
fi
"$work/node" "$work/project/benchmarks/gpu/run.mjs" "$out"
