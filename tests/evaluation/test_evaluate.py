"""`evaluate`: answers, scores and page of a small model with random weights."""

import collections
import contextlib
import functools
import json
import os
import shutil
import subprocess
import sys

import finished
import numpy as np
import pytest
import tiny_models
from conftest import flac, write_corpus

from qwen_audio_jax.evaluation import answer_stage, compare_stage, options, stages
from qwen_audio_jax.evaluation.answer_files import AnswerFile, path_of, read_answers
from qwen_audio_jax.evaluation.asking import Asking
from qwen_audio_jax.evaluation.benchmarks import open_benchmark
from qwen_audio_jax.evaluation.engine_answers import engine_answers
from qwen_audio_jax.evaluation.plan import read_plan
from qwen_audio_jax.inference.loading import load

VALUES = {
    "limit": 0,
    "control_limit": 0,
    "slots": 4,
    "context": 512,
    "max_new_tokens": 12,
    "protocols": ("plain",),
    "examples": 4,
    "draws": 50,
    "confidence": 0.95,
    "seed": 0,
}
OPTIONS = options.from_mapping(VALUES)


@pytest.fixture(scope="module")
def model(tmp_path_factory):
    return tiny_models.write_model(tmp_path_factory.mktemp("models") / "tiny")


@pytest.fixture(scope="module")
def asking(model):
    return Asking.of(load(model), OPTIONS.max_new_tokens)


def tone(number):
    return flac(0.3 * np.sin(np.arange(3000 + 400 * number) * (0.05 + 0.01 * number)))


@pytest.fixture
def manifest(tmp_path):
    """Nine rows: one whose clip is no audio, one twice, and one that is none."""
    folder = tmp_path / "mine"
    folder.mkdir()
    rows = []
    for n in range(7):
        (folder / f"{n}.flac").write_bytes(tone(n))
        said = {"text": f"number {n}", "language": "en", "speaker": f"s{n % 3}"}
        rows.append({"audio": f"{n}.flac", "task": "asr", "id": str(n)} | said)
    (folder / "broken.flac").write_bytes(b"fLaC is not enough")
    rows.append({"audio": "broken.flac", "task": "asr", "text": "x", "language": "en"})
    rows.append({"audio": "missing.flac", "task": "asr", "text": "x", "language": "en"})
    path = folder / "list.jsonl"
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return path


def texts(folder):
    answers = read_answers(folder)
    return {item.id: answers[item.key].text for item in read_plan(folder).items if item.key}


def run(folder, asking, path, process=(0, 1), slots=4):
    answers = functools.partial(engine_answers, asking, slots=slots, context=512)
    answer_stage.answer(folder, asking, [open_benchmark("mine", path)], answers, 0, process)


def lines(folder):
    found = []
    for path in sorted(folder.glob("answers-*.jsonl")):
        found += path.read_bytes().splitlines(keepends=True)
    return found


def test_everything_that_was_asked_is_accounted_for(tmp_path, model, manifest):
    folder = tmp_path / "evaluation"
    stages.answer(folder, stages.Who(str(model)), [("mine", manifest)], OPTIONS)
    stages.score(folder, OPTIONS)
    rows = json.loads((folder / "evaluation.json").read_text())
    told = json.loads((folder / "summary.json").read_text())["benchmarks"][0]
    assert (told["asked"], told["answered"], told["failed"], told["left_out"]) == (9, 7, 1, 1)
    assert sum(told["reasons"].values()) == 2
    assert any("missing.flac" in reason for reason in told["reasons"])
    by_metric = {row["metric"]: row for row in rows}
    assert list(by_metric) == ["wer", "cer", "wer/plain"]
    for row in rows:
        assert (row["benchmark"], row["task"]) == ("mine", "asr")
        assert (row["n"], row["asked"], row["failed"], row["left_out"]) == (7, 9, 1, 1)
        assert row["low"] <= row["value"] <= row["high"]
    assert by_metric["wer"]["signature"] != by_metric["wer/plain"]["signature"]
    page = (folder / "report.html").read_text()
    assert page.count("<audio") == OPTIONS.examples
    assert page.count('class="answer-card"') == 8


def test_a_lists_prompt_is_asked_as_it_is_written_or_not_at_all(tmp_path, asking):
    (tmp_path / "a.flac").write_bytes(tone(1))
    prompts = ["Write it down: <|en|>", "Write it down: <|martian|>", None]
    rows = [{"audio": "a.flac", "gt": "number one", "prompt": prompt} for prompt in prompts]
    path = tmp_path / "librispeech.jsonl"
    path.write_text("\n".join(map(json.dumps, rows)))
    run(tmp_path / "evaluation", asking, path)
    own, unknown, none = read_plan(tmp_path / "evaluation").items
    assert (own.prompt.endswith(prompts[0]), own.reference, own.own_words) == (
        True, "number one", True,
    )  # fmt: skip
    assert "'prompt': has <|martian|>, which is no control token of this model" in unknown.failed
    assert (none.failed, none.own_words) == ("", False)


def test_killed_anywhere_and_resumed_it_ends_the_same(tmp_path, asking, manifest, monkeypatch):
    """Between two lines, and within one."""
    whole = tmp_path / "whole"
    run(whole, asking, manifest)
    stages.score(whole, OPTIONS)
    known = lines(whole)
    assert len(known) == 8

    again = []
    begun = AnswerFile.put
    monkeypatch.setattr(
        AnswerFile, "put", lambda self, one: again.append(one.key) or begun(self, one)
    )
    for kept, torn in ((0, 20), (1, 0), (3, 40), (6, 1), (7, 0), (8, 0)):
        folder = tmp_path / f"killed-{kept}"
        folder.mkdir()
        rest = known[kept][:torn] if kept < len(known) else b""
        (folder / "answers-00000-of-00001.jsonl").write_bytes(b"".join(known[:kept]) + rest)
        again.clear()
        run(folder, asking, manifest)
        answered = map(json.loads, known[:kept])
        done = {one["key"] for one in answered if one["finish"] != "failed"}
        assert not done & set(again)
        assert len(again) == 8 - len(done)
        assert texts(folder) == texts(whole)
        stages.score(folder, OPTIONS)
        for name in ("evaluation.json", "summary.json"):
            assert (folder / name).read_bytes() == (whole / name).read_bytes()


def test_texts_depend_on_no_company(tmp_path, asking, manifest):
    """One slot or sixteen, in another order, by two processes: the same texts in float32."""
    run(tmp_path / "4", asking, manifest)
    expected = texts(tmp_path / "4")
    assert len(set(expected.values())) > 3
    for slots in (1, 16):
        run(tmp_path / str(slots), asking, manifest, slots=slots)
        assert texts(tmp_path / str(slots)) == expected
    shuffled = manifest.with_name("shuffled.jsonl")
    shuffled.write_text("\n".join(reversed(manifest.read_text().splitlines())))
    run(tmp_path / "shuffled", asking, shuffled)
    known = texts(tmp_path / "shuffled")
    assert {name: known[name] for name in map(str, range(7))} == {
        name: expected[name] for name in map(str, range(7))
    }
    for index in (1, 0):
        run(tmp_path / "two", asking, manifest, process=(index, 2))
    assert texts(tmp_path / "two") == expected
    assert len(list((tmp_path / "two").glob("answers-*"))) == 2


def test_what_changes_is_asked_anew_and_nothing_else(tmp_path, asking, manifest):
    folder = tmp_path / "evaluation"

    def new_lines():
        before = len(lines(folder)) if folder.exists() else 0
        run(folder, asking, manifest)
        return len(lines(folder)) - before

    failed = 1  # which is tried each time
    assert new_lines() == 7 + failed
    assert new_lines() == failed
    (manifest.parent / "3.flac").write_bytes(tone(9))
    assert new_lines() == 1 + failed
    rows = manifest.read_text().replace('"language": "en", "speaker": "s1"', '"language": "zh"')
    manifest.write_text(rows)
    assert new_lines() == 2 + failed  # the prompt has the language's tag; of three, one was s1's
    other = Asking(asking.loaded, "other weights", asking.most)
    run(folder, other, manifest)
    shorter = Asking(asking.loaded, asking.weights, 3)
    before = len(lines(folder))
    run(folder, shorter, manifest)
    assert len(lines(folder)) - before == 7 + failed


def test_a_row_without_the_language_that_a_protocol_needs_is_named(tmp_path, model, manifest):
    path = manifest.with_name("nemo.jsonl")
    rows = [{"audio_filepath": "3.flac", "text": "x"} | more for more in ({"lang": "en"}, {})]
    path.write_text("\n".join(map(json.dumps, rows)))
    asks = options.from_mapping(VALUES | {"protocols": ("plain", "v2")})
    says = "--config.protocols: benchmark 'mine', row '3-2': the protocol v2 normalises each"
    with pytest.raises(ValueError, match=says):
        stages.answer(tmp_path / "x", stages.Who(str(model)), [("mine", path)], asks)


def test_a_folder_is_of_one_model(tmp_path, model, asking, manifest):
    folder, other = tmp_path / "evaluation", tiny_models.write_model(tmp_path / "other", 1)
    run(folder, asking, manifest)
    named, before = [("mine", manifest)], (folder / "plan.json").read_bytes()
    says = rf"evaluation: holds the answers of tiny \(weights {asking.weights}\), and now other \("
    with pytest.raises(ValueError, match=says):
        stages.answer(folder, stages.Who(str(other)), named, OPTIONS)
    assert (folder / "plan.json").read_bytes() == before
    moved = shutil.copytree(model, tmp_path / "moved")
    stages.answer(folder, stages.Who(str(moved)), named, OPTIONS)
    assert read_plan(folder).model["name"] == "moved"
    for path in folder.glob("answers-*"):
        path.unlink()
    stages.answer(folder, stages.Who(str(other)), named, OPTIONS)
    assert read_plan(folder).model["name"] == "other"


def test_what_another_process_is_answering_stays_as_it_is_planned(tmp_path, asking, manifest):
    folder = tmp_path / "evaluation"
    run(folder, asking, manifest)
    before = (folder / "plan.json").read_bytes()
    manifest.write_text(manifest.read_text().splitlines(keepends=True)[0])
    with contextlib.closing(AnswerFile(path_of(folder))):
        with pytest.raises(OSError, match="another process writes it; wait until that has ended"):
            run(folder, asking, manifest)
        assert (folder / "plan.json").read_bytes() == before
    run(folder, asking, manifest)
    assert (folder / "plan.json").read_bytes() != before


def test_an_answer_that_finds_no_room_fails_and_says_so(tmp_path, asking, manifest):
    """Of a limit that does not fit beside the prompt, what fits is enough for most answers."""
    whole, tight = tmp_path / "whole", tmp_path / "tight"
    run(whole, asking, manifest)
    questions = [asking.question(item) for item in open_benchmark("mine", manifest).items[:7]]
    prompts = [len(asking.example(question).text.tokens) for question in questions]
    context = max(prompts) + 6
    assert context < min(prompts) + OPTIONS.max_new_tokens
    found = {one.key: one for _, one in engine_answers(asking, questions, 4, context)}
    expected = read_answers(whole)
    for question, prompt in zip(questions, prompts, strict=True):
        one, known = found[question.key], expected[question.key]
        if known.tokens < context - prompt:
            assert one == known
        else:
            assert one.finish == "failed"
            assert f"the prompt has {prompt:,} tokens, which leaves room for" in one.error
    assert {one.finish for one in found.values()} > {"failed"}
    assert not tight.exists()


def test_damage_is_told_or_mended(tmp_path, asking, manifest, caplog):
    """A line of an answer is asked again; a plan that lost items is no plan."""
    folder = tmp_path / "evaluation"
    run(folder, asking, manifest)
    expected = texts(folder)
    path = folder / "answers-00000-of-00001.jsonl"
    known = path.read_bytes().splitlines(keepends=True)
    for bad in (known[2][:30] + b"\n", b'{"key": 5}\n', b'"x"\n', b"\0\0\n"):
        path.write_bytes(b"".join([*known[:2], bad, *known[3:]]))
        caplog.clear()
        run(folder, asking, manifest)
        assert texts(folder) == expected
        assert f"{path}, line 3: is damaged" in caplog.text
    items = folder / "items.jsonl"
    items.write_text("".join(items.read_text().splitlines(keepends=True)[:5]))
    with pytest.raises(ValueError, match=r"is damaged \(5 items of 8\); answer again"):
        stages.score(folder, OPTIONS)


def test_the_same_clip_and_question_are_answered_once(tmp_path, asking):
    write_corpus(tmp_path / "one", 1, [1, 3, 5])
    shutil.copytree(tmp_path / "one", tmp_path / "two")
    benchmarks = [open_benchmark(name, tmp_path / name) for name in ("one", "two")]
    folder = tmp_path / "evaluation"
    answers = functools.partial(engine_answers, asking, slots=4, context=512)
    answer_stage.answer(folder, asking, benchmarks, answers)
    assert len(lines(folder)) == 3
    stages.score(folder, OPTIONS)
    rows = json.loads((folder / "evaluation.json").read_text())
    assert collections.Counter(row["benchmark"] for row in rows) == {"one": 1, "two": 1}
    assert [row["n"] for row in rows] == [3, 3]


def test_scoring_needs_no_device_and_a_file_gets_a_table_as_wide_as_it_needs(tmp_path):
    name = "long" * 50
    folder = tmp_path / "evaluation"
    item = finished.item(0, "a dog", "acoustic_scene_classification", name)
    transcript = finished.item(1, "a dog", benchmark=name)
    items = [item, transcript]
    finished.write(folder, finished.plan_of(items), finished.answers_of(items, ["a dog"] * 2))
    told = subprocess.run(
        [sys.executable, "-m", "qwen_audio_jax.evaluate", f"--workdir={folder}", "--stage=score"],
        env=os.environ | {"JAX_PLATFORMS": "none-such"},
        capture_output=True,
        text=True,
        check=True,
    )
    assert "WER" in told.stdout
    assert f"{name}   acoustic scene classification   Accuracy" in told.stdout
    assert (folder / "evaluation.json").is_file()


def test_a_model_does_not_differ_from_itself_and_may_from_another(tmp_path, asking, manifest):
    run(tmp_path / "a", asking, manifest)
    run(tmp_path / "b", asking, manifest)
    folders = tmp_path / "a", tmp_path / "b", tmp_path / "compared"
    table = compare_stage.comparison(*folders, OPTIONS)
    assert list(table.columns[6].cells) == ["1.000", "1.000", "1.000"]
    part = tmp_path / "part"
    run(part, asking, manifest)
    path = part / "answers-00000-of-00001.jsonl"
    path.write_bytes(b"".join(path.read_bytes().splitlines(keepends=True)[:5]))
    with pytest.raises(ValueError, match="part: 3 of 8 questions have no answer yet; finish it"):
        compare_stage.comparison(tmp_path / "a", part, tmp_path / "compared", OPTIONS)
    (manifest.parent / "8.flac").write_bytes(tone(8))
    more = {"audio": "8.flac", "task": "asr", "text": "y", "language": "en"}
    manifest.write_text(manifest.read_text() + json.dumps(more))
    run(tmp_path / "b", asking, manifest)
    with pytest.raises(ValueError, match="cannot be compared, since their data differs"):
        compare_stage.comparison(*folders, OPTIONS)


ANSWERS = ["--checkpoint=/none", "--endpoint=http://127.0.0.1:9/v1"]


@pytest.mark.parametrize(
    ("flags", "told"),
    [
        (ANSWERS, "--checkpoint, --endpoint: not both"),
        (["--stage=score", "--benchmark=x=/none"], "--benchmark: is for answering, and --stage=sc"),
    ],
)
def test_a_flag_that_nothing_would_come_of_is_refused(flags, told):
    refused_in_one_sentence(flags, told)


@pytest.mark.parametrize(
    ("flags", "told"),
    [
        ([], "--benchmark: is missing"),
        ([ANSWERS[1], "--adapter=/none"], "--adapter: goes upon a --checkpoint"),
        ([ANSWERS[0], "--model=x"], "--model: is a name behind an --endpoint"),
        (["--stage=judge", ANSWERS[0]], "--checkpoint: is for answering, and --stage=judge takes"),
        (["--stage=score", ANSWERS[1]], "--endpoint: is for answering"),
        (["--stage=score", "--adapter=/none"], "--adapter: is for answering"),
        (["--compare=a,b", ANSWERS[0]], "--checkpoint: is for answering, and --compare takes"),
        (["--benchmark=x"], "--benchmark: 'x' is not NAME=PATH"),
        (["--benchmark=x=/none"], "--checkpoint: name the model"),
        (["--benchmark=x=/none", "--checkpoint=/none"], "/none: no such file"),
        (["--benchmark=x=."], "--checkpoint: name the model"),
        (["--stage=score"], "--workdir: is missing"),
        (["--stage=score", "--workdir=/none"], "/none: is no evaluation"),
        (["--stage=judge"], "--judge: is missing"),
        (["--stage=score", "--judge=http://127.0.0.1:9/v1"], "--judge: belongs to --stage=judge"),
        (["--stage=judge", "--judge=http://10.0.0.9/v1"], "--judge: http://10.0.0.9/v1 is not on"),
        (["--stage=judge", "--judge=http://127.0.0.1:9/v1"], "does not list its models"),
        (["--stage=judge", "--judge=http://127.0.0.1:99999/v1"], "does not list its models"),
        (["--share=2/2"], "--share: '2/2' is not INDEX/COUNT"),
        (["--stage=score", "--controls"], "--controls: says what is asked, and --stage=score"),
        (["--stage=score", "--share=0/2"], "--share: says what is asked, and --stage=score takes"),
        (["--stage=score", "--config.limit=9"], "--config.limit: says what is asked, and"),
        (["--stage=answer", "--against=."], "--against: corpora are looked through when scoring"),
        (["--stage=score", "--against=/none"], "/none: no corpus there"),
        (["--compare=a"], "--compare: takes the folders of two evaluations"),
        (["--config.slots=0"], "config.slots"),
        (["--config.seed=x"], "config.seed: must be a whole number"),
        (["--config.nosuch=1"], "--config has no such key: nosuch"),
        (["--config.protocols=('v9',)"], "config.protocols"),
    ],
)
@pytest.mark.slow
def test_a_mistake_is_one_sentence(flags, told):
    refused_in_one_sentence(flags, told)


def refused_in_one_sentence(flags, told):
    found = subprocess.run(
        [sys.executable, "-m", "qwen_audio_jax.evaluate", "--workdir=", *flags],
        capture_output=True,
        text=True,
    )
    assert found.returncode == 1
    assert told in found.stderr
    assert found.stderr.count("\n") == 1
