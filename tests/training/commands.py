"""`main` as a process of its own, on the small corpora that tests write."""

import json
import os
import resource
import subprocess
import sys
import time

STEPS = 12


def command(root, workdir, *, corpus="tones", file="pretrain", **overrides):
    options = {
        "data.root": root,
        "data.mixture": json.dumps({corpus: 1.0}),
        "data.shapes": "((4, 64, 128),)",
        "train.steps": STEPS,
        "optimizer.warmup_steps": 3,
        "checkpoint.every": 3,
    }
    options |= overrides
    flags = [f"--config.{key}={value}" for key, value in options.items()]
    main = [sys.executable, "-m", "qwen_audio_jax.main", f"--config=configs/{file}.py"]
    return [*main, f"--workdir={workdir}", *flags]


def run(*arguments, environment=None, largest_file=None, **keywords):
    """Args: largest_file: bytes that a file can grow to, as on a full disk; None is no limit."""

    def limit():
        resource.setrlimit(resource.RLIMIT_FSIZE, (largest_file, largest_file))

    return subprocess.run(
        command(*arguments, **keywords),
        env=os.environ | (environment or {}),
        capture_output=True,
        text=True,
        preexec_fn=limit if largest_file else None,
    )


def started(*arguments, environment, **keywords):
    return subprocess.Popen(
        command(*arguments, **keywords),
        env=os.environ | environment,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        text=True,
    )


def finished(*arguments, **keywords):
    done = run(*arguments, **keywords)
    assert done.returncode == 0, done.stderr[-3000:]
    return done


def metrics(workdir):
    return [json.loads(line) for line in (workdir / "metrics.jsonl").read_text().splitlines()]


def losses(workdir):
    rows = metrics(workdir)
    assert [row["step"] for row in rows] == list(range(1, len(rows) + 1))
    return [row["loss"] for row in rows]


def wait_for(process, workdir, steps):
    """Waits until a run has logged so many steps; its end, if that comes first."""
    log = workdir / "metrics.jsonl"
    while process.poll() is None and not (log.exists() and log.read_text().count("\n") >= steps):
        time.sleep(0.01)
