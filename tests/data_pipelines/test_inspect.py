"""data_pipelines.inspect: a page that holds what the corpus holds; a sentence where it cannot."""

import ast
import html.parser
import pathlib
import re
import runpy

import pytest
from conftest import tone_record, write_corpus

from data_pipelines import inspect
from data_pipelines.records import Record
from data_pipelines.shards import write_split
from qwen_audio_jax.run_config import from_mapping
from qwen_audio_jax.tasks import KINDS

CONFIG = pathlib.Path(__file__).parents[2] / "configs" / "pretrain.py"


class Marked(html.parser.HTMLParser):
    """The text inside and outside of <mark>, and the tags."""

    def __init__(self, source):
        super().__init__()
        self.depth, self.marked, self.text, self.tags = 0, "", "", []
        self.feed(source)

    def handle_starttag(self, tag, attrs):
        self.depth += tag == "mark"
        self.tags.append((tag, dict(attrs)))

    def handle_endtag(self, tag):
        self.depth -= tag == "mark"

    def handle_data(self, data):
        self.text += data
        self.marked += data * bool(self.depth)


@pytest.fixture(scope="module")
def corpus(tmp_path_factory):
    folder = tmp_path_factory.mktemp("data") / "tones"
    write_corpus(folder, train=40, validation=6)
    return folder


def test_the_page_counts_the_corpus_and_marks_what_is_learned(corpus, capsys):
    assert inspect.main([f"--data={corpus}", "--examples=3"]) == 0
    assert str(corpus / "inspect.html") in capsys.readouterr().out
    source = (corpus / "inspect.html").read_text(encoding="utf-8")
    page = Marked(source)
    assert source.count("<audio ") == source.count("<article>") == 3
    assert all(
        attributes["src"].startswith("data:")
        for tag, attributes in page.tags
        if "src" in attributes
    )
    text = re.sub(r"\s*\n\s*", "", page.text)  # without the lines that tags are parted by
    for counted in ("records40", "test40", "instrument classification40"):
        assert counted in text
    # Each example: the answer after tags and after the prompt, and nothing of the question.
    shown = re.findall(r"(tone|noise)<\|endoftext\|>", page.marked)
    assert len(shown) == 6
    assert "<|startofanalysis|>" not in page.marked
    assert "<|startofanalysis|>" in page.text


def test_a_text_that_looks_like_markup_stays_text(tmp_path):
    hostile = "</dd></style><script>alert('x')</script>\" onerror='a' &amp;{{ 7*7 }}{% raw %}"
    folder = tmp_path / "<b>\"'&amp;{{ 7*7 }}"
    write_corpus(folder, train=0)
    clip = tone_record(0).audio[0]
    annotation = {"text": hostile, "language": "en", "source": hostile, "license": "CC0-1.0"}
    write_split(folder, "train", [(Record(hostile, "asr", (clip,), annotation), (4000,))])
    assert inspect.main([f"--data={folder}"]) == 0
    source = (folder / "inspect.html").read_text(encoding="utf-8")
    assert "<script>" not in source
    assert '<span class="tag">&lt;|en|&gt;</span>' in source
    page = Marked(source)
    assert page.text.count(f"{folder.name}, train") == 2  # title and heading
    assert page.text.count(hostile) == 4  # source, id, both conditionings
    assert page.marked.count(hostile) == 2
    assert {name for _, attributes in page.tags for name in attributes if name[:2] == "on"} == set()
    values = [value for _, attributes in page.tags for value in attributes.values()]
    assert sum(hostile in value for value in values if value) == 3  # alt, title, player's label


def test_the_plan_recommends_shapes_that_a_config_takes(corpus, capsys):
    assert inspect.main([f"--data={corpus}", "--plan", "--batch_tokens=512"]) == 0
    out = capsys.readouterr().out
    assert out.count("recommended") == 1
    value = re.search(r"--config.data.shapes='(.*)'", out).group(1)
    config = runpy.run_path(str(CONFIG))["get_config"]().to_dict()
    config["data"]["shapes"] = ast.literal_eval(value)
    assert len(from_mapping(config).data.row_shapes) == value.count("(") - 1


def test_the_plan_has_room_for_the_silence_behind_clips(corpus, capsys):
    arguments = [f"--data={corpus}", "--plan", "--batch_tokens=512"]
    assert inspect.main([*arguments, "--window=window"]) == 0
    value = re.search(r"--config.data.shapes='(.*)'", capsys.readouterr().out).group(1)
    assert all(frames >= 3004 for _, _, frames in ast.literal_eval(value))
    assert inspect.main([*arguments, "--window=clip+31s"]) == 1
    assert "'clip+31s' is none of clip, window, clip+1s (or another" in capsys.readouterr().err


def test_nonsense_is_refused_in_a_sentence(corpus, tmp_path, capsys):
    assert inspect.main([f"--data={tmp_path}"]) == 1
    assert "no corpus there; build one with" in capsys.readouterr().err
    assert inspect.main([f"--data={corpus}", f"--tokenizer={tmp_path}"]) == 1
    assert str(tmp_path) in capsys.readouterr().err
    assert inspect.main([f"--data={corpus}", f"--out={tmp_path}/no/page.html"]) == 1
    assert "no" in capsys.readouterr().err
    with pytest.raises(SystemExit):
        inspect.main([f"--data={corpus}", "--examples=0"])


def test_every_task_of_the_table_has_a_line():
    """Of a corpus of all tasks none may be hidden behind "and more"."""
    assert len(KINDS) < inspect._MOST_ROWS


@pytest.mark.parametrize(("hours", "told"), [(1234.5, "1,234.50"), (0.0123, "0.012"), (0, "0")])
def test_hours_of_small_corpora_are_told(hours, told):
    assert inspect._hours(hours) == told
