r"""Compiles the train step for a TPU slice that is not there, and says what it would take.

    python -m qwen_audio_jax.compile_report --config=configs/pretrain.py:qwen2_audio_7b@v5p:4x4x4
    python -m qwen_audio_jax.compile_report --config=configs/pretrain.py:qwen2_audio_7b \
        --topology='2x v5e:16x16' --config.train.accumulate=4 --config.model.remat=dots
    python -m qwen_audio_jax.compile_report --config=... --topology=v6e:16x16 --search
    python -m qwen_audio_jax.compile_report --config=configs/pretrain.py --overview=docs/scale.md

It needs the TPU's compiler, not the TPU: pip install 'qwen-audio-jax[tpu]'. Memory is what the
compiler plans; the MFU is a bound from the published rates of the chip, stated under the table. The
last line is one JSON object.
"""

import functools
import json
import os
import pathlib
import sys
from typing import TYPE_CHECKING

from absl import app, flags
from ml_collections import config_flags
from rich.console import Console
from rich.table import Table

from qwen_audio_jax.command_line import config_of, parse_flags

if TYPE_CHECKING:
    from qwen_audio_jax.compilation.verdict import Verdict

WITHOUT_A_TPU = {
    "JAX_PLATFORMS": "cpu",
    "TPU_SKIP_MDS_QUERY": "1",
    "ALLOW_MULTIPLE_LIBTPU_LOAD": "1",  # there is no TPU that two reports could quarrel over
    "TPU_ACCELERATOR_TYPE": "v5p-8",
    "TPU_WORKER_HOSTNAMES": "localhost",
    "TPU_WORKER_ID": "0",
    "TPU_STDERR_LOG_LEVEL": "3",
    "TPU_MIN_LOG_LEVEL": "3",
}
"""Environment in which JAX starts on the CPU, and the TPU's compiler without looking for a TPU."""

config_flags.DEFINE_config_file(
    "config", help_string="Configuration file; see docs/configuration.md."
)
_TOPOLOGY = flags.DEFINE_string(
    "topology", "", "Such as v5p:4x4x4 or '2x v5e:16x16'; by default the configuration's own."
)
_SEARCH = flags.DEFINE_bool(
    "search", False, "Try remat, micro-batches and mesh, and recommend the best."
)
_OVERVIEW = flags.DEFINE_string(
    "overview", "", "A document into which the table of all checked-in setups is written instead."
)


def main(argv: list[str]) -> None:
    """Configuration and topology in, a table and a line of JSON out; exit status 1 on a mistake."""
    mapping = config_of(argv, example="configs/pretrain.py:qwen2_audio_7b")
    os.environ.update(WITHOUT_A_TPU)
    from qwen_audio_jax import run_config
    from qwen_audio_jax.compilation import overview, search, verdict
    from qwen_audio_jax.compilation.topology import parse_topology
    from qwen_audio_jax.training.tuning import follow_start

    named = flags.FLAGS["config"].config_filename.partition("@")[2]
    console = Console()
    tell = functools.partial(console.print, soft_wrap=True)  # lines to be copied stay whole
    try:
        if _OVERVIEW.value:
            overview.write(pathlib.Path(_OVERVIEW.value), tell)
            return
        if not (_TOPOLOGY.value or named):
            raise ValueError("--topology is missing; try --topology=v5p:4x4x4")
        topology = parse_topology(_TOPOLOGY.value or named)
        config = follow_start(run_config.from_mapping(mapping))
        with console.status(f"compiling for {topology}: a minute or more"):
            if _SEARCH.value:
                best = search.search(config, topology, tell)
                tell(f"best: {best.flags}")
                found = best.verdict
            else:
                found = verdict.compile_step(config, topology)
    except (ValueError, ImportError, OSError) as error:
        print(f"error: {error}", file=sys.stderr)
        sys.exit(1)
    console.print(table_of(found))
    print(json.dumps(found.to_json()))
    sys.exit(0 if found.fits else 1)


def table_of(verdict: "Verdict") -> Table:
    """A verdict for people to read."""
    table = Table("", "", title=f"{verdict.topology}, {verdict.chips_text}", show_header=False)
    table.add_row("step", verdict.setup)
    table.add_row("parameters", f"{verdict.parameters:,}")
    if verdict.replicated:
        table.add_row(
            "",
            f"{verdict.replicated:,} of them whole on every chip, since fsdp or tensor does not "
            "divide them; more on the replica axis may (config.mesh)",
        )
    table.add_row("tokens per step", f"{verdict.tokens:,} (room for)")
    gib = verdict.to_json()
    table.add_row(
        "memory per chip",
        f"{gib['hbm_arguments_gib']:.2f} arguments + {gib['hbm_temporaries_gib']:.2f} temporaries "
        f"= {gib['hbm_total_gib']:.2f} of {gib['hbm_limit_gib']:.2f} GiB",
    )
    if not verdict.fits:
        table.add_row("", f"[bold red]does not fit[/]: {verdict.fix}")
        return table
    for kind, received in sorted(verdict.received.items(), key=lambda item: -item[1]):
        table.add_row(kind, f"{received / 1e9:,.2f} GB per chip, {verdict.times[kind]:,} times")
    table.add_row(
        "FLOPs per step",
        f"{verdict.model_flops:.3g} of the model, {verdict.executed_flops:.3g} executed",
    )
    times = ", ".join(f"{name} {s:.3f} s" for name, s in gib["seconds"].items())
    table.add_row("roofline", f"{times}; bound by {gib['bound']}")
    table.add_row("MFU, at most", f"{verdict.mfu_bound:.1%}")
    table.add_row(
        "audio", f"{verdict.audio_seconds_per_chip_second:,.0f} s per chip-second, at most"
    )
    table.add_row("compiled in", f"{verdict.compile_seconds:.0f} s")
    table.caption = (
        "Roofline: products at the chip's peak, memory and links at their published rates, all at "
        "once and never idle. FLOPs of the model: products on useful tokens and frames only "
        "(of a usual mix of clips, packed), causal attention halved."
    )
    return table


if __name__ == "__main__":
    app.run(main, flags_parser=parse_flags)
