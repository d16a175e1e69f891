#!/usr/bin/env bash
# Trains on Cloud TPUs: a slice, or several that train together.
#
#   export PROJECT_ID=my-project ZONE=us-east5-a TPU_NAME=audio ACCELERATOR_TYPE=v5p-128
#   launch/tpu_pod.sh create --spot
#   launch/tpu_pod.sh install --mount=gs://my-bucket
#   launch/tpu_pod.sh start --mount=gs://my-bucket --config=configs/pretrain.py:qwen2_audio_7b \
#     --config.data.root=/mnt/shared/data --workdir=/mnt/shared/runs/a
#   launch/tpu_pod.sh logs
#   launch/tpu_pod.sh delete
#
# Commands. Each may be given again: what is done already is left alone.
#
#   create    asks for the slices (a queued resource) and waits until they are there
#   install   copies this checkout (what git tracks, as it is now) to all workers, installs it there
#   start     starts training on all workers, in the background
#   logs      follows the log of worker 0; with --all, of every worker
#   status    what became of the slices and of training on each worker
#   stop      SIGTERM: training saves and ends; the slices stay, and cost
#   restart   whatever happened: slices that were preempted are replaced, then install and start
#   watch     restart, and again after each preemption, until training has come to its end
#   delete    gives the slices back, whatever runs on them
#
# Flags; in brackets the environment variable that may stand in its place, then the default.
#
#   --project=ID            [PROJECT_ID]
#   --zone=ZONE             [ZONE]
#   --name=NAME             [TPU_NAME]          of the queued resource and its slices
#   --accelerator=TYPE      [ACCELERATOR_TYPE]  v4-64, v5litepod-256, v5p-128, v6e-256
#   --runtime-version=V     [RUNTIME_VERSION]   the one documented for the accelerator
#   --slices=N              [SLICES]            1
#   --spot, --reserved                          on demand
#   --create-flag=FLAG      any other flag of `queued-resources create`; may be repeated
#   --ssh-flag=FLAG         any other flag of `queued-resources ssh` and `scp`; may be repeated
#   --mount=SOURCE          [MOUNT]             gs://BUCKET[/FOLDER] or, for NFS, HOST:/EXPORT
#   --mount-at=DIR          [MOUNT_AT]          /mnt/shared
#   --git=URL               [GIT]               clone this on the workers instead of copying
#   --commit=ID             [COMMIT]            what to check out there; this checkout's own
#   --failures=N                                after how many in a row watch gives up; 3
#   --all                                       logs of every worker
#   --dry-run               print the commands, run none; needs neither gcloud nor a project
#   --config..., --workdir=DIR, and all after --: the program's
#
# The program reads and writes by path. So data and workdir lie below the mount, a gs:// path is
# refused, and the workdir is the same for all workers. docs/scale.md says more.
set -euo pipefail

# Written for bash 3.2 too, which is what macOS has.
root=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)
POLL_SECONDS=${POLL_SECONDS:-30}

fail() { echo "error: $1" >&2; exit 2; }
say() { echo "$(date +%H:%M:%S) $1" >&2; }

# --- Words and commands ---------------------------------------------------------------------------

quote() { # words to one line that a shell reads back as the same words
  local word line=
  for word in "$@"; do
    if [[ $word =~ ^[A-Za-z0-9_./:=,@%+-]+$ ]]; then line+=" $word"
    else line+=" '$(printf %s "$word" | sed "s/'/'\\\\''/g")'"
    fi
  done
  printf '%s' "${line# }"
}

run() {
  if [[ $dry_run ]]; then quote "$@"; echo; else "$@"; fi
}

queued_resources() { # VERB ARGUMENTS…
  run gcloud compute tpus queued-resources "$@" --project="$project" --zone="$zone"
}

on_workers() { # NODE WORKER COMMAND: a line of shell on some of the workers
  queued_resources ssh "$name" "--node=$1" "--worker=$2" "${ssh_flags[@]+"${ssh_flags[@]}"}" "--command=$3"
}

# The same on all; fails unless each of them has answered. gcloud's own status does not tell: slices
# that it cannot reach it passes over with a warning.
on_all() {
  if [[ $dry_run ]]; then on_workers all all "$1"; return; fi
  local status=0 expected answers
  on_workers all all "$1" 2>&1 | tee "$scratch/answers" || status=$?
  expected=$(($(hosts_per_slice) * slices))
  answers=$(grep -c '^worker [^ ]*: ' "$scratch/answers" || true)
  if ((status == 0 && answers != expected)); then
    echo "error: $answers of $expected workers answered" >&2
    status=1
  fi
  return "$status"
}

hosts_per_slice() {
  local size=${accelerator##*-}
  case $accelerator in
    v5litepod-* | v6e-*) echo $((size <= 8 ? 1 : size / 4)) ;; # chips; 4 a host when there are several
    *) echo $((size <= 8 ? 1 : size / 8)) ;;                   # cores; 8 a host
  esac
}

worker_script() { # COMMAND [PROGRAM FLAGS…]: the line that runs it on a worker
  local verb=$1
  shift
  local words=(bash qwen-audio-jax/launch/tpu_worker.sh "$verb")
  if [[ $mount ]]; then
    case $verb in install | start) words+=("--mount=$mount" "--mount-at=$mount_at") ;; esac
  fi
  (($#)) && words+=(-- "$@")
  quote "${words[@]}"
}

# --- The queued resource --------------------------------------------------------------------------

state() { # into $state: the queued resource's, or NONE
  local describe=(queued_resources describe "$name" '--format=value(state.state)') tries=$patience
  if [[ $dry_run ]]; then "${describe[@]}"; state=$assumed; return; fi
  until state=$("${describe[@]}" 2>"$scratch/error"); do
    if grep -q NOT_FOUND "$scratch/error"; then state=NONE; return; fi
    cat "$scratch/error" >&2
    tries=$((tries - 1))
    ((tries)) || fail "gcloud cannot tell the state of $name"
    sleep "$POLL_SECONDS"
  done
}

create() {
  state
  case $state in
    NONE)
      local nodes=("--node-id=$name")
      ((slices == 1)) || nodes=("--node-count=$slices" "--node-prefix=$name")
      queued_resources create "$name" "--accelerator-type=$accelerator" "--runtime-version=$runtime_version" \
        "${nodes[@]}" "${create_flags[@]+"${create_flags[@]}"}" --quiet
      assumed=ACTIVE
      ;;
    FAILED | SUSPENDING | SUSPENDED | DELETING)
      fail "$name is there and $state; '${0##*/} restart' replaces it, 'delete' gives it up"
      ;;
    *) say "$name is there already" ;;
  esac
  wait_until_active
}

wait_until_active() {
  local before='' since=$SECONDS told=0
  while state && [[ $state != ACTIVE ]]; do
    case $state in
      FAILED | SUSPENDING | SUSPENDED | DELETING | NONE)
        queued_resources describe "$name" '--format=yaml(state)' >&2 || true
        fail "$name is $state instead of becoming ACTIVE; what Google says of it stands above"
        ;;
    esac
    if [[ $state != "$before" ]]; then say "$name is $state"; before=$state; fi
    sleep "$POLL_SECONDS"
    if (((SECONDS - since) / 600 > told)); then
      told=$(((SECONDS - since) / 600))
      say "$name is $state still, after $((told * 10)) minutes"
    fi
  done
  say "$name is ACTIVE: $slices x $accelerator"
}

delete() {
  state
  if [[ $state == NONE ]]; then say "$name is gone"; return; fi
  # --force: with its slices.
  queued_resources delete "$name" --force --quiet
  assumed=NONE
  state
  while [[ $state != NONE ]]; do sleep "$POLL_SECONDS"; state; done
  say "$name is gone"
}

# --- Training on it -------------------------------------------------------------------------------

install() {
  # Beside the old checkout, which the worker replaces once it knows that nothing runs from it.
  local new=qwen-audio-jax.new
  local unpack="rm -rf $new"
  if [[ $git ]]; then
    unpack+=" && git clone --quiet $(quote "$git") $new && git -C $new checkout --quiet $(quote "$commit")"
  else
    local archive=$scratch/qwen-audio-jax.tar.gz
    # What git tracks, with changes that are not committed yet.
    run git -C "$root" archive --format=tar.gz --output="$archive" "$commit"
    queued_resources scp "$archive" "$name:" --node=all --worker=all "${ssh_flags[@]+"${ssh_flags[@]}"}"
    unpack+=" && mkdir $new && tar -xzf qwen-audio-jax.tar.gz -C $new"
  fi
  local script
  script=$(worker_script install)
  on_all "$unpack && ${script/qwen-audio-jax\//$new/}"
}

start() {
  on_all "$(worker_script start "${program[@]}")"
}

stop() {
  state
  if [[ $state == NONE ]]; then say "$name is gone; nothing runs"; return; fi
  on_all "$(worker_script stop)"
}

logs() {
  if [[ $all ]]; then
    on_workers all all "$(worker_script logs) --all"
  else
    on_workers 0 0 "$(worker_script logs)"
  fi
}

status() {
  state
  say "$name is $state"
  [[ $state == ACTIVE ]] || return 0
  on_all "$(worker_script status)"
}

# --- After a preemption ---------------------------------------------------------------------------

restart() {
  state
  # Only what has come to rest can be deleted.
  while [[ $state == SUSPENDING || $state == DELETING ]]; do sleep "$POLL_SECONDS"; state; done
  case $state in SUSPENDED | FAILED) say "$name is $state: replacing it"; delete ;; esac
  create
  # A slice that Google has repaired is new and empty, while the others still wait for it; the
  # script that stops them is not on it. So a failure here tells nothing.
  on_all "! [ -e qwen-audio-jax ] || $(worker_script stop) --force" || true
  install
  start
}

# What the workers say, in one word: running, finished, stopped, broken, or unknown.
condition() {
  if ! on_all "$(worker_script status)" >"$scratch/status" 2>&1; then
    # A worker without the script is a new one.
    if grep -q 'No such file' "$scratch/status"; then echo broken; else echo unknown; fi
  elif grep -q '^worker [^ ]*: \(failed\|died\|absent\|installed\)' "$scratch/status"; then echo broken
  elif grep -q '^worker [^ ]*: running' "$scratch/status"; then echo running
  elif grep -q '^worker [^ ]*: stopped' "$scratch/status"; then echo stopped
  else echo finished
  fi
}

watch() {
  if [[ $dry_run ]]; then restart; status; return; fi
  local failures=0 failed_at=0 stopped=0 before='' now=start
  # Begun anew, it leaves alone what it has started before.
  state
  if [[ $state == ACTIVE && $(condition) == running ]]; then now=running; fi
  patience=20
  while :; do
    if [[ $now != "$before" ]]; then say "$name: $now"; before=$now; fi
    case $now in
      finished) say "training has come to its end; 'delete' gives the slices back"; return ;;
      NONE) say "$name has been deleted"; return ;;
      # Machines that are preempted are told to stop first. So it is on purpose only if they stay.
      stopped)
        stopped=$((stopped + 1))
        if ((stopped == 5)); then say "training was stopped; 'restart' goes on"; return; fi
        ;;
      start | SUSPENDING | SUSPENDED | FAILED | broken)
        stopped=0
        if [[ $now == broken ]]; then cat "$scratch/status" >&2; fi
        # By itself, since it may fail: slices can be preempted while this goes on, too.
        if ! bash "${BASH_SOURCE[0]}" restart "--commit=$commit" "${given[@]}" || [[ $now == broken ]]; then
          # What ran for an hour in between is another matter.
          ((SECONDS - failed_at < 3600)) || failures=0
          failed_at=$SECONDS failures=$((failures + 1))
          ((failures < max_failures)) || fail "$failures failures within an hour of each other; '${0##*/} logs' says why"
        fi
        ;;
      *) stopped=0 ;;
    esac
    sleep "$POLL_SECONDS"
    state
    now=$state
    [[ $state != ACTIVE ]] || now=$(condition)
  done
}

# --- Flags ----------------------------------------------------------------------------------------

help() { sed -n '2,/^[^#]/{s/^# \{0,1\}//p;}' "${BASH_SOURCE[0]}"; }

needs() { # VALUE FLAG VARIABLE
  [[ $1 ]] || fail "$2 is missing (or set $3)"
}

command=${1:-}
case $command in
  create | install | start | logs | status | stop | restart | watch | delete) shift ;;
  '' | -h | --help) help; exit 0 ;;
  *) fail "'$command' is no command; there are create, install, start, logs, status, stop, restart, watch, delete (--help)" ;;
esac

project=${PROJECT_ID:-} zone=${ZONE:-} name=${TPU_NAME:-} accelerator=${ACCELERATOR_TYPE:-}
runtime_version=${RUNTIME_VERSION:-} slices=${SLICES:-1} mount=${MOUNT:-} mount_at=${MOUNT_AT:-/mnt/shared}
git=${GIT:-} commit=${COMMIT:-}
given=("$@")
dry_run='' all='' max_failures=3 patience=1 create_flags=() ssh_flags=() program=()
while (($#)); do
  case $1 in
    --project=*) project=${1#*=} ;;
    --zone=*) zone=${1#*=} ;;
    --name=*) name=${1#*=} ;;
    --accelerator=*) accelerator=${1#*=} ;;
    --runtime-version=*) runtime_version=${1#*=} ;;
    --slices=*) slices=${1#*=} ;;
    --spot | --reserved) create_flags+=("$1") ;;
    --create-flag=*) create_flags+=("${1#*=}") ;;
    --ssh-flag=*) ssh_flags+=("${1#*=}") ;;
    --mount=*) mount=${1#*=} ;;
    --mount-at=*) mount_at=${1#*=} ;;
    --git=*) git=${1#*=} ;;
    --commit=*) commit=${1#*=} ;;
    --failures=*) max_failures=${1#*=} ;;
    --all) all=1 ;;
    --dry-run) dry_run=1 ;;
    -h | --help) help; exit 0 ;;
    --config=* | --config.* | --workdir=*) program+=("$1") ;;
    --) shift; program+=("$@"); break ;;
    *) fail "'$1' is not understood; flags are written --flag=value, and the program's own stand after -- (--help)" ;;
  esac
  shift
done

needs "$project" --project PROJECT_ID
needs "$zone" --zone ZONE
needs "$name" --name TPU_NAME
case $command in logs | delete) accelerator=${accelerator:-v4-8} ;; esac # which makes no difference to them
needs "$accelerator" --accelerator ACCELERATOR_TYPE
[[ $slices =~ ^[1-9][0-9]*$ ]] || fail "--slices takes a number of slices, not '$slices'"
[[ $max_failures =~ ^[1-9][0-9]*$ ]] || fail "--failures takes a number, not '$max_failures'"
[[ $accelerator =~ ^[a-z0-9]+-[0-9]+$ ]] || fail "--accelerator=$accelerator is not of the form v5p-128"
case $accelerator in
  v2-* | v3-* | v4-*) default=tpu-ubuntu2204-base ;;
  v5litepod-*) default=v2-alpha-tpuv5-lite ;;
  v5p-*) default=v2-alpha-tpuv5 ;;
  v6e-*) default=v2-alpha-tpuv6e ;;
  v5e-*) fail "v5e is called v5litepod here: --accelerator=v5litepod-${accelerator#*-}" ;;
  tpu7x-* | v7*) fail "the Cloud TPU API, which this script speaks, has no TPU7x; use Compute Engine or GKE (docs/scale.md)" ;;
  *) default='' ;;
esac
runtime_version=${runtime_version:-$default}
needs "$runtime_version" --runtime-version RUNTIME_VERSION
case $mount in
  '' | gs://?* | ?*:/*) ;;
  *) fail "--mount=$mount is neither gs://BUCKET nor HOST:/EXPORT" ;;
esac

case $command in
  start | restart | watch)
    workdir=
    for flag in "${program[@]+"${program[@]}"}"; do
      case $flag in
        *gs://*) fail "$flag: the program reads and writes by path; give --mount=gs://BUCKET and a path below $mount_at" ;;
        --workdir=*) workdir=${flag#*=} ;;
      esac
    done
    [[ $workdir ]] || fail "--workdir is missing; without it a restart would not find what was saved"
    [[ $workdir == /* ]] || fail "--workdir=$workdir must be a whole path, /mnt/shared/runs/a say: the checkout is replaced by every install"
    [[ ! $mount || $workdir == "$mount_at"/* ]] || fail "--workdir=$workdir is not below the mount, $mount_at; it would go with the slice"
    if [[ ! $mount ]]; then say "without --mount, $workdir must be a folder that all workers share and that outlives them"; fi
    ;;
esac

case $command in
  install | restart | watch)
    if [[ ! $commit ]]; then
      # A commit of the work tree as it is, which no branch knows of; nothing if nothing is changed.
      [[ $git ]] || commit=$(git -C "$root" stash create)
      commit=${commit:-$(git -C "$root" rev-parse HEAD)} || fail "$root is no git checkout; give --git=URL and --commit=ID"
    fi
    ;;
esac

# What dry-run takes for granted: for what follows a preemption, that there was one.
case $command in
  create) assumed=NONE ;;
  restart | watch) assumed=SUSPENDED ;;
  *) assumed=ACTIVE ;;
esac
if [[ $dry_run ]]; then
  scratch=.
else
  command -v gcloud >/dev/null || fail "gcloud is missing; install the Google Cloud CLI, or add --dry-run to see the commands"
  scratch=$(mktemp -d)
  trap 'rm -rf "$scratch"' EXIT
fi
"$command"
