"""The stage that asks a judge, and the scores made of what it said."""

import dataclasses
import json
import re

import pytest
from scripted_judge import CLOSE, GONE, HANG, NAME, NO_JSON, served

from qwen_audio_jax.evaluation import compare_stage, judge_stage, openai_server, options, stages
from qwen_audio_jax.evaluation.answer_files import Answered, AnswerFile, path_of
from qwen_audio_jax.evaluation.benchmarks import JUDGED
from qwen_audio_jax.evaluation.judge_calls import log_of
from qwen_audio_jax.evaluation.judge_stage import Judge
from qwen_audio_jax.evaluation.plan import Asked, Plan, Planned, write_plan
from qwen_audio_jax.inference.answers import FAILED, STOP

OPTIONS = options.from_mapping(
    {
        "limit": 0,
        "control_limit": 0,
        "slots": 3,
        "context": 512,
        "max_new_tokens": 0,
        "protocols": (),
        "examples": 0,
        "draws": 50,
        "confidence": 0.95,
        "seed": 0,
    }
)
GROUPS = ("speech", "sound", "music", "speech_and_sound", "speech_and_music")


@pytest.fixture(autouse=True)
def impatient(monkeypatch):
    monkeypatch.setattr(openai_server, "_PAUSE", 0.001)
    monkeypatch.setattr(judge_stage, "_PATIENCE", 0.3)


def evaluation(folder, number=6, says="said {}"):
    """A finished evaluation of AIR-Bench's chat; one question more failed."""
    items = []
    for n in range(number + 1):
        group = GROUPS[n % len(GROUPS)]
        told = {"question": f"What is it, {n}?", "text": f"right {n}", "description": f"clip {n}"}
        annotation = told | {"group": group}
        items.append(
            Planned("chat", str(n), "audio_question_answering", annotation, f"k{n}", rule=JUDGED)
        )
    asked = Asked("chat", "air_chat", "d1", "gone.json", len(items), 0, ((9, "no clip"),))
    folder.mkdir()
    write_plan(folder, Plan({"name": "tiny"}, {"search": "greedy"}, [asked], items))
    file = AnswerFile(path_of(folder))
    for n in range(number):
        file.put(Answered(f"k{n}", says.format(n), STOP))
    file.put(Answered(f"k{number}", "", FAILED, error="no room"))
    file.close()
    return folder


def judged(folder, address):
    return judge_stage.judge(folder, Judge.of(address), OPTIONS.slots)


def rows_of(folder):
    stages.score(folder, OPTIONS)
    return {row["metric"]: row for row in json.loads((folder / "evaluation.json").read_text())}


def number_of(prompt):
    return int(re.search(r"What is it, (\d+)\?", prompt)[1])


def is_reference_first(prompt):
    return "[First answer]\nright" in prompt


def fair(prompt, before):
    """6 and 8 with the reference first, 9 for the reference and 5 for the answer otherwise."""
    return "8 6" if is_reference_first(prompt) else "5 9"


def test_both_orders_are_asked_once_and_averaged(tmp_path, monkeypatch):
    """Case 8 of AIR-Bench's issue 3, over HTTP."""
    monkeypatch.setenv("QWEN_AUDIO_JUDGE_API_KEY", "secret")
    folder = evaluation(tmp_path / "e")
    with served(fair) as (address, judge):
        held = judged(folder, address)
    assert (held.model, held.calls, held.asked, held.unreadable, held.failed) == (
        NAME,
        12,
        12,
        0,
        0,
    )
    assert len(set(judge.prompts)) == len(judge.prompts) == 12
    assert sum(map(is_reference_first, judge.prompts)) == 6
    assert all(body["temperature"] == 0 and body["model"] == NAME for body in judge.bodies)
    assert set(judge.keys) == {"Bearer secret"}
    assert judge.most_at_once <= OPTIONS.slots
    for part in ("clip 3", "What is it, 3?", "right 3", "said 3"):
        assert sum(part in prompt for prompt in judge.prompts) == 2
    row = rows_of(folder)[f"judged/{NAME}"]
    assert (row["value"], row["reference"], row["official"], row["flip_rate"]) == (5.5, 8.5, 5.5, 0)
    assert (row["low"], row["high"], row["lowest"], row["highest"]) == (5.5,) * 4
    assert (row["n"], row["asked"], row["failed"], row["left_out"]) == (6, 8, 1, 1)
    assert (row["judge"], row["judge_failed"], row["unreadable"]) == (NAME, 0, 0)
    assert row["signature"].startswith(f"judge {NAME}, temperature 0, ")
    assert row["baseline"] is None


def test_no_row_goes_by_the_benchmarks_name_or_without_its_judge(tmp_path):
    folder = evaluation(tmp_path / "e")
    assert list(rows_of(folder)) == ["scored_elsewhere"]  # by a file for its own script
    with served(fair) as (address, _):
        judged(folder, address)
    metrics = list(rows_of(folder))
    assert metrics == [f"judged/{NAME}", *(f"judged/{NAME}/{group}" for group in sorted(GROUPS))]
    page = (folder / "report.html").read_text()
    assert f"Judged by {NAME}" in page
    assert f"chat, judged by {NAME}: the references get 8.5" in page


def test_a_judge_that_prefers_the_first_gives_equal_means_and_flips_always(tmp_path):
    folder = evaluation(tmp_path / "e")
    with served(lambda prompt, before: "9 5") as (address, _):
        judged(folder, address)
    row = rows_of(folder)[f"judged/{NAME}"]
    found = (row["value"], row["reference"], row["flip_rate"], row["first_place"])
    assert found == (7, 7, 1, 4)


def test_the_board_weighs_its_groups_alike(tmp_path):
    """Seven answers, the first and sixth of them to speech: 2, the others 6."""
    folder = evaluation(tmp_path / "e", number=7)

    def script(prompt, before):
        mine = 2 if number_of(prompt) % 5 == 0 else 6
        return f"9 {mine}" if is_reference_first(prompt) else f"{mine} 9"

    with served(script) as (address, _):
        judged(folder, address)
    rows = rows_of(folder)
    assert rows[f"judged/{NAME}"]["value"] == pytest.approx((2 * 2 + 5 * 6) / 7)
    assert rows[f"judged/{NAME}"]["official"] == (2 + 6 + 6 + 6) / 4
    speech = rows[f"judged/{NAME}/speech"]
    assert (speech["value"], speech["n"], speech["asked"], speech["failed"]) == (2, 2, 2, 0)


def test_what_is_no_score_is_counted_and_bounds_say_what_it_may_be_worth(tmp_path):
    folder = evaluation(tmp_path / "e")
    garbage = {0: "I would say 8 and 6.", 1: "11/10", 2: "11 10", 3: "7", 4: ""}

    def script(prompt, before):
        return garbage.get(number_of(prompt), fair(prompt, before))

    with served(script) as (address, _):
        held = judged(folder, address)
        assert (held.unreadable, held.failed) == (10, 0)
        assert judged(folder, address).asked == 0  # temperature 0: it would say the same
    row = rows_of(folder)[f"judged/{NAME}"]
    assert (row["value"], row["n"], row["unreadable"], row["judge_failed"]) == (5.5, 1, 5, 0)
    assert row["lowest"] == pytest.approx((5.5 + 5 * 1) / 6)
    assert row["highest"] == pytest.approx((5.5 + 5 * 10) / 6)
    assert row["official"] is None  # three groups have no score
    counts = row["scored"], row["unreadable"], row["failed"], row["left_out"]
    assert (row["scored"], sum(counts)) == (row["n"], row["asked"])


@pytest.mark.parametrize(
    ("fault", "tries", "told"),
    [
        (500, 5, "status 500: too much"),
        (400, 1, "status 400: too much"),
        (("fault", HANG), 2, "no answer within 0.3 s"),
        (("fault", CLOSE), 5, "does not answer any more"),
        (("fault", NO_JSON), 1, "Expecting value"),
    ],
)
def test_an_error_is_tried_again_so_often_then_counted_and_never_a_score(
    tmp_path, fault, tries, told
):
    folder = evaluation(tmp_path / "e", number=3)
    well = False

    def script(prompt, before):
        if not well and number_of(prompt) == 1 and is_reference_first(prompt):
            return fault
        return fair(prompt, before)

    with served(script) as (address, judge):
        held = judged(folder, address)
        assert (held.asked, held.failed, held.unreadable) == (6, 1, 0)
        assert told in held.why
        assert len(judge.prompts) == 5 + tries
        row = rows_of(folder)[f"judged/{NAME}"]
        assert (row["value"], row["n"], row["judge_failed"], row["unreadable"]) == (5.5, 2, 1, 0)
        assert row["lowest"] == pytest.approx((5.5 + 5.5 + (5 + 1) / 2) / 3)
        well = True
        assert dataclasses.asdict(judged(folder, address)) | {"why": ""} == {
            "model": NAME, "calls": 6, "asked": 1, "unreadable": 0, "failed": 0, "why": ""
        }  # fmt: skip
    assert rows_of(folder)[f"judged/{NAME}"]["n"] == 3


def test_two_500s_and_then_a_reply_are_a_reply(tmp_path):
    folder = evaluation(tmp_path / "e", number=2)
    with served(lambda prompt, before: 500 if before < 2 else fair(prompt, before)) as (address, _):
        assert judged(folder, address).failed == 0
    assert rows_of(folder)[f"judged/{NAME}"]["value"] == 5.5


def test_a_server_that_goes_stops_the_stage_and_no_call_is_repeated(tmp_path):
    folder, whole = (evaluation(tmp_path / name, number=8) for name in ("e", "whole"))

    def dying(prompt, before):
        return ("fault", GONE) if len(first.prompts) > 7 else fair(prompt, before)

    with served(dying) as (address, first):
        with pytest.raises(ConnectionError, match=r"--judge: .* does not answer any more"):
            judged(folder, address)
        with pytest.raises(ValueError, match=r"--judge: .* does not list its models"):
            judged(folder, address)
    known = lines(folder)
    assert 5 <= len(known) <= 7  # of three at once
    row = rows_of(folder)[f"judged/{NAME}"]
    assert (row["value"], row["reference"], row["lowest"], row["n"]) == (None, None, None, 0)
    assert "low" not in row
    assert row["unjudged"] >= 1
    with served(fair) as (address, second):
        by = Judge.of(address)
        assert judge_stage.judge(folder, by, 3).asked == 16 - len(known)
        assert len(second.prompts) == 16 - len(known)
        assert judge_stage.judge(folder, by, 3).asked == 0
        judged(whole, address)
    assert lines(folder)[: len(known)] == known
    for one in (folder, whole):  # the server is not needed
        rows_of(one)
    assert (folder / "evaluation.json").read_bytes() == (whole / "evaluation.json").read_bytes()
    assert (folder / "summary.json").read_bytes() == (whole / "summary.json").read_bytes()
    evaluation(tmp_path / "more", number=9)
    with pytest.raises(ConnectionError, match="refused"):
        judge_stage.judge(tmp_path / "more", by, 3)
    assert lines(tmp_path / "more") == []


def test_a_reply_is_on_the_disk_before_the_next_call(tmp_path):
    folder, kept = evaluation(tmp_path / "e"), []

    def script(prompt, before):
        kept.append(len(lines(folder)))
        return fair(prompt, before)

    with served(script) as (address, _):
        judge_stage.judge(folder, Judge.of(address), 1)
    assert kept == list(range(12))


def lines(folder):
    return log_of(folder, NAME).read_bytes().splitlines(keepends=True)


def test_a_torn_log_is_mended(tmp_path):
    """As a process leaves it that is killed while it writes."""
    folder = evaluation(tmp_path / "e")
    with served(fair) as (address, judge):
        judged(folder, address)
        expected = rows_of(folder)
        known = lines(folder)
        for kept, torn in ((0, 9), (5, 1), (11, 40)):
            log_of(folder, NAME).write_bytes(b"".join(known[:kept]) + known[kept][:torn])
            judge.prompts.clear()
            assert judged(folder, address).asked == len(judge.prompts) == 12 - kept
            assert rows_of(folder) == expected


def test_a_server_that_only_fails_stops_the_stage(tmp_path):
    folder = evaluation(tmp_path / "e", number=40)
    with served(lambda prompt, before: 400) as (address, judge):
        with pytest.raises(ConnectionError, match=r"10 calls failed one after another.* too much"):
            judged(folder, address)
        assert len(judge.prompts) < 20
        seen = set(judge.prompts)
        with pytest.raises(ConnectionError, match="10 calls failed"):
            judged(folder, address)
    assert not seen & set(judge.prompts[len(seen) :][:10])  # others first, so that it gets on


def test_what_changes_is_judged_anew_and_each_judge_has_its_rows(tmp_path):
    folder = evaluation(tmp_path / "e")
    with served(fair) as (address, judge):
        judged(folder, address)
        file = AnswerFile(path_of(folder, 1, 2))
        file.put(Answered("k6", "said after all", STOP))
        file.close()
        assert rows_of(folder)[f"judged/{NAME}"]["unjudged"] == 1
        assert judged(folder, address).asked == 2
        other = judge_stage.judge(folder, Judge.of(address, "other"), 2)
        assert (other.model, other.asked) == ("other", 14)
        assert {body["model"] for body in judge.bodies[-14:]} == {"other"}
    rows = rows_of(folder)
    assert rows["judged/other"]["value"] == rows[f"judged/{NAME}"]["value"] == 5.5
    assert rows["judged/other"]["n"] == 7


def test_two_do_not_write_one_log(tmp_path):
    folder = evaluation(tmp_path / "e")
    file = AnswerFile(log_of(folder, NAME))
    with (
        served(fair) as (address, judge),
        pytest.raises(OSError, match="another process writes it"),
    ):
        judged(folder, address)
    file.close()
    assert not judge.prompts


def test_two_models_are_compared_by_the_same_judge(tmp_path):
    folders = [evaluation(tmp_path / name, 60, f"{name} {{}}") for name in ("a", "b")]

    def script(prompt, before):
        mine = 7 if "]\nb " in prompt else 5
        return f"9 {mine}" if is_reference_first(prompt) else f"{mine} 9"

    with served(script) as (address, _):
        for folder in folders:
            judged(folder, address)
    table = compare_stage.comparison(*folders, tmp_path / "compared", OPTIONS)
    cells = [next(iter(column.cells)) for column in table.columns]
    assert f"Judged by {NAME}" in str(cells[1])
    assert [str(cell) for cell in cells[2:5]][:2] == ["5", "7"]


@pytest.mark.parametrize("address", ["127.0.0.1:8000", "", "file:///etc/passwd"])
def test_what_is_no_address_is_refused(address):
    with pytest.raises(ValueError, match=r"--judge: .* is no address; one is such as http://"):
        Judge.of(address)


@pytest.mark.parametrize("address", ["http://10.0.0.5:8000/v1", "https://judge.example/v1"])
def test_answers_leave_the_machine_only_if_they_may(address, monkeypatch):
    with pytest.raises(ValueError, match=r"--judge: .* is not on this machine.*may_be_remote"):
        Judge.of(address)
    monkeypatch.setattr(openai_server.Server, "models", lambda self: {"far": ""})
    assert Judge.of(address, may_be_remote=True).model == "far"


@pytest.mark.parametrize(
    "address", ["http://localhost:1/v1", "http://[::1]:1/v1", "http://127.9.9.9:1/v1"]
)
def test_loopback_is_this_machine(address):
    assert openai_server.Server(address, "--judge", "", 1.0).is_loopback


def test_a_loopback_judge_is_asked_past_the_proxy_and_never_redirected(tmp_path, monkeypatch):
    monkeypatch.setenv("http_proxy", "http://127.0.0.1:9")
    folder = evaluation(tmp_path / "e", number=1)
    with served(fair) as (address, _):
        assert judged(folder, address).failed == 0
    folder = evaluation(tmp_path / "f", number=1)
    with served(lambda prompt, before: 302) as (address, judge):
        held = judged(folder, address)
    assert (held.failed, len(judge.prompts)) == (2, 2)
    assert held.why.startswith("status 302")


def test_mistakes_are_one_sentence(tmp_path):
    folder = evaluation(tmp_path / "e")
    with served(fair) as (address, judge):
        with pytest.raises(ValueError, match="--judge_model: 'none' is not served there; there is"):
            Judge.of(address, "none")
        with pytest.raises(FileNotFoundError, match="is no evaluation"):
            judged(tmp_path / "none", address)
        (folder / "answers-00000-of-00001.jsonl").write_bytes(b"")
        with pytest.raises(ValueError, match="has no answer for a judge"):
            judged(folder, address)
    assert not judge.prompts
