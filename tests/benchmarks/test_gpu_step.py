"""The GPU's script runs at tiny size, on the imports that it says it has."""

import ast
import json
import os
import pathlib
import subprocess
import sys

import pytest

ROOT = pathlib.Path(__file__).parents[2]
ALLOWED = {"jax", "jaxlib", "flax", "optax", "numpy", "qwen_audio_jax", "data_pipelines"}


@pytest.mark.slow
def test_it_runs_at_tiny_size():
    command = [sys.executable, "benchmarks/gpu_step.py", "--size=tiny", "--steps=1"]
    environment = os.environ | {"JAX_PLATFORMS": "cpu", "PYTHONPATH": str(ROOT)}
    run = subprocess.run(
        [*command, "--remat=full"], cwd=ROOT, env=environment, capture_output=True, text=True
    )
    assert run.returncode == 0, run.stderr
    frozen, whole = [json.loads(line) for line in run.stdout.splitlines() if line[0] == "{"]
    assert [frozen["case"], whole["case"]] == ["qwen_audio", "qwen2_audio"]
    assert frozen["trained"] < frozen["parameters"]
    for found in (frozen, whole):
        assert found["useful_tokens"] > 0.8
        assert 0 < found["loss"] < 10
        useful = found["model_tflop"] / found["seconds"] / found["matmul_tflops"]
        assert found["useful_mfu"] == pytest.approx(useful)


def test_it_imports_nothing_else():
    """Neither the script nor a module of the project that it takes in, not even in functions."""
    seen, open_files = set(), [ROOT / "benchmarks" / "gpu_step.py"]
    while open_files:
        path = open_files.pop()
        seen.add(path)
        for node in ast.walk(ast.parse(path.read_text())):
            names = [alias.name for alias in node.names] if isinstance(node, ast.Import) else []
            if isinstance(node, ast.ImportFrom):
                names = [node.module, *(f"{node.module}.{alias.name}" for alias in node.names)]
            for name in names:
                assert name.partition(".")[0] in ALLOWED | sys.stdlib_module_names, path
                # A module's packages are imported with it.
                parts = name.split(".")
                files = [ROOT.joinpath(*parts).with_suffix(".py")]
                files += [
                    ROOT.joinpath(*parts[:n], "__init__.py") for n in range(1, len(parts) + 1)
                ]
                open_files += [file for file in files if file.is_file() and file not in seen]
    assert ROOT / "qwen_audio_jax" / "models" / "attention.py" in seen
