#!/usr/bin/env bash
# Lay everything that a GPU machine without a network needs into .gpu/, in parts of which each fits into one call beside
# the working tree; print the calls. Run it in a checkout:   bash benchmarks/gpu/prepare.sh [PYTHON_VERSION]
#   CALL_MIB=64               what a call may carry
#   ORT_GPU=REQUIREMENT       the onnxruntime-gpu to take
#   PRESENT="numpy scipy"     packages that the machine's environment, which has PyTorch, onnx and onnxscript, has besides
set -euo pipefail
version=${1:-3.12}
present=${PRESENT-numpy pandas scipy h5py certifi charset_normalizer idna packaging python_dateutil pyyaml requests tzdata urllib3 pytz}
cd "$(git -C "$(dirname "$0")" rev-parse --show-toplevel)"
rm -rf .gpu
mkdir -p .gpu/wheels
platforms=$(printf -- '--platform %s ' manylinux_2_28_x86_64 manylinux_2_27_x86_64 manylinux_2_17_x86_64 manylinux2014_x86_64 manylinux_2_5_x86_64 manylinux1_x86_64)
download() {
  python3 -m pip download -q --only-binary=:all: --python-version "$version" --implementation cp $platforms -d .gpu/wheels "$@"
}
python3 -m pip wheel -q --no-deps -w .gpu/wheels .
download --no-deps "${ORT_GPU:-onnxruntime-gpu==1.31.1}"
download anndata 'typer>=0.19' 'zarr>=3.1' pooch filelock platformdirs
for name in $present; do rm -f .gpu/wheels/"$name"-*.whl; done
ls -l .gpu/wheels
tar cf .gpu/all.tar -C .gpu/wheels .
rm -r .gpu/wheels
tree=$(git ls-files -co --exclude-standard -z | du -bc --files0-from=- | tail -n 1 | cut -f 1)
room=$((${CALL_MIB:-64} * 1048576 - tree - 2 * 1048576))
size=$(stat -c %s .gpu/all.tar)
[ "$room" -gt 10000000 ] || { echo "the working tree has $tree bytes and leaves no room for a part" >&2; exit 1; }
parts=$(((size + room - 1) / room))
split -d -a 2 -b $(((size + parts - 1) / parts)) .gpu/all.tar .gpu/all.tar.
rm .gpu/all.tar
n=0
for part in .gpu/all.tar.??; do
  mkdir -p .gpu/part$n && mv "$part" .gpu/part$n/
  n=$((n + 1))
done
echo
echo "The calls, one after the other, with the working tree of $((tree / 1000000)) MB:"
for ((i = 0; i < n - 1; i++)); do
  echo "  carry .gpu/part$i, limit 60 s:  mkdir -p /tmp/gpu-proof/parts && cp .gpu/part$i/* /tmp/gpu-proof/parts/"
done
echo "  carry .gpu/part$i, limit 520 s:  mkdir -p /tmp/gpu-proof/parts && cp .gpu/part$i/* /tmp/gpu-proof/parts/ && bash benchmarks/gpu/gpu_proof.sh first"
echo "  carry nothing, limit 480 s:  KIT_DEADLINE=440 bash benchmarks/gpu/gpu_proof.sh second"
