#!/usr/bin/env bash
# Build CUDA libraries that compute nothing, so that the real onnxruntime-gpu opens graphs and runs batches without a GPU:
#   build.sh DIRECTORY INCLUDE     INCLUDE: the headers of nvidia-cuda-runtime and nvidia-cuda-crt
# then run anything with LD_LIBRARY_PATH=DIRECTORY. Where nodes are placed, which kernels are launched, how much memory is
# taken and what an error says is real; outputs and times mean nothing. Settings are environment variables:
#   STANDIN_LOG=FILE         allocations, copies, kernels and their grids, captures, one per line, each with its thread
#   STANDIN_FAIL="cudaSetDevice=46 cublasCreate_v2=3"     calls that fail, with their error codes
#   STANDIN_MEMORY=BYTES  STANDIN_OTHERS=BYTES  STANDIN_GPUS=N  STANDIN_CAPABILITY=90  STANDIN_DRIVER_CUDA=13000
#   STANDIN_CUDNN_VERSION=91900  STANDIN_CUBLAS_ROWS=N
set -euo pipefail
out=$(realpath -m "$1") include=$(realpath "$2")
cd "$(dirname "$0")"
mkdir -p "$out"
build() { # LIBRARY SOURCE... - symbols carry the library's name as their version, as NVIDIA's do
  local library=$1
  shift
  printf '%s { global: *; };\n' "$library" >"$out/$library.map"
  g++ -w -O1 -std=c++17 -shared -fPIC -I"$include" -o "$out/$library" "$@" \
    -Wl,-soname,"$library" -Wl,--version-script="$out/$library.map" -Wl,-rpath,'$ORIGIN'
  rm "$out/$library.map"
}
build libcudart.so.13 cudart.cpp cudart_calls.cpp
build libcublas.so.13 cublas.cpp -L"$out" -l:libcudart.so.13 &
build libcublasLt.so.13 cublasLt.cpp -L"$out" -l:libcudart.so.13 &
build libcudnn.so.9 cudnn.cpp -L"$out" -l:libcudart.so.13 &
build libcurand.so.10 curand.cpp &
# The driver's symbols have no versions.
g++ -w -O1 -shared -fPIC cuda.cpp -o "$out/libcuda.so.1" -Wl,-soname,libcuda.so.1 &
g++ -w -O1 -shared -fPIC nvml.cpp -o "$out/libnvidia-ml.so.1" -Wl,-soname,libnvidia-ml.so.1 -ldl &
for job in $(jobs -p); do wait "$job"; done
