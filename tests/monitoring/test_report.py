"""report.html: whole, harmless, and holding what was put in."""

import base64
import html.parser
import io
import re

import numpy as np
import pytest
import soundfile

from qwen_audio_jax.monitoring.html_page import audio_type
from qwen_audio_jax.monitoring.report import Example, write_report

HOSTILE = (
    "<|en|></dd></style></title><script>alert('x')</script>"
    "<img src=http://x.invalid onerror=\"a\">' onfocus='b' &amp;{{ 7*7 }}{% raw %}{# gone #}"
)
METRICS = [{"step": s, "loss": 5 / (1 + s), "tokens_per_second": 900.0} for s in range(1, 40)]
EVALUATION = [
    {"task": "asr", "metric": "wer", "value": 0.25, "baseline": 1.0, "n": 1200},
    {
        "task": "language_identification",
        "metric": "accuracy",
        "value": 0.4,
        "baseline": 0.5,
        "n": 9,
    },
    {"task": "word_timestamps", "metric": "aas_ms", "value": None, "baseline": None, "n": 0},
]


def encoded(kind, seconds=0.5, rate=16_000, subtype=None):
    samples = 0.3 * np.sin(2 * np.pi * 440 * np.arange(int(seconds * rate)) / rate)
    out = io.BytesIO()
    soundfile.write(out, samples, rate, format=kind, subtype=subtype)
    return out.getvalue()


class Page(html.parser.HTMLParser):
    """Tags with their attributes, and the visible text."""

    def __init__(self, source):
        super().__init__()
        self.tags, self.text = [], ""
        self.feed(source)

    def handle_starttag(self, tag, attrs):
        self.tags.append((tag, dict(attrs)))

    def handle_data(self, data):
        self.text += data

    def attributes(self, tag, name):
        return [attributes.get(name) for found, attributes in self.tags if found == tag]


def report(path, **changes):
    content = {
        "title": "A run",
        "run_info": {"model": "tiny", "parameters": 1_234_567},
        "metrics": METRICS,
        "evaluation": EVALUATION,
        "examples": [],
    }
    write_report(path, **(content | changes))
    return path.read_text(encoding="utf-8")


@pytest.fixture(scope="module")
def examples():
    return [
        Example("asr", HOSTILE, HOSTILE, [encoded("FLAC")], HOSTILE, HOSTILE),
        Example("language_identification", "b", "Which?", [encoded("WAV")], "en", "<|en|>en"),
        Example("language_identification", "c", "Which?", [encoded("OGG")], "en", "de"),
        Example("speaker_verification", "d", "Same?", [encoded("MP3"), b"broken"], "same", ""),
        Example("no_such_task", "e", "", [], "", "\x00\udcff\u202eabc"),
    ]


def test_report_is_self_contained_and_harmless(tmp_path, examples):
    source = report(tmp_path / "report.html", title=HOSTILE, examples=examples)
    page = Page(source)
    assert "script" not in {tag for tag, _ in page.tags}
    assert not {tag for tag, _ in page.tags} & {"link", "iframe", "object", "embed", "base", "form"}
    for _, attributes in page.tags:
        assert not [name for name in attributes if name.startswith("on")]
        assert attributes.get("src", "data:").startswith("data:")
        assert attributes.get("href", "#").startswith("#")
    assert "http" not in source.replace("http://x.invalid", "")
    assert not re.search(r"@import|url\((?!#)", source)


def test_text_stays_text_wherever_it_stands(tmp_path):
    def page_of(text):
        return Page(
            report(
                tmp_path / "report.html",
                title=text,
                run_info={text: text, "nested": {text: [text]}},
                evaluation=[{"task": text, "metric": text, "value": 1.0, "baseline": 2.0, "n": 1}],
                examples=[Example(text, text, text, [encoded("FLAC"), b"broken"], text, text)],
            )
        )

    page, harmless = page_of(HOSTILE), page_of("<|en|>harmless")
    assert [(tag, list(attributes)) for tag, attributes in page.tags] == [
        (tag, list(attributes)) for tag, attributes in harmless.tags
    ]
    # Twice the title, four facts, two cells, and task, id and three texts of the example.
    assert page.text.count(HOSTILE) == 2 + 4 + 2 + 5
    values = [value for _, attributes in page.tags for value in attributes.values()]
    # The picture's alt and title, the labels of two players.
    assert sum(HOSTILE in value for value in values if value) == 2 + 2


def test_all_examples_are_present_and_texts_survive(tmp_path, examples):
    page = Page(report(tmp_path / "report.html", examples=examples))
    assert page.attributes("article", "class") == [None] * len(examples)
    assert page.text.count(HOSTILE) == 4  # id, prompt, reference, answer
    assert page.text.count("✓ right") == 1
    assert page.text.count("✗ wrong") == 2  # not for open answers
    assert "This clip could not be decoded" in page.text
    assert "(empty)" in page.text


def test_audio_comes_back_byte_for_byte(tmp_path, examples):
    page = Page(report(tmp_path / "report.html", examples=examples))
    clips = [clip for example in examples for clip in example.clips]
    sources = page.attributes("audio", "src")
    assert [base64.b64decode(s.split(",", 1)[1]) for s in sources] == clips
    kinds = ["audio/flac", "audio/wav", "audio/ogg", "audio/mpeg", "application/octet-stream"]
    assert [re.match("data:([^;]+);base64,", s).group(1) for s in sources] == kinds


def test_pictures_have_alternative_text(tmp_path, examples):
    page = Page(report(tmp_path / "report.html", examples=examples))
    pictures = page.attributes("img", "alt")
    assert len(pictures) == 4
    assert all("Log-mel spectrogram" in alt and "0.50 s" in alt for alt in pictures)
    assert len(page.attributes("svg", "aria-label")) == 2
    assert all(page.attributes("svg", "aria-label"))


def test_table_shows_people_units_and_the_right_direction(tmp_path):
    source = report(tmp_path / "report.html")
    text = Page(source).text
    for shown in ("25.0 %", "100.0 %", "40.0 %", "1,200", "1,234,567"):
        assert shown in text
    assert 'value better">25.0 %' in source  # a lower WER
    assert 'value worse">40.0 %' in source


@pytest.mark.parametrize(
    "metrics",
    [
        [],
        [{"step": 1, "loss": 2.0}],
        [{"step": 1, "loss": float("nan")}, {"step": 2, "loss": None}, {"other": 1}],
        [{"step": 2, "loss": 2.0}, {"step": 1, "loss": 3.0}, {"step": 2, "loss": 1.0}],
    ],
)
def test_short_and_broken_histories_still_make_a_report(tmp_path, metrics):
    assert report(tmp_path / "report.html", metrics=metrics, evaluation=[], run_info={})


def test_a_long_table_is_folded_and_whole(tmp_path):
    by_language = [EVALUATION[0] | {"metric": f"wer/{a}{b}"} for a in "abcdefg" for b in "abcdefg"]
    page = Page(report(tmp_path / "r.html", evaluation=[*EVALUATION, *by_language]))
    assert [tag for tag, _ in page.tags].count("details") == 1
    assert [tag for tag, _ in page.tags].count("tr") == 2 + len(EVALUATION) + len(by_language)
    assert "49 more: losses by task, scores by language" in page.text
    assert "details" not in [tag for tag, _ in Page(report(tmp_path / "r.html")).tags]


def test_later_line_of_a_step_wins(tmp_path):
    metrics = [{"step": 1, "loss": 9.0}, {"step": 2, "loss": 8.0}, {"step": 1, "loss": 7.0}]
    assert "7 at step 1," in Page(report(tmp_path / "report.html", metrics=metrics)).text


def test_the_held_out_losses_are_on_the_curve_of_the_loss(tmp_path):
    found = {4: (3.0, 3.5), 20: (2.0, 2.75), 39: (2.25, 3.25)}
    names = ("validation_loss", "validation_loss_another_clip")
    metrics = [row | dict(zip(names, found.get(row["step"], ()), strict=False)) for row in METRICS]
    with_marks, without = (report(tmp_path / "r.html", metrics=rows) for rows in (metrics, METRICS))
    said, other = Page(with_marks).attributes("svg", "aria-label")
    assert said.endswith(
        "; held-out loss: 2.25 at step 39, 2 at step 20, where it was lowest"
        "; held-out loss, another clip: 3.25 at step 39, 2.75 at step 20, where it was lowest"
    )
    assert "held-out" not in other + without
    # Three points of each inside the axes, one line dashed, and both in the legend.
    (loss, _) = re.findall(r"<svg.*?</svg>", with_marks, re.S)
    (plain, _) = re.findall(r"<svg.*?</svg>", without, re.S)
    points = re.findall(r"<g clip-path=[^>]*>\s*((?:<use [^>]*>\s*)+)", loss)
    assert [group.count("<use ") for group in points] == [3, 3]
    assert loss.count("stroke-dasharray") > plain.count("stroke-dasharray")
    texts = re.findall(r"<text[^>]*>([^<]*)<", loss)
    assert {"held-out loss", "held-out loss, another clip"} <= set(texts)


def test_a_run_on_pairs_shows_what_it_prefers(tmp_path):
    told = {"accuracy": 0.75, "margin": 0.5, "reward_chosen": 0.1}
    told |= {"log_probability_chosen": -8.0, "log_probability_rejected": -9.5}
    pair = Example("preference", "p", "What?", [], "A bell.", "A horn.", rejected="A horn, too.")
    rows = [row | told for row in METRICS]
    source = report(tmp_path / "r.html", metrics=rows, examples=[pair])
    said = Page(source).attributes("svg", "aria-label")
    assert [one.partition(":")[0] for one in said] == [
        "training loss",
        "tokens per second",
        "margin of rewards",
        "share of pairs preferred rightly",
        "log-probability of chosen answers",
        "log-probability of rejected answers",
    ]
    assert "-9.5 at step 1" in said[-1]
    (card,) = re.findall(r"<article>.*?</article>", source, re.DOTALL)
    assert re.findall(r"<dt>(.*?)</dt><dd[^>]*>(.*?)</dd>", card)[1:] == [
        ("Reference", "A bell."),
        ("Rejected", "A horn, too."),
        ("Answer", "A horn."),
    ]


def test_a_failed_report_leaves_the_old_one(tmp_path, monkeypatch):
    before = report(tmp_path / "report.html")

    def full_disk(*_):
        raise OSError("no space left")

    monkeypatch.setattr("os.replace", full_disk)
    with pytest.raises(OSError, match="no space"):
        report(tmp_path / "report.html", title="new")
    assert (tmp_path / "report.html").read_text(encoding="utf-8") == before
    assert [path.name for path in tmp_path.iterdir()] == ["report.html"]


def test_silence_stereo_and_very_short_clips_are_drawn(tmp_path):
    silence, stereo, short = io.BytesIO(), io.BytesIO(), io.BytesIO()
    soundfile.write(silence, np.zeros(8000), 8000, format="WAV")
    soundfile.write(stereo, np.ones((44100, 2)) * 0.1, 44100, format="FLAC")
    soundfile.write(short, np.ones(3) * 0.1, 16000, format="WAV")
    clips = [clip.getvalue() for clip in (silence, stereo, short)]
    page = Page(report(tmp_path / "r.html", examples=[Example("asr", "a", "", clips, "", "")]))
    assert len(page.attributes("img", "alt")) == 3


def test_audio_type_by_content():
    assert audio_type(b"") == audio_type(b"ID3\x04") == "application/octet-stream"
    assert audio_type(b"\0\0\0\x20ftypM4A \0\0\0\0") == "audio/mp4"
    assert audio_type(b"\x1a\x45\xdf\xa3") == "audio/webm"


def test_a_conversation_is_shown_turn_by_turn(tmp_path):
    heard, written = {"type": "audio"}, {"type": "text", "text": HOSTILE}
    messages = [
        {"role": "system", "content": "Be brief."},
        {"role": "user", "content": [heard, written, heard]},
        {"role": "assistant", "content": "A bell."},
        {"role": "user", "content": [heard]},
        {"role": "assistant", "content": "Kept out.", "loss": False},
        {"role": "user", "content": "Why?"},
        {"role": "assistant", "content": "No idea."},
    ]
    clips = [encoded("FLAC", seconds=0.5 + number / 10) for number in range(3)]
    talk = Example("chat", "t", "", clips, "A bell.", "", messages, {3: "a bell", 7: HOSTILE})
    source = report(tmp_path / "report.html", examples=[talk])
    (card,) = re.findall(r"<article>.*?</article>", source, re.DOTALL)
    page = Page(card)
    roles = re.findall(r"<dt[^>]*>(.*?)</dt>", card)
    assert roles == [
        *("system", "user", "assistant", "✓ model"),
        *("user", "assistant", "user", "assistant", "✗ model"),
    ]
    first, second = re.findall(r"<dt>user</dt>(.*?)</dd>", card, re.DOTALL)[:2]
    assert (first.count("<audio "), second.count("<audio ")) == (2, 1)
    # Players stand where the message has its clips, around the text.
    assert first.index("<audio ") < first.index("alert(") < first.rindex("<audio ")
    stored = [base64.b64decode(src.partition(",")[2]) for src in page.attributes("audio", "src")]
    assert stored == clips
    assert page.text.count(HOSTILE) == 2
    assert "<script>" not in card
    assert page.text.index("A bell.") < page.text.index("a bell") < page.text.index("Kept out.")


def test_the_table_has_what_was_before(tmp_path):
    before = [row | {"before": 0.75 if row["value"] else None} for row in EVALUATION]
    source = report(tmp_path / "report.html", evaluation=before)
    assert ">Before</th>" in source
    assert source.count('<td class="num dim">75.0 %</td>') == 2
    assert ">Before</th>" not in report(tmp_path / "report.html")
