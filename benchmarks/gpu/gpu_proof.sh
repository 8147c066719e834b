#!/usr/bin/env bash
# Prove and measure scgenept-rt on a GPU, in two stages: `gpu_proof.sh first`, then `gpu_proof.sh second`. See README.md.
# Each step has its own time limit and writes to $OUT as it goes; one that fails or hangs does not stop the others.
#   KIT_DEVICE=cpu                       rehearse on a CPU, with small sizes (KIT_GENES, KIT_LAYERS, ... set others)
#   KIT_DEADLINE=SECONDS                 no step runs beyond it (default 470)
#   KIT_SKIP="big crowded"               steps to leave out;  KIT_ONLY="prepared bench_fp16": run only these
#   KIT_PY=PYTHON  KIT_STATE=DIRECTORY   the interpreter; where work and installation are kept (default /tmp/gpu-proof)
set -uo pipefail
stage=${1:?usage: gpu_proof.sh install|first|second}
kit=$(cd "$(dirname "$0")" && pwd)
state=${KIT_STATE:-/tmp/gpu-proof}
export OUT=${OUT:-$state/out} KIT_DEVICE=${KIT_DEVICE:-cuda} KIT_WORK=${KIT_WORK:-$state/work}
export PYTHONUNBUFFERED=1
unset PYTHONDONTWRITEBYTECODE # each step would compile all packages again
mkdir -p "$OUT" "$KIT_WORK"
log=$OUT/steps.log
started=$(date +%s)
deadline=${KIT_DEADLINE:-470}
python=${KIT_PY:-python3}
failed=0

step() { # NAME LIMIT COMMAND...
  local name=$1 limit=$2 left begin rc seconds
  shift 2
  case " ${KIT_SKIP:-} " in *" $name "*) return 0 ;; esac
  if [ -n "${KIT_ONLY:-}" ]; then case " $KIT_ONLY " in *" $name "*) ;; *) return 0 ;; esac; fi
  left=$((deadline - $(date +%s) + started))
  if [ "$left" -lt 6 ]; then
    echo "--- $name: no time is left" | tee -a "$log"
    failed=$((failed + 1))
    return 0
  fi
  [ "$limit" -le "$left" ] || limit=$left
  begin=$(date +%s%N)
  printf '\n=== %s: %s\n' "$name" "$*" >>"$log"
  timeout -k 5 "$limit" "$@" >>"$log" 2>&1
  rc=$?
  seconds=$((($(date +%s%N) - begin) / 1000000))
  seconds=$((seconds / 1000)).$(printf %03d $((seconds % 1000)))
  printf '{"step": "timing", "name": "%s", "rc": %d, "seconds": %s}\n' "$name" "$rc" "$seconds" >>"$OUT/results.jsonl"
  printf '%-16s rc %3d %7.1f s\n' "$name" "$rc" "$seconds"
  if [ "$rc" -ne 0 ]; then
    failed=$((failed + 1))
    echo "    last lines:"
    tail -n 4 "$log" | cut -c1-300 | sed 's/^/    /'
  fi
}

install() { # what prepare.sh made, into the environment that has PyTorch: ONNX Runtime looks for CUDA and cuDNN there
  mkdir -p "$state/wheels"
  cat "$state"/parts/all.tar.?? | tar xf - -C "$state/wheels" || return 1
  rm -f "$state"/parts/all.tar.??
  local pip=(-m pip install -q --no-index --no-deps --no-compile --no-cache-dir)
  "$python" -m pip uninstall -q -y onnxruntime && "$python" "${pip[@]}" "$state"/wheels/*.whl && return 0
  echo "the environment of PyTorch cannot be changed: making one of links to it, without its onnxruntime"
  local packages link=$state/linked brought=" onnxruntime " name
  packages=$("$python" -c 'import torch; print(torch.__path__[0].rsplit("/", 1)[0])') || return 1
  mkdir -p "$link"
  for entry in "$state"/wheels/*.whl; do name=${entry##*/} brought="$brought${name%%-*} "; done
  for entry in "$packages"/*; do
    name=${entry##*/}
    name=${name%%-*}
    case $brought in *" ${name%.py} "*) ;; *) ln -sfn "$entry" "$link/" ;; esac
  done
  "$python" "${pip[@]}" --upgrade --target "$link" "$state"/wheels/*.whl || return 1
  "$python" -m venv --without-pip "$state/venv" || return 1
  echo "$link" >"$("$state/venv/bin/python" -c 'import sysconfig; print(sysconfig.get_paths()["purelib"])')/linked.pth"
  echo "$state/venv/bin/python" >"$state/python"
}

libraries() { # whether the package itself finds CUDA, cuDNN and the GPU
  "$python" -m scgenept_rt providers --json >"$OUT/providers.json" 2>>"$log"
  "$python" - <<'P'
import json, os
rows = {row["name"]: row for row in json.load(open(os.environ["OUT"] + "/providers.json"))}
print("cuda:", rows["cuda"]["usable"], rows["cuda"]["reason"], rows["cuda"]["remedy"])
raise SystemExit(0 if rows["cuda"]["usable"] or os.environ["KIT_DEVICE"] == "cpu" else 1)
P
}

[ "$stage" = install ] && { install; exit $?; }
if [ "$stage" = first ] && [ -f "$state/parts/all.tar.00" ]; then
  step install 90 bash "$0" install
fi
[ -f "$state/python" ] && python=$(cat "$state/python")
clocks=
if [ "$KIT_DEVICE" = cuda ]; then
  half=fp16 sizes=1,2,4,8,16,32,64 repeats=12 rounds=5 controls="--n-controls 60" n_screen=18
  genes=${KIT_GENES:-5045} layers=${KIT_LAYERS:-12} cells=${KIT_CELLS:-32} tokens=${KIT_TOKENS:-6000}
  if ! libraries; then
    dirs=$("$python" -c 'import glob, torch; print(":".join(sorted(glob.glob(torch.__path__[0].rsplit("/", 1)[0] + "/nvidia/*/lib"))))')
    export LD_LIBRARY_PATH=$dirs${LD_LIBRARY_PATH:+:$LD_LIBRARY_PATH}
    echo "!!! the package did not find CUDA or cuDNN itself; going on with LD_LIBRARY_PATH" | tee -a "$log"
    libraries
  fi
  step gpu 20 nvidia-smi -q -d MEMORY,CLOCK,POWER,TEMPERATURE
  nvidia-smi --query-gpu=timestamp,clocks.sm,clocks.mem,power.draw,temperature.gpu,utilization.gpu,memory.used \
    --format=csv,noheader,nounits -lms 1000 >"$state/clocks.csv" 2>/dev/null &
  clocks=$!
else
  half=fp32 sizes=1,2 repeats=2 rounds=1 controls= n_screen=3
  genes=${KIT_GENES:-300} layers=${KIT_LAYERS:-2} cells=${KIT_CELLS:-4} tokens=${KIT_TOKENS:-400}
  libraries
fi
bundle=$KIT_WORK/bundle names=$KIT_WORK/labels.txt
run="$python $kit/steps.py"
rt="$python -m scgenept_rt"
screen="$rt predict $bundle $KIT_WORK/controls.h5ad --provider $KIT_DEVICE"
bench="$rt benchmark $bundle --provider $KIT_DEVICE"

first() {
  # Checkpoint, export and their check take a minute of CPU, beside the first steps.
  $run prepare >"$state/prepare.log" 2>&1 &
  preparing=$!
  step verify_demo 40 $rt verify demo --provider "$KIT_DEVICE"
  step prepared 200 bash -c "while [ ! -f $KIT_WORK/controls.npy ] && kill -0 $preparing 2>/dev/null; do sleep 0.5; done; cat $state/prepare.log; [ -f $KIT_WORK/controls.npy ]"
  step verify 90 $rt verify "$bundle" --provider "$KIT_DEVICE" --against torch --reference-checkpoint "$KIT_WORK/checkpoint.pt"
  step predict_$half 40 $screen --precision $half --perturbations "$names" --aggregate cells --out "$KIT_WORK/cells_$half.h5ad" --overwrite
  if [ "$half" = fp16 ]; then
    step predict_fp32 50 $screen --precision fp32 --perturbations "$names" --aggregate cells --out "$KIT_WORK/cells_fp32.h5ad" --overwrite
  fi
  step compare 60 $run compare "$KIT_WORK"/cells_*.h5ad
  step bench_$half 60 $bench --precision $half --batch-sizes $sizes --repeats $repeats --end-to-end --json "$OUT/bench_$half.json"
  step kernels 45 $run kernels
  step variants 60 $run variants
  step latency 40 $run latency
  if [ "$KIT_DEVICE" = cuda ]; then
    step bench_fp32_gpu 40 $bench --precision fp32 --batch-sizes 1,8 --repeats 5 --json "$OUT/bench_fp32.json"
  fi
  step killed 60 $run killed $screen --precision $half $controls $(for ((i = 0; i < n_screen; i++)); do printf -- '-p G%05d ' $i; done)
  step big 40 $run big
  step crowded 80 $run crowded $screen --perturbations "$names" --out "$state/crowded.h5ad" --overwrite
  wait "$preparing"
  step collect 10 $run collect
}

sides() { # NAME LIMIT ROUNDS FORMS: all forms of one run keep their memory on the GPU until its end
  step "$1" "$2" "$python" "$kit/../side_by_side.py" --device "$KIT_DEVICE" --genes "$genes" --layers "$layers" --cells "$cells" \
    --tokens "$tokens" --rounds "$3" --work "$KIT_WORK" --forms "$4" --json "$OUT/side_${1#sides_}.json"
}

second() {
  sides sides_main 180 $rounds published,pytorch-best,default-export-opset23,scgenept-rt-$half,scgenept-rt-files
  sides sides_compile 220 $rounds torch-compile,pytorch-best,scgenept-rt-$half
  sides sides_batched 100 $rounds published-batched,scgenept-rt-fp32
  sides sides_masks 60 $rounds published-no-mask,published-no-fast-path
  step collect_sides 10 $run collect_sides
}

"$stage"
[ -n "$clocks" ] && kill "$clocks" 2>/dev/null
# Few files, since a call may return only so many.
cp "$state/clocks.csv" "$state/prepare.log" "$OUT" 2>/dev/null
(cd "$OUT" && tar czf rest.tar.gz $(ls clocks.csv prepare.log providers.json 2>/dev/null) && rm -f clocks.csv prepare.log providers.json)
echo "=== summary"
$run summary 2>&1 | tee "$OUT/summary.txt" | tail -c 10000
exit $((failed > 0))
