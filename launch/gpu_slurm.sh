#!/usr/bin/env bash
# Trains on a Slurm cluster, one process per GPU. Submit it from the checkout:
#
#   sbatch --nodes=2 --gpus-per-node=8 --exclusive launch/gpu_slurm.sh \
#     --config=configs/pretrain.py:qwen2_audio_7b --workdir=/shared/runs/a
#   sbatch --nodes=1 --ntasks=2 launch/gpu_slurm.sh --config=configs/pretrain.py --workdir=runs/b
#
# Checkout, data and workdir lie on a file system that all nodes mount. What sbatch is given (nodes,
# GPUs, --time, --partition, --account) is Slurm's, what follows the script's name is the program's.
# Without GPUs there are as many processes as --ntasks says.
#
# A job that is preempted, loses a node or reaches its time limit saves, goes back to the queue and
# goes on from its last checkpoint. `scancel JOB` saves and ends it.
#
# Environment, all optional (sbatch hands its own on to the job):
#
#   SETUP=FILE     sourced before the program: modules, variables
#   VENV=DIR       a virtual environment to activate
#   WRAP='...'     words before the program: 'apptainer exec --nv /shared/image.sif'
#   SRUN='...'     further flags of srun: '--container-image=image.sqsh' where Slurm has pyxis
#   LOGS=DIR       where LOGS/JOB/process-N.log go, one a process (logs)
#SBATCH --job-name=qwen-audio
#SBATCH --output=slurm-%j.log
#SBATCH --open-mode=append
#SBATCH --requeue
# To this script alone, two minutes before the time limit. (A TERM straight to the program would
# leave it unknown here whether it had come to its end or should go back to the queue.)
#SBATCH --signal=B:USR1@120
set -euo pipefail

fail() { echo "error: $1" >&2; exit 2; }

case ${1:-} in -h | --help) sed -n '2,/^#SBATCH/{/^#SBATCH/d;s/^# \{0,1\}//p}' "$0"; exit 0 ;; esac
[[ ${SLURM_JOB_ID:-} ]] || fail "this is not a Slurm job; submit it: sbatch --nodes=2 --gpus-per-node=8 launch/gpu_slurm.sh --config=..."
# Slurm runs a copy of this file from its spool folder, so where it came from is not known.
cd "$SLURM_SUBMIT_DIR"
[[ -f qwen_audio_jax/main.py ]] || fail "$SLURM_SUBMIT_DIR is not the checkout; run sbatch from the folder that holds qwen_audio_jax/"
[[ " $* " == *" --workdir"* ]] || fail "--workdir is missing; all nodes need the same folder, on a file system that they share"

# One process per GPU: what JAX's Slurm detection does (process i of a node takes GPU i of all that it
# sees, which is why srun must not hide GPUs from it by --gpus-per-task or --gpu-bind), and what lets
# each process's CPU cores feed one card.
gpus=${SLURM_GPUS_ON_NODE:-0}
tasks=$gpus
if ((gpus == 0)); then
  tasks=${SLURM_NTASKS_PER_NODE:-$((${SLURM_NTASKS:-$SLURM_NNODES} / SLURM_NNODES))}
elif [[ ${SLURM_NTASKS_PER_NODE:-$gpus} != "$gpus" ]]; then
  fail "$SLURM_NTASKS_PER_NODE tasks for $gpus GPUs on a node; leave out --ntasks-per-node, there is one process per GPU"
fi
cores=$((SLURM_CPUS_ON_NODE / tasks))
((cores)) || fail "Slurm gave this job $SLURM_CPUS_ON_NODE CPU cores on a node for $tasks processes; add --exclusive or --cpus-per-gpu=8 to sbatch"

logs=${LOGS:-logs}/$SLURM_JOB_ID
[[ $logs == /* ]] || logs=$PWD/$logs
mkdir -p "$logs"
# shellcheck disable=SC1090
[[ ! ${SETUP:-} ]] || source "$SETUP"
# shellcheck disable=SC1091
[[ ! ${VENV:-} ]] || source "$VENV/bin/activate"
read -ra wrap <<<"${WRAP:-}"
read -ra srun_flags <<<"${SRUN:-}"

echo "job $SLURM_JOB_ID, start $((${SLURM_RESTART_COUNT:-0} + 1)): $SLURM_NNODES nodes of $tasks processes with $cores CPU cores each; logs in $logs"
export PYTHONUNBUFFERED=1
# A process that fails ends the others: they would wait for it in their next collective.
srun --nodes="$SLURM_NNODES" --ntasks=$((SLURM_NNODES * tasks)) --ntasks-per-node="$tasks" \
  --cpus-per-task="$cores" --kill-on-bad-exit=1 \
  --output="$logs/process-%t.log" --open-mode=append "${srun_flags[@]+"${srun_flags[@]}"}" \
  "${wrap[@]+"${wrap[@]}"}" python -m qwen_audio_jax.main "$@" &
step=$!

requeue=
# The signal goes to the job's steps, not to srun: an srun that is sent TERM kills its tasks. When the
# job is cancelled or preempted Slurm itself sends TERM to the steps; here it is only waited for.
trap 'requeue=1; echo "time is nearly up: saving"; scancel --signal=TERM "$SLURM_JOB_ID"' USR1
trap 'echo "Slurm ends the job: saving"' TERM

# `wait` also returns when a signal has come.
while kill -0 "$step" 2>/dev/null; do wait "$step" || true; done
status=0
wait "$step" || status=$?
if [[ $requeue ]] && ((status == 0)); then
  echo "back to the queue"
  scontrol requeue "$SLURM_JOB_ID"
fi
((status == 0)) || echo "error: a process ended with status $status; see $logs" >&2
exit "$status"
