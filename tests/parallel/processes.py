"""Runs by several processes that JAX connects, and what is compared between two runs."""

import json
import os
import socket
import subprocess
import sys

import jax
import numpy as np
from conftest import QUICK
from orbax.checkpoint import v1 as ocp

STEPS = 12


def start(count, arguments, folder, own=None):
    """Starts processes; what process n says goes to folder/n."""
    with socket.create_server(("localhost", 0)) as server:
        port = server.getsockname()[1]
    folder.mkdir(parents=True, exist_ok=True)
    # XLA's optimisations change the last digits: both sides go without, and compile faster.
    flags = f"{QUICK} --xla_force_host_platform_device_count=1"
    common = os.environ | {"JAX_PLATFORMS": "cpu", "XLA_FLAGS": flags}
    processes = []
    for number in range(count):
        place = {
            "JAX_COORDINATOR_ADDRESS": f"localhost:{port}",
            "JAX_NUM_PROCESSES": str(count),
            "JAX_PROCESS_ID": str(number),
        }
        with (folder / str(number)).open("w") as said:
            command = [sys.executable, *arguments, *(own or {}).get(number, ())]
            environment = common | (place if count > 1 else {})
            processes.append(
                subprocess.Popen(command, env=environment, stdout=said, stderr=subprocess.STDOUT)
            )
    return processes


def main(root, workdir, *, corpus="tones", file="pretrain", **overrides):
    options = {
        "data.root": root,
        "data.mixture": json.dumps({corpus: 1.0}),
        "data.shapes": "((4, 64, 128),)",
        "train.steps": STEPS,
        "optimizer.warmup_steps": 3,
        "checkpoint.every": 6,
        "checkpoint.keep": 9,
        "wait.start": 60,
    }
    flags = [f"--config.{key}={value}" for key, value in (options | overrides).items()]
    command = ["-m", "qwen_audio_jax.main", f"--config=configs/{file}.py"]
    return [*command, f"--workdir={workdir}", *flags]


def said(folder, number):
    return (folder / str(number)).read_text()


def finish(processes, folder):
    statuses = [process.wait(timeout=300) for process in processes]
    assert statuses == [0] * len(processes), [
        said(folder, n)[-3000:] for n in range(len(processes))
    ]


def run(count, root, workdir, **options):
    folder = workdir.with_name(workdir.name + ".said")
    finish(start(count, main(root, workdir, **options), folder), folder)
    return folder


def rows(workdir, name="metrics.jsonl"):
    return [json.loads(line) for line in (workdir / name).read_text().splitlines()]


def losses(workdir):
    lines = rows(workdir)
    assert [line["step"] for line in lines] == list(range(1, len(lines) + 1))
    return [line["loss"] for line in lines]


def parameters(workdir):
    # On the one device here, wherever they were saved from.
    here = jax.sharding.SingleDeviceSharding(jax.devices()[0])
    step = workdir / "checkpoints" / str(len(rows(workdir)))
    saved = ocp.metadata(step, "state").metadata
    wanted = jax.tree.map(lambda x: jax.ShapeDtypeStruct(x.shape, x.dtype, sharding=here), saved)
    loaded = ocp.load_checkpointables(step, {"state": wanted, "data": None})
    return jax.tree_util.tree_leaves_with_path(loaded["state"]), loaded["data"]


def assert_same(one, other):
    """Losses and parameters agree to float32's rounding, the data position exactly."""
    np.testing.assert_allclose(losses(one), losses(other), rtol=0, atol=1e-5)
    (leaves, place), (other_leaves, other_place) = parameters(one), parameters(other)
    assert place == other_place
    for (path, leaf), (other_path, other_leaf) in zip(leaves, other_leaves, strict=True):
        assert path == other_path
        np.testing.assert_allclose(leaf, other_leaf, rtol=0, atol=1e-5, err_msg=str(path))
