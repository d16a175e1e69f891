"""What `convert` does with a thousand damaged folders.

    python benchmarks/fuzz_checkpoints.py --count=1000

Folders of every kind that `convert import` knows, and run folders to export, are damaged:
values of configurations, indices, tokenizers and companions, bytes and names of files, weights.
Each must be converted, or refused in one sentence, with nothing left behind. Of those imported, as
many as --compare says are opened by transformers too, if it is installed and can: tensors and what
they are computed with must be the same.

Everything is real but one thing: three in four imports do not write their checkpoint, which is
Orbax's work and most of the time; their parameters are all read.
"""

import argparse
import collections
import contextlib
import dataclasses
import io
import multiprocessing
import pathlib
import random
import re
import resource
import shutil
import sys
import tempfile
import traceback
import warnings

from rich.console import Console
from rich.table import Table

SECONDS = 60
"""Beyond these a case counts as hanging."""

GIGABYTES = 12
"""Of address space: what would allocate more fails at once."""

COMPARED = ("qwen2_audio", "qwen2_audio_sharded", "qwen2_audio_in_memory")
COMPARED += ("qwen2", "qwen2_tied", "qwen3", "llama")
COMPARED += ("whisper",)
IMPORT_DAMAGE = ("setting", "setting", "value", "value", "bytes", "files", "weights")
EXPORT_DAMAGE = ("value", "value", "bytes", "files")
ENDS = (
    *("imported", "exported", "refused", "tracebacks", "crashes", "hangs", "left something behind"),
    *("said more than a sentence", "as transformers", "other than transformers"),
)


@dataclasses.dataclass(frozen=True)
class Outcome:
    """How a case ended: one or more of `ENDS`, and what was said."""

    ends: tuple[str, ...]
    said: str


def run_case(number: int, seeds: pathlib.Path, scratch: pathlib.Path, compare: bool) -> Outcome:
    """Damages a folder and converts it.

    Args:
        number: of the case; it decides everything.
        seeds: a folder with the undamaged ones: those published, and `runs/` to export.
        scratch: an empty folder.
        compare: whether transformers is to open the folder too, if it was imported.
    """
    from fuzz_folders import PUBLISHED, Damage

    draw = random.Random(number)
    export = number % 5 == 4
    kinds = sorted(path.name for path in (seeds / "runs").iterdir()) if export else PUBLISHED
    kind, other = draw.choice(kinds), draw.choice(PUBLISHED)
    folder = scratch / "source"
    shutil.copytree((seeds / "runs" if export else seeds) / kind, folder)
    damage = Damage(folder, draw, seeds / other).apply(EXPORT_DAMAGE if export else IMPORT_DAMAGE)
    out = scratch / "out"
    if export:
        command = ["export", f"--checkpoint={folder}", f"--out={out}"]
        command += draw.choice(([], ["--dtype=float16"], ["--dtype=float32", "--shard-gb=1e-5"]))
    else:
        command = ["import", f"--source={folder}", f"--out={out}"]
    status, said = _convert(command, write=export or number % 4 == 0)
    told = f"case {number}, {kind}, {'; '.join(damage)}: {said.strip()[-1500:]}"
    left = {path.name for path in scratch.iterdir()} - {"source"}
    ends = []
    if status is None:
        ends.append("tracebacks")
    elif status == 0:
        ends.append("exported" if export else "imported")
    else:
        ends.append("refused")
        if not re.fullmatch(r"error: [^\n]+(\n  [^\n]+)*\n", said) or len(said) > 60_000:
            ends.append("said more than a sentence")
        if left:
            ends.append("left something behind")
    if status == 0 and not export and compare and kind in COMPARED:
        differing = _differs_from_transformers(folder, kind)
        if differing is not None:
            ends.append("other than transformers" if differing else "as transformers")
            told += f" ({differing})" if differing else ""
    return Outcome(tuple(ends), told)


def _convert(command: list[str], *, write: bool) -> tuple[int | None, str]:
    """(exit status, or None if it raised; what it said on stderr, warnings too)."""
    from qwen_audio_jax import convert
    from qwen_audio_jax.conversion import importing

    def read_only(step, arrays, _):
        (step / "state").mkdir(parents=True)
        collections.deque(arrays, maxlen=0)

    written, said = importing.write_checkpoint, io.StringIO()
    with (
        contextlib.redirect_stdout(io.StringIO()),
        contextlib.redirect_stderr(said),
        warnings.catch_warnings(),
    ):
        warnings.simplefilter("always", RuntimeWarning)
        try:
            importing.write_checkpoint = written if write else read_only
            return convert.main(command), said.getvalue()
        except BaseException:  # of any kind: to count them is what this is for
            return None, said.getvalue() + traceback.format_exc()
        finally:
            importing.write_checkpoint = written


def _differs_from_transformers(folder: pathlib.Path, kind: str) -> str | None:
    """What differs in the model that transformers makes of a folder; None if it makes none."""
    try:
        import torch
        import transformers
    except ImportError:
        return None
    import numpy as np

    from qwen_audio_jax.conversion.importing import load_original
    from qwen_audio_jax.conversion.shapes import tensor_names

    transformers.logging.set_verbosity(transformers.logging.CRITICAL)
    transformers.utils.logging.disable_progress_bar()
    theirs = {
        "whisper": transformers.WhisperModel,
        "qwen2": transformers.Qwen2ForCausalLM,
        "qwen2_tied": transformers.Qwen2ForCausalLM,
        "qwen3": transformers.Qwen3ForCausalLM,
        "llama": transformers.LlamaForCausalLM,
    }.get(kind, transformers.Qwen2AudioForConditionalGeneration)
    try:
        with contextlib.redirect_stderr(io.StringIO()):
            model = theirs.from_pretrained(folder, dtype=torch.float32, local_files_only=True)
    except Exception:  # whatever the reason: it opens no such folder
        return None
    parts, parameters = load_original(folder)
    tensors = model.state_dict()
    for row in _rows(kind, parts.decoder):
        array = parameters
        for key in row.path.split("/"):
            array = array[key]
        array = np.asarray(array, np.float32)
        layers = array if row.layered else array[None]
        for name, ours in zip(tensor_names(row, len(layers)), layers, strict=True):
            ours = ours if row.layout == "same" else ours.T
            if name not in tensors or not np.array_equal(ours, tensors[name].numpy()):
                return name
    return _differing_setting(model.config, parts)


def _rows(kind: str, decoder):
    from qwen_audio_jax.conversion import names

    if kind == "whisper":
        return names.transformers_encoder("encoder.")
    if not kind.startswith("qwen2_audio"):
        return names.transformers_decoder(decoder)
    # Its head lies apart in transformers, equal where it is tied here.
    return names.qwen2_audio(decoder, in_memory=True)


def _differing_setting(config, parts) -> str:
    """What the tensors do not tell: heads, rotary base, epsilon, the placeholder."""
    pairs = {}
    if parts.encoder:
        audio = config.audio_config if parts.family else config
        pairs["encoder heads"] = (parts.encoder.heads, audio.encoder_attention_heads)
    if decoder := parts.decoder:
        text = config.text_config if parts.family else config
        pairs["heads"] = (decoder.heads, text.num_attention_heads)
        pairs["rotary base"] = (decoder.rope_base, text.rope_parameters["rope_theta"])
        rope = text.rope_parameters
        pairs["rotary scaling"] = (
            (decoder.rope_factor, decoder.rope_low, decoder.rope_high, decoder.rope_length),
            (
                rope["factor"],
                rope["low_freq_factor"],
                rope["high_freq_factor"],
                rope["original_max_position_embeddings"],
            )
            if rope["rope_type"] == "llama3"
            else (1.0, 1.0, 4.0, 8192),
        )
        pairs["epsilon"] = (decoder.norm_eps, text.rms_norm_eps)
    if parts.family:
        pairs["placeholder"] = (parts.audio_token, config.audio_token_index)
    return ", ".join(f"{key} {a}, {b}" for key, (a, b) in pairs.items() if a != b)


def make_all_seeds(folder: pathlib.Path) -> None:
    """The published folders, and those that exports start from."""
    from fuzz_folders import make_seeds

    make_seeds(folder)
    for name in ("qwen2_audio", "qwen_audio"):
        command = ["import", f"--source={folder / name}", f"--out={folder / 'runs' / name}"]
        status, said = _convert(command, write=True)
        if status != 0:
            sys.exit(f"an undamaged folder is not imported: {said}")


def _work(connection, seeds: pathlib.Path, scratch: pathlib.Path) -> None:
    """Runs the cases that it is sent, until it is sent none."""
    limit = GIGABYTES << 30
    resource.setrlimit(resource.RLIMIT_AS, (limit, limit))
    while (case := connection.recv()) is not None:
        number, compare = case
        place = pathlib.Path(tempfile.mkdtemp(dir=scratch))
        connection.send(run_case(number, seeds, place, compare))
        shutil.rmtree(place, ignore_errors=True)


class Worker:
    """A process that runs one case after another, and is replaced if one kills or hangs it."""

    def __init__(self, seeds: pathlib.Path, scratch: pathlib.Path):
        self._folders = seeds, scratch
        self._start()

    def _start(self) -> None:
        context = multiprocessing.get_context("spawn")
        self._connection, theirs = context.Pipe()
        self._process = context.Process(target=_work, args=(theirs, *self._folders), daemon=True)
        self._process.start()
        theirs.close()
        self._fresh = True

    def run(self, number: int, compare: bool) -> Outcome:
        """A case's outcome."""
        # A new process imports JAX first.
        seconds, self._fresh = SECONDS + 120 * self._fresh, False
        self._connection.send((number, compare))
        end = "hangs"
        if self._connection.poll(seconds):
            try:
                return self._connection.recv()
            except EOFError:
                end = "crashes"
        self._process.kill()
        self._process.join()
        self._start()
        return Outcome((end,), f"case {number}")

    def stop(self) -> None:
        """Lets it end."""
        self._connection.send(None)
        self._process.join()


def main() -> int:
    """Exit status: 0 if every folder was converted or refused as it should be."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--count", type=int, default=1000, help="folders (default: 1000)")
    parser.add_argument("--first", type=int, default=0, help="number of the first one")
    parser.add_argument("--compare", type=int, default=200, help="with transformers, of the first")
    parser.add_argument("--show", action="store_true", help="what was said of each")
    options = parser.parse_args()
    counts: collections.Counter = collections.Counter()
    wrong = []
    with tempfile.TemporaryDirectory() as folder:
        seeds, scratch = pathlib.Path(folder) / "seeds", pathlib.Path(folder) / "scratch"
        scratch.mkdir()
        make_all_seeds(seeds)
        worker = Worker(seeds, scratch)
        for number in range(options.first, options.first + options.count):
            outcome = worker.run(number, counts["as transformers"] < options.compare)
            counts.update(outcome.ends)
            if set(outcome.ends) - {"imported", "exported", "refused", "as transformers"}:
                wrong.append(outcome)
            if options.show:
                print(*outcome.ends, "-", outcome.said)
        worker.stop()
    table = Table("", "folders", title=f"{options.count} damaged folders")
    for end in ENDS:
        table.add_row(end, str(counts[end]))
    for outcome in wrong:
        print(f"{', '.join(outcome.ends)}: {outcome.said}", file=sys.stderr)
    Console().print(table)
    return bool(wrong)


if __name__ == "__main__":
    sys.exit(main())
