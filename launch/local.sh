#!/usr/bin/env bash
# Trains on this machine, in one process or in several that train together.
#
#   launch/local.sh                                     the tiny preset on the built-in corpus
#   launch/local.sh --config.train.steps=100            any key of the configuration
#   launch/local.sh --config=configs/pretrain.py:small  another configuration (or CONFIG=...)
#   launch/local.sh -n 2 --workdir=runs/two             two processes that share the batch
#
#   -n N          processes (1). Each is the same program; on GPUs each gets one of them, so -n is
#                 their number. One process with every GPU is the faster choice on one machine;
#                 several are for trying on one machine what a cluster does.
#   -h, --help    this text
#
# Everything else goes to `python -m qwen_audio_jax.main`. Process 0 writes to the terminal as if it
# were alone, the others with their number in front. When one fails the others are ended and its
# status is returned. Ctrl-C and SIGTERM reach all of them: they save, end, and the same command
# goes on from there; given twice, they end at once.
#
# To try a mesh without the hardware, let the CPU stand in for eight devices:
#
#   XLA_FLAGS=--xla_force_host_platform_device_count=8 launch/local.sh \
#     --config.mesh.replica=2 --config.mesh.fsdp=2 --config.mesh.tensor=2
set -euo pipefail

# How long the others may take to end after one has failed. Their work since the last checkpoint is
# lost either way: saving takes all processes.
GRACE_SECONDS=${GRACE_SECONDS:-10}

fail() { echo "error: $1" >&2; exit 2; }

processes=1
config=("--config=${CONFIG:-configs/pretrain.py}")
arguments=()
while (($#)); do
  case $1 in
    -h | --help) sed -n '2,/^[^#]/{s/^# \{0,1\}//p}' "${BASH_SOURCE[0]}"; exit 0 ;;
    -n) processes=${2:-}; shift ;;
    -n*) processes=${1#-n} ;;
    --config | --config=*) config=(); arguments+=("$1") ;;
    *) arguments+=("$1") ;;
  esac
  (($#)) && shift
done
[[ $processes =~ ^[1-9][0-9]*$ ]] || fail "-n takes the number of processes, 1 or more, not '$processes'"

# An empty array is "unbound" to older bashes.
command=(python -m qwen_audio_jax.main "${config[@]+"${config[@]}"}" "${arguments[@]+"${arguments[@]}"}")
cd "$(dirname "${BASH_SOURCE[0]}")/.."
if ((processes == 1)); then exec "${command[@]}"; fi

port=$(python -c 'import socket; s = socket.socket(); s.bind(("127.0.0.1", 0)); print(s.getsockname()[1])')
export JAX_COORDINATOR_ADDRESS=127.0.0.1:$port JAX_NUM_PROCESSES=$processes
IFS=, read -ra gpus <<<"${CUDA_VISIBLE_DEVICES:-$(seq -s, 0 $((processes - 1)))}"

# A line at a time, with $1 in front; a progress bar, which rewrites its line, gets one for each state.
# Ctrl-C is the processes' business: what they still have to say comes through here.
prefix() {
  trap '' INT TERM HUP
  exec python -c '
import sys
for line in open(0, errors="replace"):  # unlike sys.stdin, it takes the \r of a bar for an end too
    if line.strip():
        sys.stdout.write(sys.argv[1] + line.rstrip() + "\n")
        sys.stdout.flush()' "$1"
}

# Job control gives each process a group of its own. So the terminal's Ctrl-C comes here alone and
# is handed on once; without it, bash would have background processes ignore Ctrl-C.
set -m
pids=()
for ((i = 0; i < processes; i++)); do
  start=(env "JAX_PROCESS_ID=$i" "CUDA_VISIBLE_DEVICES=${gpus[i]:-}" "${command[@]}")
  if ((i == 0)); then
    "${start[@]}" </dev/null &
  else
    "${start[@]}" </dev/null > >(prefix "[$i] ") 2>&1 &
  fi
  pids+=($!)
done
set +m

signal_all() { for pid in "${pids[@]}"; do kill "-$1" "$pid" 2>/dev/null || true; done; }
trap 'signal_all INT' INT
trap 'signal_all TERM' TERM HUP

status=0
deadline=
running=("${pids[@]}")
while ((${#running[@]})); do
  left=()
  for pid in "${running[@]}"; do
    if kill -0 "$pid" 2>/dev/null; then left+=("$pid"); continue; fi
    code=0
    wait "$pid" || code=$?
    if ((code && !status)); then
      status=$code
      for i in "${!pids[@]}"; do [[ ${pids[i]} == "$pid" ]] && number=$i; done
      if ((${#running[@]} > 1)); then
        echo "error: process $number ended with status $code; ending the others" >&2
        signal_all TERM
        deadline=$((SECONDS + GRACE_SECONDS))
      fi
    fi
  done
  running=("${left[@]+"${left[@]}"}")
  if [[ $deadline ]] && ((SECONDS >= deadline)); then signal_all KILL; fi
  sleep 0.2 || true # Ctrl-C ends it
done
exit "$status"
