"""Evaluates a model: has it answer benchmarks, scores the answers, shows them in a page.

    python -m qwen_audio_jax.evaluate --checkpoint=runs/mine --benchmark=mine=data/synthetic
    python -m qwen_audio_jax.evaluate --workdir=evaluations/mine --stage=judge --judge=ADDRESS
    python -m qwen_audio_jax.evaluate --workdir=evaluations/mine --stage=score
    python -m qwen_audio_jax.evaluate --compare=evaluations/before,evaluations/after

Each answer is kept as soon as it is there: started again, the same command asks only for what is
missing. docs/evaluation.md has the forms of benchmarks, and what each number means.
"""

import pathlib
import sys
import urllib.parse
from typing import TYPE_CHECKING

from absl import app, flags
from ml_collections import config_flags
from rich.console import Console

from qwen_audio_jax.command_line import config_of, parse_flags

if TYPE_CHECKING:
    from qwen_audio_jax.evaluation.judge_stage import Judge

_CONFIG = pathlib.Path(__file__).parents[1] / "configs" / "evaluate.py"
config_flags.DEFINE_config_file(
    "config", help_string="Configuration file, by default configs/evaluate.py of this project."
)
_CHECKPOINT = flags.DEFINE_string(
    "checkpoint", "", "A run folder, one of its checkpoints/STEP, an import, or an exported folder."
)
_ADAPTER = flags.DEFINE_string("adapter", "", "A LoRA run or PEFT folder upon the checkpoint.")
_ENDPOINT = flags.DEFINE_string(
    "endpoint", "", "Instead of a checkpoint: an address of OpenAI's API, http://127.0.0.1:8000/v1."
)
_MODEL = flags.DEFINE_string(
    "model", "", "The model's name behind the endpoint; by default the first."
)
_BENCHMARK = flags.DEFINE_multi_string(
    "benchmark", [], "NAME=PATH of a corpus folder or a benchmark's list; may be repeated."
)
_WORKDIR = flags.DEFINE_string(
    "workdir", "", "Folder of the evaluation; by default evaluations/ and the checkpoint's name."
)
_CONTROLS = flags.DEFINE_boolean(
    "controls", False, "Ask too without audio, with another's, and with choices in other orders."
)
_AGAINST = flags.DEFINE_multi_string(
    "against", [], "A training corpus to look for the questions in; may be repeated."
)
_STAGE = flags.DEFINE_enum(
    "stage", "all", ["all", "answer", "judge", "score"], "What to do; scoring needs no model."
)
_JUDGE = flags.DEFINE_string(
    "judge", "", "An address of OpenAI's API whose model judges free answers, as of AIR-Bench chat."
)
_JUDGE_MODEL = flags.DEFINE_string(
    "judge_model", "", "The judge's name behind its address; by default the first."
)
_JUDGE_MAY_BE_REMOTE = flags.DEFINE_boolean(
    "judge_may_be_remote", False, "Whether answers may be sent to a judge on another machine."
)
_SHARE = flags.DEFINE_string(
    "share", "0/1", "INDEX/COUNT: which share of the questions this process answers, of how many."
)
_COMPARE = flags.DEFINE_list("compare", [], "A,B: the folders of two evaluations to compare.")


def main(argv: list[str]) -> None:
    """Flags in, a folder out; a mistake is one sentence and exit status 1."""
    values = config_of(argv, example="configs/evaluate.py")
    try:
        _check_flags()
        _run(values)
    except (ValueError, OSError) as error:
        told = f"{error.filename}: {error.strerror}" if getattr(error, "filename", "") else error
        print(f"error: {told}", file=sys.stderr)
        sys.exit(1)


def _check_flags() -> None:
    """Refuses what nothing would come of, before JAX is loaded. Raises ValueError."""
    if _CHECKPOINT.value and _ENDPOINT.value:
        raise ValueError("--checkpoint, --endpoint: not both; name the one model that is to answer")
    if _ENDPOINT.value and _ADAPTER.value:
        raise ValueError("--adapter: goes upon a --checkpoint, and not behind an --endpoint")
    if _CHECKPOINT.value and _MODEL.value:
        raise ValueError("--model: is a name behind an --endpoint; a --checkpoint is one model")
    if _STAGE.value in ("all", "answer") and not _COMPARE.value:
        return
    does = "--compare" if _COMPARE.value else f"--stage={_STAGE.value}"
    for flag in (_BENCHMARK, _CHECKPOINT, _ADAPTER, _ENDPOINT, _MODEL):
        if flag.value:
            raise ValueError(
                f"--{flag.name}: is for answering, and {does} takes what is answered already; "
                "leave out one of the two, and name the folder by --workdir"
            )


def _run(values: dict) -> None:
    # Imported late: --help and a mistaken flag should not wait for JAX.
    from qwen_audio_jax.evaluation import compare_stage, options, stages
    from qwen_audio_jax.evaluation.contamination import Source
    from qwen_audio_jax.training.start import use_compilation_cache

    chosen = options.from_mapping(values)
    if _COMPARE.value:
        if len(_COMPARE.value) != 2:
            raise ValueError("--compare: takes the folders of two evaluations, A,B")
        folders = [pathlib.Path(folder) for folder in _COMPARE.value]
        names = "-".join(folder.resolve().name for folder in folders)
        made = pathlib.Path(_WORKDIR.value or pathlib.Path("evaluations") / names)
        _console().print(compare_stage.comparison(*folders, made, chosen))
        print(f"the items that changed most are in {made / compare_stage.PAGE_FILE}")
        return
    use_compilation_cache("auto", pathlib.Path(), 1)
    share = _share(_SHARE.value)
    _check_stage(share, chosen.limit)
    sources = [Source.of(pathlib.Path(path)) for path in _AGAINST.value]
    judge = _judge(share)
    if _STAGE.value in ("all", "answer"):
        asked = [_named(one) for one in _BENCHMARK.value]
        if not asked:
            raise ValueError("--benchmark: is missing; name one, as --benchmark=mine=data/mine")
        if bool(_CHECKPOINT.value) == bool(_ENDPOINT.value):
            raise ValueError("--checkpoint: name the model that is to answer, or an --endpoint")
        who = stages.Who(_CHECKPOINT.value, _ADAPTER.value, _ENDPOINT.value, _MODEL.value)
        stages.answer(
            _folder(),
            who,
            asked,
            chosen,
            share,
            controls=_CONTROLS.value,
            to_be_judged=judge is not None,
        )
    if judge:
        print(stages.judge(_folder(), judge, chosen).sentence)
    if _STAGE.value in ("all", "score") and share[1] == 1:
        _console().print(stages.score(_folder(), chosen, sources))
        print(f"everything is in {_folder()}")


def _check_stage(share: tuple[int, int], limit: int) -> None:
    """Refuses what the stage would pass over without a word. Raises ValueError."""
    asked = {"--controls": _CONTROLS.value, "--share": share[1] > 1, "--config.limit": limit}
    if _STAGE.value in ("judge", "score"):
        for flag in (flag for flag, given in asked.items() if given):
            raise ValueError(
                f"{flag}: says what is asked, and --stage={_STAGE.value} takes all that is "
                "answered; leave it out, or --stage"
            )
    if _AGAINST.value and (_STAGE.value in ("answer", "judge") or share[1] > 1):
        raise ValueError(
            "--against: corpora are looked through when scoring; give it with --stage=score"
        )


def _judge(share: tuple[int, int]) -> "Judge | None":
    """Asked what it serves before anything is answered; None where no judge is wanted."""
    from qwen_audio_jax.evaluation.judge_stage import Judge

    if _STAGE.value == "judge" and not _JUDGE.value:
        raise ValueError("--judge: is missing; name its address, as http://127.0.0.1:8000/v1")
    if not _JUDGE.value:
        return None
    if _STAGE.value in ("answer", "score") or share[1] > 1:
        raise ValueError(
            "--judge: belongs to --stage=judge, or to the whole command in one process; scores are "
            "made of what judges have said already"
        )
    return Judge.of(_JUDGE.value, _JUDGE_MODEL.value, may_be_remote=_JUDGE_MAY_BE_REMOTE.value)


def _console() -> Console:
    # In a file a table is as wide as it needs.
    return Console(width=None if sys.stdout.isatty() else 1000)


def _folder() -> pathlib.Path:
    """That of the flag, or one below evaluations/ that is called as the model is."""
    if _WORKDIR.value:
        return pathlib.Path(_WORKDIR.value)
    if _ENDPOINT.value:
        name = _MODEL.value or urllib.parse.urlsplit(_ENDPOINT.value).netloc
    elif _CHECKPOINT.value:
        name = pathlib.Path(_ADAPTER.value or _CHECKPOINT.value).resolve().name
    else:
        raise ValueError("--workdir: is missing; name the folder of the evaluation")
    return pathlib.Path("evaluations") / name


def _named(given: str) -> tuple[str, pathlib.Path]:
    name, equals, path = given.partition("=")
    if not equals or not name or not path:
        raise ValueError(f"--benchmark: {given!r} is not NAME=PATH")
    return name, pathlib.Path(path)


def _share(given: str) -> tuple[int, int]:
    index, _, count = given.partition("/")
    if not (index.isdecimal() and count.isdecimal()) or int(index) >= int(count):
        raise ValueError(f"--share: {given!r} is not INDEX/COUNT, as 0/2 and 1/2 of two processes")
    return int(index), int(count)


def _parsed(argv: list[str]) -> list[str]:
    """`parse_flags`, with the configuration that there is if none is named."""
    if not any(word.lstrip("-").partition("=")[0] == "config" for word in argv[1:]):
        argv = [argv[0], f"--config={_CONFIG}", *argv[1:]]

    def refusal(key: str, value: str) -> Exception:
        from qwen_audio_jax.evaluation import options

        return options.refusal(key, value)

    return parse_flags(argv, refusal=refusal)


if __name__ == "__main__":
    app.run(main, flags_parser=_parsed)
