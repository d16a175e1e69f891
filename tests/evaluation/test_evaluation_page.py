"""The page of an evaluation: what its cards, filters and tables say."""

import re

import finished
import pytest

from qwen_audio_jax.evaluation import stages
from qwen_audio_jax.evaluation.page import edited

LONG = "a benchmark of people who like long names, <b>very</b> / long " * 8


@pytest.fixture(scope="module")
def page(tmp_path_factory):
    """Sixty transcripts of a benchmark and two questions of another, one clip failed."""
    items = [
        finished.item(n, f"number {n}", benchmark="my_list", gender="female" if n < 55 else "male")
        for n in range(60)
    ]
    items += [
        finished.item(n, "a cat", "audio_question_answering", LONG, choices=("a dog", "a cat"),
                      rule="token_set", own_words=True)
        for n in range(2)
    ]  # fmt: skip
    texts = [f"<|en|>number {n}" for n in range(60)]
    texts[3], texts[4] = None, "number <script>alert(1)</script>"
    folder = tmp_path_factory.mktemp("page") / "evaluation"
    plan = finished.plan_of(items, left_out=[(99, "no such file")])
    finished.write(folder, plan, finished.answers_of(items, [*texts, "a cat", "a dog"]))
    stages.score(folder, finished.OPTIONS)
    return (folder / "report.html").read_text()


def card(page, name):
    (found,) = [one for one in page.split("<article ")[1:] if f"· {name}<" in one]
    return found.partition("</article>")[0]


def test_why_there_is_no_answer_is_not_the_answer(page):
    failed = card(page, "0003")
    assert '<dt>no answer</dt><dd class="wrong">the server is on fire</dd>' in failed
    assert "<dt>answer</dt>" not in failed
    assert 'data-signs="failed"' in failed


def test_tables_part_names_at_underscores_and_no_words(page):
    table = page.partition("<h2>Scores</h2>")[2].partition("</table>")[0]
    assert re.search(r'<th scope="row">my_<wbr>list</th>', table)
    style = page.partition("<style>")[2].partition("</style>")[0]
    cells = [rule for rule in style.split("}") if re.search(r"\b(td|th)\b[^{]*{", rule)]
    assert any("td.words" in rule for rule in cells)
    assert not [rule for rule in cells if "overflow-wrap: anywhere" in rule]


def test_words_that_differ_are_marked_by_the_words_that_are_scored(page):
    wrong = card(page, "0004")
    assert 'data-verdict="wrong"' in wrong
    assert "number <del>4</del> <ins>&lt;script&gt;" in wrong
    assert "<script>alert" not in wrong
    assert 'data-verdict="right"' in card(page, "0005")
    assert edited("a b c", "a c", "en") == [("same", "a"), ("missing", "b"), ("same", "c")]
    assert edited("a", "a B.", "en") == [("same", "a"), ("added", "b.")]


def test_a_question_in_the_benchmarks_words_has_its_right_answer(page):
    cards = [one for one in page.split("<article ")[1:] if "long names" in one]
    assert [re.search('data-verdict="([^"]*)"', one)[1] for one in cards] == ["right", "wrong"]
    assert all('<dt>reference</dt><dd dir="auto">a cat</dd>' in one for one in cards)


def test_filters_offer_what_there_is(page):
    form = page[page.index('id="filters"') : page.index("</form>")]
    offered = {
        name: re.findall(r'<option value="([^"]+)"', options)
        for name, options in re.findall(r'<select name="(\w+)">(.*?)</select>', form, re.DOTALL)
    }
    assert len(offered.pop("benchmark")) == 2
    assert offered == {
        "task": ["asr", "audio_question_answering"],
        "verdict": ["right", "wrong"],
        "signs": ["failed", "empty", "truncated", "looping", "preamble", "wrong_language"],
    }


def test_tables_have_what_became_of_everything_and_slices(page):
    scores, slices = page[page.index("<h2>Scores") :], page[page.index("<h2>Slices") :]
    head = re.findall(r'<th scope="col"[^>]*>([^<]*)</th>', scores[: scores.index("</thead>")])
    assert head[:5] == ["Benchmark", "Task", "Metric", "Value", "Interval"]
    assert head[-4:] == ["Scored", "Unreadable", "Failed", "Left out"]
    first = re.findall(r'<td class="num[^>]*>([^<]*)</td>', scores[: scores.index("</tr>", 2000)])
    assert first[-4:] == ["59", "0", "1", "1"]
    assert "of 61 asked 59 scored, 0 unreadable, 1 failed, 1 left out" in page
    assert "female" in slices[: slices.index("</details>")]


def test_it_loads_nothing(page):
    assert not re.search(r'(?:src|href)="(?!data:)', page)
    assert "@import" not in page
