"""data_pipelines.inspect: a page that holds what the corpus holds; a sentence where it cannot."""

import ast
import dataclasses
import html.parser
import pathlib
import re
import runpy

import pytest
from conftest import tiny_config, tone_record, write_corpus

from data_pipelines import inspect
from data_pipelines.examples import Preprocessor
from data_pipelines.records import Record
from data_pipelines.shards import write_split
from qwen_audio_jax.models.parts import Parts, parts_of, write_parts
from qwen_audio_jax.parallel.sharding import make_mesh
from qwen_audio_jax.run_config import from_mapping
from qwen_audio_jax.tasks import KINDS
from qwen_audio_jax.text.tokenizer import load_tokenizer, train_sentencepiece
from qwen_audio_jax.training.start import open_data

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


HEARD, WRITTEN = {"type": "audio"}, {"type": "text", "text": "What <audio> & <|im_end|>?"}
TALK = [
    {"role": "user", "content": [HEARD, WRITTEN]},
    {"role": "assistant", "content": "A <b>bell</b>."},
    {"role": "user", "content": "And?"},
    {"role": "assistant", "content": "Nothing.", "loss": False},
    {"role": "user", "content": [WRITTEN, HEARD, HEARD]},
    {"role": "assistant", "content": "Noise."},
]


@pytest.mark.parametrize(
    ("flags", "learned"),
    [
        ((), {2: "A <b>bell</b>.<|im_end|>", 6: "Noise.<|im_end|>"}),
        (("--learn=last",), {6: "Noise.<|im_end|>"}),
        (("--learn_newline",), {2: "A <b>bell</b>.<|im_end|>\n", 6: "Noise.<|im_end|>\n"}),
    ],
)
def test_a_talk_is_shown_turn_by_turn_with_exactly_what_is_learned(tmp_path, flags, learned):
    clips = tuple(tone_record(number).audio[0] for number in range(3))
    record = Record("talk", "chat", clips, {"messages": TALK, "kind": "several_turns"})
    folder = tmp_path / "talks"
    folder.mkdir()
    write_split(folder, "train", [(record, (4000, 4160, 4320))])
    texts = [m["content"] for m in TALK if isinstance(m["content"], str)]
    tokenizer = train_sentencepiece(texts, [], folder / "tokenizer", pieces=16)
    assert inspect.main([f"--data={folder}", *flags]) == 0
    source = (folder / "inspect.html").read_text(encoding="utf-8")
    # The default system message, then those of the record, each with its players before its text.
    (card,) = re.findall(r"<article>.*?</article>", source, re.DOTALL)
    turns = re.split(r'<dt class="role">', card)[1:]
    roles = [turn.partition("<")[0] for turn in turns]
    assert roles == ["system", *(message["role"] for message in TALK)]
    assert [turn.count("<audio ") for turn in turns] == [0, 1, 0, 0, 0, 2, 0]
    given = {"learn": "last" if flags == ("--learn=last",) else "assistant"}
    given["learn_newline"] = flags == ("--learn_newline",)
    for family in ("qwen_audio", "qwen2_audio"):
        parts = [re.search(rf"<dt>{family}</dt><dd.*?>(.*?)</dd>", t, re.DOTALL)[1] for t in turns]
        marked = [Marked(part).marked for part in parts]
        assert {n: text for n, text in enumerate(marked) if text} == learned
        # And that is what bears the loss in training.
        preprocessor = Preprocessor(tokenizer, family, "tags", 16, "floor", **given)
        text = preprocessor.example(record).text
        assert tokenizer.decode(text.tokens[text.loss_weights > 0]) == "".join(marked)
        shown = "".join(Marked(part).text for part in parts)
        assert shown.count("What <audio> & <|im_end|>?") == 2
        assert shown.count("<|im_start|>") == 7


def tokens_of_pair(folder, record):
    """With both answers, as preference tuning has them in a row."""
    vocabulary = load_tokenizer(folder / "tokenizer")
    preprocessor = Preprocessor(vocabulary, "qwen2_audio", "tags", 16, "ceil", layout="branches")
    return len(preprocessor.example(record).text.tokens)


def test_the_plan_has_room_for_both_answers_of_a_pair(tmp_path, capsys):
    """Be they as long as they may."""
    asked = [{"role": "user", "content": "What?"}]
    said = {"messages": asked, "chosen": "No.", "rejected": "Noise " * 200}
    record, folder = Record("pair", "preference", (), said), tmp_path / "pairs"
    folder.mkdir()
    write_split(folder, "train", [(record, ())])
    train_sentencepiece(["Noise No. What?"], [], folder / "tokenizer", pieces=16)
    (_, tokens, _), _ = planned(capsys, f"--data={folder}")
    assert tokens >= tokens_of_pair(folder, record) > 200


def test_a_pair_is_shown_with_its_clips_and_both_answers_side_by_side(tmp_path):
    """Of the history nothing is marked, of each answer exactly what bears the loss."""
    said = {"chosen": "A <b>bell</b>.", "rejected": "Noise."}
    clips = tuple(tone_record(number).audio[0] for number in range(3))
    record = Record("pair", "preference", clips, {"messages": TALK[:-1], **said})
    folder = tmp_path / "pairs"
    folder.mkdir()
    write_split(folder, "train", [(record, (4000, 4160, 4320))])
    train_sentencepiece([*said.values(), "What?"], [], folder / "tokenizer", pieces=16)
    assert inspect.main([f"--data={folder}"]) == 0
    source = (folder / "inspect.html").read_text(encoding="utf-8")
    (card,) = re.findall(r"<article>.*?</article>", source, re.DOTALL)
    assert f"{tokens_of_pair(folder, record):,} tokens" in card
    turns, _, table = card.partition('<table class="pair">')
    assert turns.count("<audio ") == 3
    assert Marked(turns).marked == ""
    # What the answers follow on ends with the head of the assistant's message.
    roles = re.findall(r'<dt class="role">(\w+)<', turns)
    assert roles == ["system", *(message["role"] for message in TALK)]
    assert re.findall(r'<th scope="col" class="(?:right|wrong)">(\w+)<', table) == [*said]
    rows = re.findall(r"<th scope=.rowgroup.*?>(\w+)</th>(.*?)</tbody>", table, re.DOTALL)
    assert [family for family, _ in rows] == ["qwen_audio", "qwen2_audio"]
    for _, row in rows:
        cells = [Marked(cell).marked for cell in re.findall(r"<td.*?>(.*?)</td>", row, re.DOTALL)]
        assert cells == [f"{answer}<|im_end|>" for answer in said.values()]


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


@pytest.fixture(scope="module")
def start(tmp_path_factory):
    """A folder that a run may start from, with a vocabulary of single letters, and its decoder."""
    folder = tmp_path_factory.mktemp("start")
    tokenizer = train_sentencepiece(["xyz"], ["en"], folder / "tokenizer", pieces=8)
    model = tiny_config("qwen_audio")
    decoder = dataclasses.replace(model.decoder, vocab_size=tokenizer.vocab_size)
    write_parts(folder, parts_of(dataclasses.replace(model, decoder=decoder), 91))
    return folder


def planned(capsys, *arguments):
    """(the shapes of the largest row, what was counted in)."""
    assert inspect.main([*arguments, "--plan", "--batch_tokens=512"]) == 0
    out = capsys.readouterr().out
    shapes = ast.literal_eval(re.search(r"--config.data.shapes='(.*)'", out).group(1))
    return shapes[-1], re.search("counted in the vocabulary of .*", out).group()


def test_the_plan_counts_in_the_vocabulary_that_training_will_use(corpus, start, capsys):
    data = f"--data={corpus}"
    _, told = planned(capsys, data)
    size = load_tokenizer(corpus / "tokenizer").vocab_size
    assert f"{corpus / 'tokenizer'} ({size:,} tokens), conditioned by tags: that of" in told
    assert "whose mixture begins with this corpus; for one with --config.init_from=DIR, g" in told
    # Another vocabulary, which has no word of the corpus, makes longer texts.
    config = runpy.run_path(str(CONFIG))["get_config"]().to_dict()
    config["data"] |= {"root": str(corpus.parent), "mixture": {corpus.name: 1.0}}
    config["model"]["family"] = "qwen_audio"
    for option in ("--init_from", "--tokenizer"):
        shapes, told = planned(capsys, data, f"{option}={start}", "--family=qwen_audio")
        size = load_tokenizer(start / "tokenizer").vocab_size
        counted = f"counted in the vocabulary of {start}/tokenizer ({size:,} tokens), conditioned"
        assert told == f"{counted} by tags"
        # A run that starts there takes these rows, in that vocabulary.
        config["init_from"], config["data"]["shapes"] = str(start), (shapes,)
        data_of_run, _ = open_data(from_mapping(config), make_mesh(config["mesh"]))
        assert data_of_run.preprocessor.tokenizer.vocab_size == size
        assert not data_of_run.plan.window(0).too_large


def test_the_plan_says_so_where_a_start_has_no_vocabulary(corpus, tmp_path, capsys):
    write_parts(tmp_path, Parts(encoder=tiny_config("qwen2_audio").encoder))
    _, told = planned(capsys, f"--data={corpus}", f"--init_from={tmp_path}")
    assert f"{corpus / 'tokenizer'} (" in told
    assert told.endswith(f"begins with this corpus, since {tmp_path} has no decoder")


def test_the_plan_counts_prompts_of_ones_own(corpus, capsys):
    asked = [f"--data={corpus}", "--conditioning=prompts"]
    built_in, told = planned(capsys, *asked)
    assert "conditioned by prompts" in told
    long, _ = planned(capsys, *asked, f"--prompts={{'instrument_classification': ('{'x' * 90}',)}}")
    assert long[1] > built_in[1] + 48


def test_a_page_shows_prompts_of_ones_own(corpus, tmp_path):
    own = "--prompts={'instrument_classification': ('Which of the two?',)}"
    out = tmp_path / "page.html"
    assert inspect.main([f"--data={corpus}", f"--out={out}", own]) == 0
    text = Marked(out.read_text(encoding="utf-8")).text
    assert text.count("Which of the two?") == 2
    assert not any(one in text for one in KINDS["instrument_classification"].prompts)


def test_chosen_records_are_inspected_alone(corpus, capsys):
    assert inspect.main([f"--data={corpus}", "--tasks=asr"]) == 1
    assert "is of task 'asr'; it has instrument_classification (40)" in capsys.readouterr().err
    assert inspect.main([f"--data={corpus}", "--plan", "--tasks=instrument_classification"]) == 0
    assert inspect.main([f"--data={corpus}", "--languages=en,fr"]) == 1
    assert "no record of the train split is of language 'en'" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("option", "message"),
    [
        ("--prompts=asr", "prompts: must be a mapping"),
        ("--prompts={'asr': 'x'}", "prompts.asr: must be a tuple"),
        ("--prompts={'asr': ('<|en|>',)}", "prompts.asr[0]: <|en|> is spelled in it"),
        ("--prompts={'asr'", "prompts: must be a mapping"),
        ("--prompt_language=fr", "invalid choice"),
        ("--prompt_language=en", "change lengths with --conditioning=prompts"),
    ],
)
def test_prompts_that_cannot_be_used_are_refused(corpus, capsys, option, message):
    with pytest.raises(SystemExit, match="2"):
        inspect.main([f"--data={corpus}", "--plan", option])
    assert message in capsys.readouterr().err


def test_nonsense_is_refused_in_a_sentence(corpus, tmp_path, capsys):
    assert inspect.main([f"--data={tmp_path}"]) == 1
    assert "no corpus there; build one with" in capsys.readouterr().err
    assert inspect.main([f"--data={corpus}", f"--tokenizer={tmp_path}"]) == 1
    assert str(tmp_path) in capsys.readouterr().err
    assert inspect.main([f"--data={corpus}", f"--init_from={tmp_path}"]) == 1
    assert "is neither a run folder nor what convert import wrote" in capsys.readouterr().err
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
