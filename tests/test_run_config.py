"""Wrong configurations are refused in one sentence that names the key."""

import dataclasses
import json
import re
import subprocess
import sys
import typing

import pytest
from conftest import changed, pretrain_values

from qwen_audio_jax.run_config import ConfigError, RunConfig, from_mapping, short_hash, to_json


@pytest.fixture
def values():
    return pretrain_values()


@pytest.mark.parametrize(
    ("key", "value", "message"),
    [
        ("train.stepz", 3, r": no such key; did you mean 'steps'\?"),
        ("train.steps", "many", ": must be a whole number from 0 to 2,147,483,647, not 'many'"),
        ("train.steps", -1, ": must be a whole number from 0 to 2,147,483,647, not -1"),
        ("train.steps", 0, ": is 0, and so are hours and epochs; one of the three must be above"),
        ("train.hours", -1.0, ": must be a number from 0.0001 to .*, or 0 .no end by time., not"),
        ("train.epochs", float("inf"), ": must be a number from 0.0001 to .*, not inf"),
        ("data.tasks", {"synthetic": "asr"}, r"\.synthetic: must be a tuple, .*; such as --config"),
        ("data.tasks", {"synthetic": (" ",)}, r"\.synthetic\[0\]: must be text, not blank, .*' '"),
        ("data.tasks", {"mine": ("asr",)}, ": 'mine' is no corpus of config.data.mixture, which h"),
        ("data.languages", {"synthetic": ()}, r"\.synthetic: must be a tuple, 1 to 1000 items, "),
        ("data.languages", {"mine": ("en",)}, ": 'mine' is no corpus of config.data.mixture, wh"),
        ("data.prompts", {"asr": ("Hi",)}, ": has a meaning with config.data.conditioning=prompts"),
        ("data.prompt_language", "en", ": has a meaning with config.data.conditioning=prompts al"),
        ("data.prompt_language", "fr", ": must be one of all, en, zh, de, not 'fr'"),
        ("train.steps", 10**30, ": must be a whole number .*, not 1000000000000000000000000000000"),
        ("train.seed", 2**32, ": must be a whole number from 0 to 4,294,967,295, not 4294967296"),
        ("train", 3, ": must be a mapping with the keys steps, seed, .*, not 3"),
        ("model.family", "qwen3", ": must be one of auto, qwen_audio, qwen2_audio, not 'qwen3'"),
        ("model.preset", "huge", ": must be one of tiny, .*, not 'huge'"),
        ("model.dtype", "int8", ": must be one of auto, bfloat16, float32, not 'int8'"),
        ("data.conditioning", "tag", ": must be one of tags, prompts, none, not 'tag'"),
        ("data.root", "", ": must be a folder, not ''"),
        ("data.root", "a\0b", r": no file can be named by what is in 'a\\x00b'"),
        ("data.seed", -1, ": must be a whole number from 0 to .*, not -1"),
        ("data.workers", -3, ": must be a whole number from 0 to 512, not -3"),
        ("data.workers", 10**6, ": must be a whole number from 0 to 512, not 1000000"),
        ("data.temperature", 1e-3, r": must be a number from 0\.1 to 1,000,000, or 0 \(weights as"),
        ("data.spec_augment.time_share", 1.5, r": must be a number from 0 to 1, not 1\.5"),
        ("data.wave_augment.speeds", (0.9, 9), r"\[1\]: must be a number from 0\.5 to 2, not 9"),
        (
            "data.wave_augment.snr_db",
            (30.0, 10.0),
            r": must be \(a number .*, the lower first, not",
        ),
        ("data.shapes", ((4, 10, 10),), r"\[0\]\[2\]: must be .*, a multiple of 4, not 10"),
        ("data.shapes", (), r": must be a tuple, 1 to 3 items, each \(rows: .*, not \(\)"),
        ("data.shapes", (2, 256, 1024), r"\[0\]: must be \(rows: .*, not 2; such as --config.data"),
        ("data.shapes", ((2, "256", 1024),), r"\[0\]\[1\]: must be a whole number .*, not '256'"),
        ("data.shapes", ((True, 256, 1024),), r"\[0\]\[0\]: must be a whole number .*, not True"),
        ("data.shapes", ((2**20, 4096, 4),), r"\[0\]: a batch must have at most 2,147,483,647"),
        ("data.mixture", {}, r": must be a mapping, 1 to 1000 items, .*, not \{\}; such as"),
        ("data.mixture", {"a": 0.0}, ": all weights are 0; one must be above"),
        ("data.mixture", {"a": "much"}, r"\.a: must be a number from 0 to .*, not 'much'"),
        ("data.mixture", ["a"], r": must be a mapping, .*, not \['a'\]"),
        ("mesh", {"fsdp": -1}, ": must be a mapping, with the keys replica, fsdp, tensor, each"),
        ("mesh.tensor", 0, r": must be a whole .*, or -1 \(what the others leave\), not 0"),
        ("optimizer.learning_rate", -1.0, ": must be a number from 1e-12 to 10, not -1"),
        ("optimizer.final_learning_rate", 5.0, r": 5 is above config\.optimizer\.learning_rate ="),
        ("optimizer.warmup_steps", -5, ": must be a whole number from 0 to .*, not -5"),
        ("optimizer.clip_norm", 0.0, r": must be a number .*, or inf \(no clipping\), not 0\.0"),
        ("optimizer.clip_norm", -1.0, ": must be a number from 1e-12 to .*, not -1"),
        ("optimizer.clip_norm", float("nan"), ": must be a number from 1e-12 to .*, not nan"),
        ("optimizer.beta1", 2.0, r": must be a number from 0 to 0\.999999, not 2"),
        ("optimizer.eps", -1.0, ": must be a number from 1e-30 to 1, not -1"),
        ("optimizer.weight_decay", -1.0, ": must be a number from 0 to 10, not -1"),
        ("optimizer.encoder_layer_decay", 0.0, r": must be a number from 0\.01 to 1, not 0"),
        ("optimizer.frozen", ("(",), r"\[0\]: must be a regular expression .*, not '\('; such as"),
        ("optimizer.frozen", ("",), r"\[0\]: must be a regular expression .*, not empty, not ''"),
        ("evaluate.examples", [62], r": must be a whole number .*, not \[62\]"),
        ("wait.start", float("inf"), r": must be a number from .*, not inf"),
        ("compilation_cache", "None", ": must be a folder, or empty, not 'None'"),
    ],
)
def test_mistakes_are_named(values, key, value, message):
    with pytest.raises(ConfigError, match=f"{re.escape(f'config.{key}')}{message}"):
        from_mapping(changed(values, key, value))


def test_mistakes_of_two_keys_are_named(values):
    with pytest.raises(ConfigError, match=r"config\.mesh: only one axis can .* fsdp and tensor"):
        from_mapping(changed(values, "mesh.tensor", -1))
    with pytest.raises(ConfigError, match=r"config\.optimizer\.final_learning_rate: 2e-05 is"):
        from_mapping(changed(values, "optimizer.learning_rate", 1e-6))
    with pytest.raises(ConfigError, match=r"config\.profile\.start: 1200 steps are passed"):
        from_mapping(changed(values, "profile", {"start": 1200, "steps": 1}))
    with pytest.raises(ConfigError, match=r"a key of config\.data\.mixture: must be a folder, not"):
        from_mapping(changed(values, "data.mixture", {"": 1.0}))


@pytest.mark.parametrize(
    ("prompts", "message"),
    [
        (
            {"asr": "Transcribe."},
            r"\.asr: must be a tuple, .*, not 'Transcribe\.'; such as --config",
        ),
        ({"asr": ("Write:", "\u200b ")}, r"\.asr\[1\]: must be text, not blank, "),
        (
            {"asr": ("x" * 2001,)},
            r"\.asr\[0\]: must be text, not blank, of at most 2,000 characters",
        ),
        ({"asr": ("<|en|>Write:",)}, r"\.asr\[0\]: <\|en\|> is spelled in it, which would be read"),
        ({"asr": ("<audio>",)}, r"\.asr\[0\]: <audio> is spelled in it"),
        (
            {"asr": ("{text}",)},
            r"\.asr\[0\]: \{text\} is no field of a prompt of asr; there is \{la",
        ),
        ({"asr": ("Write {",)}, r"\.asr\[0\]: has a brace that belongs to no field"),
        ({"asr": ("{}",)}, r"\.asr\[0\]: \{\} is no field"),
        ({"speaker_gender": ("{language_name}",)}, r".*: \{language_name\} is no .* there is none"),
        ({"speech_translation": ("Translate:",)}, r".*\[0\]: lacks \{target_language_name\}, with"),
        (
            {"speech_translation": ("{target_language_name_xx}",)},
            r".*_xx\} is no field of a prompt",
        ),
        (
            {"audio_question_answering": ("{question}", "Go")},
            r".*\[1\]: lacks \{question\}, without",
        ),
    ],
)
def test_prompts_that_cannot_be_used_are_named(values, prompts, message):
    asked = changed(values, "data.conditioning", "prompts")
    with pytest.raises(ConfigError, match=rf"config\.data\.prompts{message}"):
        from_mapping(changed(asked, "data.prompts", prompts))


def test_a_prompt_of_no_task_is_named(values):
    asked = changed(values, "data.conditioning", "prompts")
    for task in ("asrr", "text"):  # text is not asked for
        with pytest.raises(ConfigError, match=rf"a key of .*prompts: must be one of .*'{task}'"):
            from_mapping(changed(asked, "data.prompts", {task: ("Hi",)}))


def test_a_run_has_one_end(values):
    with pytest.raises(ConfigError, match=r"steps = 1200 and config\.train\.hours = 2 are given;"):
        from_mapping(changed(values, "train.hours", 2.0))
    for end, amount in (("hours", 2.0), ("epochs", 0.5)):
        config = from_mapping(changed(changed(values, "train.steps", 0), f"train.{end}", amount))
        assert getattr(config.train, end) == amount
        assert from_mapping(json.loads(json.dumps(to_json(config)))) == config


def test_a_missing_key_is_named(values):
    del values["data"]["seed"]
    with pytest.raises(ConfigError, match=r"config\.data\.seed: is missing"):
        from_mapping(values)


def test_no_clipping_is_infinity_and_stays_json(values):
    config = from_mapping(changed(values, "optimizer.clip_norm", float("inf")))
    assert config.optimizer.clip_norm == float("inf")
    text = json.dumps(to_json(config), allow_nan=False)
    assert from_mapping(json.loads(text)) == config


def test_what_was_written_of_a_run_is_its_configuration(values):
    config = from_mapping(values)
    assert from_mapping(json.loads(json.dumps(to_json(config)))) == config


def test_every_field_is_marked():
    """A number without a range might be NaN."""

    def unmarked(annotation, path="config"):
        marks = getattr(annotation, "__metadata__", ())
        kind = annotation.__origin__ if marks else annotation
        if dataclasses.is_dataclass(kind):
            inner = typing.get_type_hints(kind, include_extras=True)
        else:
            inner = {i: one for i, one in enumerate(typing.get_args(kind)) if one is not ...}
        if not inner:
            return [] if marks or kind is bool else [path]
        return [name for key, one in inner.items() for name in unmarked(one, f"{path}.{key}")]

    assert unmarked(RunConfig) == ["config.mesh.0"]  # its names are marked at the mapping
    assert unmarked(tuple[int, ...]) == ["config.0"]


def test_nothing_that_was_typed_is_written_otherwise(values):
    """Folders of runs have a digest of it in their names, of earlier runs as well."""
    assert json.dumps(to_json(from_mapping(values)), sort_keys=True) == json.dumps(
        values, sort_keys=True
    )
    theirs = from_mapping(changed(values, "data.mixture", {"mine": 1, "other": 2.0}))
    assert json.dumps(to_json(theirs)["data"]["mixture"]) == '{"mine": 1, "other": 2.0}'


def test_hash_tells_runs_apart_but_not_habits(values):
    base = short_hash(from_mapping(values))
    assert short_hash(from_mapping(changed(values, "train.steps", 7))) != base
    assert short_hash(from_mapping(changed(values, "data.mixture", {"other": 1.0}))) != base
    by_time = changed(changed(values, "train.steps", 0), "train.hours", 2.0)
    chosen = changed(values, "data.languages", {"synthetic": ("en",)})
    asked = changed(values, "data.conditioning", "prompts")
    own = changed(asked, "data.prompts", {"asr": ("Write:",)})
    told = [by_time, chosen, asked, own, changed(asked, "data.prompt_language", "en")]
    assert len({base, *(short_hash(from_mapping(one)) for one in told)}) == 6
    assert short_hash(from_mapping(changed(values, "checkpoint.every", 7))) == base
    assert short_hash(from_mapping(changed(values, "mesh.tensor", 2))) == base


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        ("pretrain.py --config.train.stepz=3", "no such key: stepz. Did you mean"),
        ("pretrain.py --config.train.steps=x", "config.train.steps: must be a whole number from 0"),
        ("pretrain.py --foo=1", "Unknown command line flag 'foo'"),
        ("pretrain.py:qwen2_audio_7b@v5e:2x2", "pretrain.py:qwen2_audio_7b@v5e:2x2 is not set up"),
        ("nowhere.py", "No such file or directory: 'configs/nowhere.py'"),
        ("../README.md", "--config is no configuration: "),
    ],
)
def test_mistaken_flags_are_one_sentence(arguments, said):
    command = [
        sys.executable,
        "-m",
        "qwen_audio_jax.main",
        *f"--config=configs/{arguments}".split(),
    ]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 1
    assert said in done.stderr
    assert done.stderr.startswith("error: ")
    assert done.stderr.count("\n") == 1
