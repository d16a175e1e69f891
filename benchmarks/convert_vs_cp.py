"""Import and export of a real-size folder, beside copying the same bytes with `cp`.

    python benchmarks/convert_vs_cp.py --folder=scratch --preset=qwen2_audio_7b

Fills a folder with random bfloat16 tensors under the original's names and shapes (16.8 GB for a 7b
preset), copies it, imports it, exports it again, and compares every tensor's bits. Caches of the
files are dropped before each of the three, and each ends when all is on the disk. Needs three times
the folder's size of free disk.
"""

import argparse
import json
import os
import pathlib
import shutil
import subprocess
import sys
import time

import numpy as np
from rich.console import Console
from rich.table import Table
from safetensors import safe_open

from qwen_audio_jax.conversion import configs, names
from qwen_audio_jax.conversion.safetensors_writer import Planned, plan_shards, write_shards
from qwen_audio_jax.conversion.shapes import parameter_shapes, tensor_shapes
from qwen_audio_jax.models.parts import Parts
from qwen_audio_jax.models.presets import FAMILIES, PRESETS, preset_parts

VOCABULARIES = {"qwen_audio": (155947, 155163), "qwen2_audio": (156032, -1)}


def make_source(folder: pathlib.Path, preset: str, family: str) -> int:
    """Writes a folder of random tensors; returns their bytes."""
    vocab_size, begin = VOCABULARIES[family]
    encoder, decoder = preset_parts(preset, family, vocab_size)
    parts = Parts(family, encoder, decoder, begin, begin + 1, 151646)
    if family == "qwen_audio":
        rows = names.qwen_audio(decoder)
        config = configs.write_qwen_audio(parts.model(), "bfloat16", 8192)
    else:
        rows = names.qwen2_audio(decoder)
        config = configs.write_qwen2_audio(parts.model(), "bfloat16", 151646, {})
    shapes = tensor_shapes(rows, parameter_shapes(parts))
    planned = [Planned(name, tuple(shape), "bfloat16") for name, shape in shapes.items()]
    pool = np.random.default_rng(0).integers(0, 1 << 16, (64 << 20) + len(planned), np.uint16)

    def arrays():
        for number, tensor in enumerate(planned):
            size = int(np.prod(tensor.shape))
            whole = np.resize(pool[number : number + min(size, 64 << 20)], size)
            yield tensor.name, whole.view(np.dtype("bfloat16")).reshape(tensor.shape)

    folder.mkdir(parents=True)
    write_shards(folder, plan_shards(planned, 4_000_000_000), arrays())
    (folder / "config.json").write_text(json.dumps(config))
    return sum(tensor.bytes for tensor in planned)


def timed(*command: str, reads: pathlib.Path) -> tuple[float, float]:
    """Runs a command: (seconds until all is on the disk, peak resident GB)."""
    os.sync()
    for path in reads.rglob("*"):
        if path.is_file():
            with path.open("rb") as file:
                os.posix_fadvise(file.fileno(), 0, 0, os.POSIX_FADV_DONTNEED)
    start = time.perf_counter()
    process = subprocess.Popen(command)
    _, status, usage = os.wait4(process.pid, 0)
    os.sync()
    seconds = time.perf_counter() - start
    if status:
        sys.exit(f"{' '.join(command)} failed")
    return seconds, usage.ru_maxrss / 1e6


def same_bits(one: pathlib.Path, other: pathlib.Path) -> bool:
    """Whether two folders hold the same tensors, to the last bit."""
    places = [
        {name: file for file in folder.glob("*.safetensors") for name in _names(file)}
        for folder in (one, other)
    ]
    if places[0].keys() != places[1].keys():
        return False
    for name in places[0]:
        a, b = (_tensor(place[name], name) for place in places)
        if a.shape != b.shape or not np.array_equal(a.view(np.uint16), b.view(np.uint16)):
            return False
    return True


def _names(file: pathlib.Path) -> list[str]:
    with safe_open(file, "numpy") as opened:
        return list(opened.keys())


def _tensor(file: pathlib.Path, name: str) -> np.ndarray:
    with safe_open(file, "numpy") as opened:
        return opened.get_tensor(name)


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--folder", type=pathlib.Path, required=True, help="scratch folder, made")
    parser.add_argument("--preset", choices=PRESETS, default="qwen2_audio_7b")
    parser.add_argument("--family", choices=FAMILIES, help="by default the preset's")
    options = parser.parse_args()
    family = options.family or next((f for f in FAMILIES if options.preset.startswith(f"{f}_")), "")
    source, copy, imported, exported = (
        options.folder / name for name in ("source", "copy", "imported", "exported")
    )
    size = make_source(source, options.preset, family or "qwen2_audio")
    convert = (sys.executable, "-m", "qwen_audio_jax.convert")
    rows = {"cp": timed("cp", "-r", str(source), str(copy), reads=source)}
    shutil.rmtree(copy)
    rows["import"] = timed(
        *convert, "import", f"--source={source}", f"--out={imported}", reads=source
    )
    rows["export"] = timed(
        *convert, "export", f"--checkpoint={imported}", f"--out={exported}", reads=imported
    )
    table = Table("", "seconds", "GB/s", "of cp's time", "peak memory", title=options.preset)
    for name, (seconds, memory) in rows.items():
        ratio = seconds / rows["cp"][0]
        rate = size / seconds / 1e9
        table.add_row(name, f"{seconds:.1f}", f"{rate:.2f}", f"{ratio:.2f}", f"{memory:.1f} GB")
    Console().print(table)
    print(f"{size / 1e9:.1f} GB; exported equals source to the bit: {same_bits(source, exported)}")
    shutil.rmtree(options.folder)


if __name__ == "__main__":
    main()
