r"""Configurations with garbage in them: accepted, refused in one sentence, or worse?

    pip install -e '.[synthetic]' && python benchmarks/fuzz_configurations.py --count=1000

Every key of configs/pretrain.py, every group and some keys that are none get values of two dozen
kinds, typed as a user would. Each configuration goes through the parser of `main`; those accepted
go on, in a process of their own, through what a run does before its first step: the mesh, the plan
of a small corpus, the model's shapes, the optimizer, the first batch. Some of either are whole
commands as well, of one training step. Prints what became of them, and for each key what was
accepted, so that one can see whether it should have been. Exit status 1 if any ended in a
traceback, a crash or a hang.
"""

import argparse
import collections
import contextlib
import dataclasses
import io
import json
import logging
import multiprocessing
import os
import pathlib
import random
import re
import runpy
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from typing import Any

from absl import flags
from ml_collections import config_flags
from rich.console import Console
from rich.table import Table

from qwen_audio_jax import command_line, run_config
from qwen_audio_jax.configuration_page import PRETRAIN

ROOT = pathlib.Path(__file__).parents[1]
TIMEOUT = 120
"""Seconds until a configuration counts as one that hangs."""

GARBAGE: dict[str, tuple[str, ...]] = {
    "empty": ("", " ", "''"),
    "text": ("many", "1.2.3", "--", "=", "a=b"),
    "Unicode": ("größe-日本語-🎵", "\u202e", "\u200b", "٣"),
    "NUL": ("a\0b", '("\\x00",)', '{"\\x00": 1.0}'),
    "half a character": ("\udcff", '("\\udcff",)'),
    "None": ("None", "(None,)", "null"),
    "truth": ("True", "false", "(True,)", "((True, 256, 1024),)", '{"synthetic": True}'),
    "NaN": ("nan", "-nan", '{"synthetic": nan}'),
    "infinity": ("inf", "-inf", "1e999", "(1e999,)", '{"synthetic": 1e999}'),
    "negative": ("-1", "-3", "-0.5", "(-1.0,)", "((-1, 256, 1024),)", '{"synthetic": -1}'),
    "zero": ("0", "-0.0", "(0,)", "((0, 0, 0),)", '{"synthetic": 0}'),
    "fraction": ("1.5", "0.1", "(1.5, 2.5)", "((1.5, 256, 1024),)"),
    "tiny": ("1e-300", "5e-324", "(1e-300,)", '{"synthetic": 5e-324}'),
    "huge": ("1e30", "1" + "0" * 30, "((1000000000000, 4, 4),)", "((1, 1048576, 1048576),)"),
    "thousands of digits": ("9" * 5000, "0x" + "f" * 5000, f"(0x{'f' * 5000},)"),
    "list": ("[]", "[1, 2]", "[[16, 144, 352]]", "[[[]]]"),
    "wrong nesting": ("(2, 256, 1024)", "(((2, 256, 1024),),)", "((2, 256),)", "((2, 4, 4, 4),)"),
    "text in a tuple": ('((2, "256", 1024),)', '("a", 1)', '("0.9", "1.1")', 'b"abc"', '(b"a",)'),
    "mapping": ('{"a": 1}', "{}", '{"a": {"b": None}}', "{1: 2}", "{(): []}", '{"a.b": 1}'),
    "set": ("{1, 2}", '{"tags"}', "({1},)"),
    "broken": ("((2, 256, 1024)", "{'a'", '("', ")", "1,,2", "(1 2)"),
    "nested deep": ("(" * 300, "[" * 90 + "]" * 90, "-" * 3000 + "1", "{1:" * 90 + "1" + "}" * 90),
    "bad pattern": ('("(",)', '("*",)', '("[",)', '("(?P<a",)', '("a{99999999999}",)', '("",)'),
    "pattern of nothing": ('("enncoder",)', '("^blocks",)', "x" * 50, '("$^",)', '(".",)'),
    "code": ("__import__('os').getpid()", "lambda: 1", "1 + 1", "(1 + 1j,)", "..."),
    "long": ("x" * 100_000, f'("{"x" * 5000}",)', "(" + "1.0, " * 5000 + ")"),
    "lines and quotes": ("a\nb", "\"'\\", "\r", "a\tb", "Traceback (most recent call last):"),
    "path": ("/nope/x", "../../..", "/dev/null", "~", "C:\\data"),
}
"""Kinds of garbage, each as typed behind the `=`."""

NO_KEYS = ("stepz", "train.stepz", "train.steps.x", "train.steps.real", "data.shapes[0]", "a b")


@dataclasses.dataclass(frozen=True)
class Case:
    """A configuration.

    Attributes:
        typed: (key, kind of garbage, value) for each flag.
        options: further flags, for all that is no garbage.
    """

    typed: tuple[tuple[str, str, str], ...]
    options: tuple[str, ...] = ()

    @property
    def flags(self) -> list[str]:
        return [*self.options, *(f"--config.{key}={value}" for key, _, value in self.typed)]


@dataclasses.dataclass(frozen=True)
class Outcome:
    """What became of one.

    Attributes:
        became: "accepted", "refused" in one sentence, "traceback", "crash" or "hang".
        said: the sentence.
    """

    became: str
    said: str = ""


def keys() -> list[str]:
    """Every key and group of configs/pretrain.py as it is typed, and some that do not exist."""
    values = run_config.flat(_defaults())
    groups = {"/".join(key.split("/")[:n]) for key in values for n in range(1, key.count("/") + 1)}
    return [key.replace("/", ".") for key in [*values, *sorted(groups)]] + list(NO_KEYS)


def every_case() -> Iterator[Case]:
    """Every key with every value."""
    for key in keys():
        for kind, values in GARBAGE.items():
            for value in values:
                yield Case(((key, kind, value),))


def some_cases(count: int, seed: int) -> list[Case]:
    """Garbage in one to three keys, and values that are somewhat off."""
    draw, known = random.Random(seed), keys()
    defaults = run_config.flat(_defaults())
    numbers = [
        key.replace("/", ".") for key, value in defaults.items() if isinstance(value, int | float)
    ]
    cases = []
    for _ in range(count):
        typed: dict[str, tuple[str, str, str]] = {}  # of a key that is typed twice the last counts
        for _ in range(draw.choice((1, 1, 1, 2, 3))):
            key = draw.choice(numbers if draw.random() < 0.4 else known)
            default = defaults.get(key.replace(".", "/"))
            if key in numbers and draw.random() < 0.8:
                factor = draw.choice((0, 0.5, 1, 2, 10, 1e3, 1e6, -1))
                value = default * factor + draw.choice((0, 1))
                typed[key] = key, "somewhat off", str(type(default)(value))
            else:
                kind = draw.choice(list(GARBAGE))
                typed[key] = key, kind, draw.choice(GARBAGE[kind])
        cases.append(Case(tuple(typed.values())))
    return cases


def parse(case: Case) -> tuple[Outcome, run_config.RunConfig | None]:
    """A configuration through the parser of `main`, without JAX."""
    argv = ["main", f"--config={PRETRAIN}", *case.flags]
    into, said = flags.FlagValues(), io.StringIO()
    config_flags.DEFINE_config_file("config", flag_values=into, sys_argv=argv)
    try:
        with contextlib.redirect_stderr(said):
            command_line.parse_flags(argv, into)
        typed = config_flags.get_override_values(into["config"])
        values = command_line.with_one_end(into.config.to_dict(), typed)
        return Outcome("accepted"), run_config.from_mapping(values)
    except run_config.ConfigError as error:
        return _refused(f"error: {error}\n"), None
    except SystemExit:
        return _refused(said.getvalue()), None
    except Exception as error:
        return Outcome("traceback", f"{type(error).__name__}: {error}"), None


def _refused(said: str) -> Outcome:
    """Whether what was said is one sentence that names a key."""
    text = said.removeprefix("error: ").removesuffix("\n")
    good = said.startswith("error: ") and "config" in text and "Traceback (" not in text[:-100]
    lines = len(re.findall(r"[\n\r\x0b\x0c\x1c-\x1e\x85\u2028\u2029\0]", text))
    return Outcome("refused" if good and not lines and len(text) < 1200 else "traceback", text)


def go_on(config: run_config.RunConfig) -> Outcome:
    """What a run does before its first step, but for building the built-in corpus."""
    import jax

    from data_pipelines.examples import batch_bytes
    from data_pipelines.pipeline import PackedBatches
    from qwen_audio_jax.parallel.group import GroupError
    from qwen_audio_jax.parallel.sharding import make_mesh
    from qwen_audio_jax.training import agreement, start, step
    from qwen_audio_jax.training.duration import duration_of
    from qwen_audio_jax.training.errors import TrainingError

    try:
        agreement.of_config(config)
        json.dumps(run_config.to_json(config), allow_nan=False)
        mesh = make_mesh(config.mesh)
        data, model = start.open_data(config, mesh)
        start.find_validation_splits(config, data.corpora)
        steps = duration_of(config.train, data.plan).steps
        _, init = step.make_init(start.recipe_of(config, model, steps))
        jax.eval_shape(init)
        source = PackedBatches(
            data.corpora,
            data.preprocessor,
            data.plan,
            data.local_rows,
            augment=config.data.spec_augment,
            seed=config.data.seed,
            max_bad_share=config.data.max_bad_share,
        )
        if all(
            batch_bytes(shape.rows, shape.tokens, shape.frames, 128) < 2**28
            for shape in config.data.row_shapes
        ):
            _ = source[0]
    except (ValueError, OSError, ImportError, GroupError, TrainingError) as error:
        text = str(error)
        return Outcome("traceback" if "\n" in text else "refused", text)
    except Exception as error:
        return Outcome("traceback", f"{type(error).__name__}: {error}")
    return Outcome("accepted")


class Worker:
    """A process in which configurations go on, started anew after a crash or a hang."""

    def __init__(self):
        self._process = None

    def __call__(self, case: Case) -> Outcome:
        if self._process is None:
            context = multiprocessing.get_context("spawn")
            self._pipe, theirs = context.Pipe()
            self._process = context.Process(target=_work, args=(theirs,), daemon=True)
            self._process.start()
            theirs.close()
        try:
            self._pipe.send(case)
            if self._pipe.poll(TIMEOUT):
                return self._pipe.recv()
            became = "hang"
        except (EOFError, OSError):
            became = "crash"
        self._process.kill()
        self._process.join()
        said, self._process = f"exit status {self._process.exitcode}", None
        return Outcome(became, said)


def _work(pipe: Any) -> None:
    logging.disable()
    with contextlib.suppress(EOFError):  # no more of them
        while True:
            _, config = parse(pipe.recv())
            pipe.send(go_on(config))


def run_command(case: Case, workdir: pathlib.Path) -> Outcome:
    """The whole command, which trains a step if the configuration is accepted."""
    command = [sys.executable, "-m", "qwen_audio_jax.main", f"--config={PRETRAIN}"]
    try:
        done = subprocess.run(
            [*command, f"--workdir={workdir}", *case.flags],
            cwd=ROOT,
            env=os.environ | {"JAX_PLATFORMS": "cpu"},
            capture_output=True,
            timeout=4 * TIMEOUT,
        )
    except subprocess.TimeoutExpired:
        return Outcome("hang")
    said = done.stderr.decode(errors="replace")
    if done.returncode == 0:
        return Outcome("accepted")
    if done.returncode < 0:
        return Outcome("crash", f"signal {-done.returncode}")
    last = (said.strip().splitlines() or [""])[-1]
    good = last.startswith("error: ") and "Traceback (most recent call last):\n" not in said
    return Outcome("refused" if good else "traceback", last if good else said)


def tiny_corpus(root: pathlib.Path) -> tuple[str, ...]:
    """Builds a corpus in the built-in one's place; returns the flags of a small run on it."""
    from data_pipelines import build

    work = build.synthetic_work(32, 4, tasks=("instrument_classification",))
    with contextlib.redirect_stderr(io.StringIO()):
        build.build_corpus(root / build.SYNTHETIC, work, workers=1)
    return (f"--config.data.root={root}", "--config.data.shapes=((4, 64, 640),)")


def main() -> None:
    """Flags in, two tables and an exit status out."""
    options = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    options.add_argument("--count", type=int, default=1000)
    options.add_argument("--commands", type=int, default=20)
    options.add_argument("--seed", type=int, default=0)
    given = options.parse_args()
    os.environ.setdefault("JAX_PLATFORMS", "cpu")
    logging.disable()

    table, accepted = collections.Counter(), collections.defaultdict(set)
    wrong = []
    with tempfile.TemporaryDirectory() as folder:
        small = tiny_corpus(pathlib.Path(folder) / "data")
        worker = Worker()
        commands = {"accepted": given.commands // 2, "refused": -(-given.commands // 2)}
        for number, case in enumerate(some_cases(given.count, given.seed)):
            outcome, _ = parse(case)
            table["parser", outcome.became] += 1
            stages = [("parser", outcome)]
            # No command can be given a NUL, and none is to train for long.
            whole = commands.get(outcome.became, 0) and "\0" not in "".join(case.flags)
            ends = {f"train.{end}" for end in run_config.ENDS}
            whole = whole and not any(key in ends for key, *_ in case.typed)
            if outcome.became == "accepted":
                outcome = worker(dataclasses.replace(case, options=small))
                table["up to the first step", outcome.became] += 1
                stages.append(("up to the first step", outcome))
            if whole:
                commands[stages[0][1].became] -= 1
                limits = ("--config.train.steps=1", "--config.evaluate.limit=4")
                command = dataclasses.replace(case, options=(*small, *limits))
                outcome = run_command(command, pathlib.Path(folder) / "runs" / str(number))
                table["whole command", outcome.became] += 1
                stages.append(("whole command", outcome))
            for stage, one in stages:
                if one.became not in ("accepted", "refused"):
                    wrong.append((stage, case, one))
            if all(one.became == "accepted" for _, one in stages):
                for key, kind, value in case.typed:
                    accepted[key].add(f"{kind}: {value!r:.40}")
    _print(table, accepted, wrong)
    sys.exit(1 if wrong else 0)


def _print(table: collections.Counter, accepted: dict, wrong: list) -> None:
    console = Console(soft_wrap=True)
    became = ("accepted", "refused", "traceback", "crash", "hang")
    shown = Table("", *became, title="Configurations")
    for stage in dict.fromkeys(stage for stage, _ in table):
        shown.add_row(stage, *(f"{table[stage, one]:,}" for one in became))
    console.print(shown)
    for key in sorted(accepted):
        console.print(f"accepted  {key}: {', '.join(sorted(accepted[key]))}", markup=False)
    for stage, case, one in wrong:
        flags_of = " ".join(flag[:120] for flag in case.flags)
        console.print(f"{one.became} ({stage}): {flags_of!a}: {one.said[-600:]!a}", markup=False)


def _defaults() -> dict[str, Any]:
    get_config = runpy.run_path(str(PRETRAIN))["get_config"]

    return get_config().to_dict()


if __name__ == "__main__":
    main()
