#!/usr/bin/env bash
# What launch/tpu_pod.sh has each TPU VM do. It is copied there with the checkout; nobody need call
# it by hand, but one may, to look after a single worker.
#
#   install [--mount=SOURCE --mount-at=DIR]           this checkout, its environment, the mount
#   start [--mount=SOURCE --mount-at=DIR] -- FLAGS    python -m qwen_audio_jax.main FLAGS, in the background
#   status                                            one line: what became of it
#   stop [--force]                                    SIGTERM, and waits until it has saved and ended;
#                                                     --force kills what does not
#   logs [--all]                                      follows the log; --all puts the host's name in front
#
# SOURCE is gs://BUCKET[/FOLDER] (mounted by gcsfuse) or HOST:/EXPORT (NFS, Filestore say).
set -euo pipefail

checkout=$HOME/qwen-audio-jax
environment=$HOME/qwen-audio-venv
run=$HOME/qwen-audio-run # log, command, pid, status, lock
STOP_SECONDS=${STOP_SECONDS:-600}

# tpu_pod.sh counts these lines: gcloud ends well even if it could not reach some of the slices.
answer() { echo "worker $(hostname): $1"; }
fail() { echo "error: $(hostname): $1" >&2; exit 1; }

running() {
  # The lock is held for as long as the supervisor lives: no stale pid after a reboot or a kill.
  [[ -e $run/lock ]] && ! flock --nonblock "$run/lock" true
}

mount_source() {
  [[ $mount ]] || return 0
  if mountpoint --quiet "$mount_at"; then return; fi
  sudo mkdir -p "$mount_at"
  case $mount in
    gs://*)
      command -v gcsfuse >/dev/null || install_gcsfuse
      sudo chown "$(id -u):$(id -g)" "$mount_at"
      local path=${mount#gs://} folder=()
      path=${path%/}
      [[ $path != */* ]] || folder=("--only-dir=${path#*/}")
      # Many hosts write here: each must see at once what another has written. On large machines
      # gcsfuse would keep what it has seen for ever.
      gcsfuse --implicit-dirs --metadata-cache-ttl-secs=0 --metadata-cache-negative-ttl-secs=0 \
        "${folder[@]+"${folder[@]}"}" "${path%%/*}" "$mount_at"
      ;;
    *:/*)
      command -v mount.nfs >/dev/null || apt_install nfs-common
      sudo mount -t nfs -o hard,noatime "$mount" "$mount_at"
      ;;
    *) fail "--mount=$mount is neither gs://BUCKET nor HOST:/EXPORT" ;;
  esac
}

apt_install() {
  # A new VM is often still updating itself.
  sudo apt-get -o DPkg::Lock::Timeout=600 -qq update
  sudo apt-get -o DPkg::Lock::Timeout=600 -qq install -y "$@" >/dev/null
}

install_gcsfuse() {
  local key=/usr/share/keyrings/cloud.google.asc
  curl -fsSL https://packages.cloud.google.com/apt/doc/apt-key.gpg | sudo tee "$key" >/dev/null
  echo "deb [signed-by=$key] https://packages.cloud.google.com/apt gcsfuse-$(lsb_release -cs) main" |
    sudo tee /etc/apt/sources.list.d/gcsfuse.list >/dev/null
  apt_install gcsfuse
}

install() {
  running && fail "training runs here; stop it before installing"
  local here
  here=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)
  if [[ $here != "$checkout" ]]; then
    rm -rf "$checkout"
    mv "$here" "$checkout"
    cd "$checkout"
  fi
  # Ubuntu 22.04, which the TPU images are, has Python 3.10; uv brings the one that is needed.
  export PATH=$HOME/.local/bin:$PATH
  command -v uv >/dev/null || curl -LsSf https://astral.sh/uv/install.sh | sh
  uv venv --quiet --allow-existing --python=3.12 "$environment"
  # Upgraded, so that a slice installed later has no newer versions than the others.
  uv pip install --quiet --upgrade --python="$environment" 'jax[tpu]' --editable "${checkout}[synthetic]"
  mount_source
  answer "installed, jax $("$environment/bin/python" -c 'import importlib.metadata; print(importlib.metadata.version("jax"))')"
}

start() {
  [[ -x $environment/bin/python ]] || fail "nothing is installed here; run tpu_pod.sh install"
  mkdir -p "$run"
  exec 9>>"$run/lock"
  if ! flock --nonblock 9; then
    [[ $(<"$run/command") == "$*" ]] || fail "training runs here with other flags; stop it first"
    answer running
    return
  fi
  mount_source 9>&-
  rm -f "$run/status" "$run/pid"
  echo "$*" >"$run/command"
  # A session of its own, so that it outlives the connection.
  setsid nohup bash "${BASH_SOURCE[0]}" supervise -- "$@" </dev/null >>"$run/log" 2>&1 &
  answer started
}

supervise() {
  cd "$checkout"
  export PYTHONUNBUFFERED=1
  echo "=== $(date -u +%FT%TZ) python -m qwen_audio_jax.main $*"
  "$environment/bin/python" -m qwen_audio_jax.main "$@" 9>&- &
  echo $! >"$run/pid"
  local status=0
  wait $! || status=$?
  echo "$status" >"$run/status"
}

status() {
  if running; then answer running
  elif [[ ! -x $environment/bin/python ]]; then answer absent
  elif [[ ! -e $run/command ]]; then answer installed
  elif [[ ! -e $run/status ]]; then answer died
  elif [[ $(<"$run/status") != 0 ]]; then answer "failed with status $(<"$run/status")"
  # Stopped by a signal it also ends with 0, but says that there is more to do.
  elif tail -n 20 "$run/log" | grep -q "the same command goes on"; then answer stopped
  else answer finished
  fi
}

stop() {
  local end=$((SECONDS + STOP_SECONDS))
  if running; then
    # A supervisor that has only just begun has no child yet.
    while running && [[ ! -e $run/pid ]]; do sleep 0.1; done
    kill -TERM "$(<"$run/pid")" 2>/dev/null || true
    while running; do
      if ((SECONDS >= end)); then
        [[ $force ]] || fail "has not ended $STOP_SECONDS s after SIGTERM; a second stop ends it at once"
        kill -KILL "$(<"$run/pid")" 2>/dev/null || true
      fi
      sleep 0.2
    done
  fi
  status
}

logs() {
  if [[ $all ]]; then
    tail -n 20 -F "$run/log" | sed -u "s/^/$(hostname): /"
  else
    tail -n 100 -F "$run/log"
  fi
}

command=${1:-}
(($#)) && shift
mount=
mount_at=
all=
force=
while (($#)); do
  case $1 in
    --mount=*) mount=${1#*=} ;;
    --mount-at=*) mount_at=${1#*=} ;;
    --all) all=1 ;;
    --force) force=1 ;;
    --) shift; break ;;
    *) fail "'$1' is not understood" ;;
  esac
  shift
done
case $command in
  install | start | supervise | status | stop | logs) "$command" "$@" ;;
  *) fail "'$command' is no command; see the head of ${BASH_SOURCE[0]}" ;;
esac
