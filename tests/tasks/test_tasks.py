"""The table is whole, and every answer it teaches can be read back."""

import pathlib

import pytest
from hypothesis import given
from hypothesis import strategies as st

from qwen_audio_jax.rendering import render
from qwen_audio_jax.rendering.tasks_page import page
from qwen_audio_jax.tasks import CONDITIONINGS, TASKS, TEMPLATED, check_annotation
from qwen_audio_jax.tasks.fields import is_seen, without_stray

# The names that others rely on.
NAMES = {
    "speech": """asr speech_translation overlapped_speech_recognition dialect_speech_recognition
        word_timestamps dialect_identification language_identification speaker_gender
        emotion_recognition speaker_verification speaker_diarization entity_recognition
        keyword_spotting intent_classification slot_filling speaker_age
        vocal_sound_classification""",
    "sound": """audio_captioning sound_event_classification acoustic_scene_classification
        sound_event_detection audio_question_answering audio_grounding""",
    "music": """singer_identification music_emotion music_captioning instrument_classification
        note_analysis genre_classification music_recognition music_question_answering""",
}
SAID_BY_THE_PROMPT = {"language", "target_language", "question", "phrase"}

letters = st.one_of(
    st.characters(codec="utf-8", exclude_categories=("Cc", "Cs", "Zs", "Zl", "Zp")),
    st.sampled_from("<|>{}[]\"'\\,.:0/"),  # what parts an answer, and how it could be spelled
)


def texts(*forbidden: str) -> st.SearchStrategy[str]:
    """Words with single spaces between them, as a label is stored."""
    word = st.text(letters, min_size=1, max_size=8).filter(
        lambda w: not any(sign in w for sign in forbidden or ["<|"])
    )
    joined = st.lists(word, min_size=1, max_size=4).map(" ".join)
    return joined.filter(lambda t: is_seen(t) and t == without_stray(t))


names = texts(*'<,"')
# Of clips of up to 30 s, of longer ones, and just between two windows.
times = st.one_of(
    st.integers(0, 3000), st.integers(0, 9500), st.sampled_from([3000, 3001, 6000])
).map(lambda n: n / 100)


def units(key: str) -> st.SearchStrategy[list[dict]]:
    """Things with a time, in the order in which they begin; they may overlap."""
    unit = st.tuples(texts(), times, times).map(
        lambda u: {key: u[0], "start": min(u[1:]), "end": max(u[1:])}
    )
    return st.lists(unit, min_size=1, max_size=5).map(
        lambda found: sorted(found, key=lambda u: (u["start"], u["end"]))
    )


@st.composite
def pieces(draw, key: str = "") -> list[dict]:
    """Things one after another, with or without a pause between them."""
    found, clock = [], 0
    lengths = st.one_of(st.integers(1, 300), st.integers(1, 4000), st.just(3000))
    pauses = st.one_of(st.integers(0, 200), st.just(3000))
    for length, pause in draw(st.lists(st.tuples(lengths, pauses), min_size=1, max_size=5)):
        start, end = clock + pause, clock + pause + length
        named = {key: draw(texts())} if key else {}
        found.append({**named, "start": start / 100, "end": end / 100})
        clock = end
    return found


FIELDS = {
    "text": texts(),
    "language": st.sampled_from(["en", "zh", "de"]),
    "target_language": st.sampled_from(["en", "zh", "de"]),
    "question": texts(),
    "phrase": texts(),
    "scenario": names,
    "action": names,
    "instrument": texts(*'<"'),
    "pitch": st.integers(0, 127),
    "velocity": st.integers(0, 127),
    "qualities": st.lists(names, max_size=3),
    "texts": st.lists(texts(), min_size=2, max_size=6),
    "entities": st.lists(
        st.fixed_dictionaries({"type": names, "value": texts()}), min_size=1, max_size=4
    ),
    "words": pieces("word"),
    "events": units("event"),
    "turns": units("speaker").filter(lambda found: any(u["end"] > u["start"] for u in found)),
    "segments": pieces(),
}


def test_the_table_has_all_names_in_their_groups():
    for group, words in NAMES.items():
        assert [name for name, row in TASKS.items() if row.group == group] == words.split()


@pytest.mark.parametrize("conditioning", CONDITIONINGS)
@pytest.mark.parametrize("task", TEMPLATED)
@given(data=st.data())
def test_an_answer_gives_its_annotation_back(task, conditioning, data):
    row = TEMPLATED[task]
    fields = (*row.fields, *row.optional)
    annotation = {field: data.draw(FIELDS[field], field) for field in fields}
    assert check_annotation(task, annotation, row.clips) == (annotation, ())
    _, answer = render(task, annotation, conditioning)
    read = row.parse("".join(span.tag or span.text for span in answer))
    told = {k: v for k, v in annotation.items() if v != [] and k not in SAID_BY_THE_PROMPT}
    if task == "asr" and conditioning == "prompts":
        told["language"] = annotation["language"]
    assert read == told


def test_a_time_after_30_s_counts_the_windows_before_it():
    events = [
        {"event": "bell", "start": 29.5, "end": 30.0},
        {"event": "siren", "start": 65.2, "end": 90},
    ]
    _, answer = render("sound_event_detection", {"events": events[:1]}, "tags")
    assert "".join(span.tag or span.text for span in answer) == "<|29.50|>bell<|30.00|>"
    _, answer = render("sound_event_detection", {"events": events}, "tags")
    assert "".join(span.tag or span.text for span in answer) == (
        "<|29.50|>bell<|30.00|><|0.00|>"
        "<|30.00|><|30.00|><|5.20|>siren<|30.00|><|30.00|><|30.00|><|0.00|>"
    )


def test_two_tasks_never_look_the_same_before_the_answer():
    """Else a model cannot know which of the two is meant; questions ask in words."""
    layouts = {name: row.tags for name, row in TEMPLATED.items()}
    layouts.pop("music_question_answering")
    assert len(set(layouts.values())) == len(layouts)
    # One example: identifying a keyword in English is not identifying the language.
    annotation = {"text": "x", "language": "unknown"}
    assert render("keyword_spotting", annotation, "tags") != render(
        "language_identification", annotation, "tags"
    )
    wordings = [w for row in TASKS.values() for w in row.prompts if w != "{question}"]
    assert len(set(wordings)) == len(wordings)


def test_every_task_is_asked_in_several_wordings_and_languages():
    for name, row in TASKS.items():
        assert len(row.prompts) >= 4, name
        chinese = [w for w in row.prompts if any("\u4e00" <= c <= "\u9fff" for c in w)]
        assert 0 < len(chinese) < len(row.prompts) - 1, name


def test_the_page_of_tasks_is_up_to_date():
    written = pathlib.Path(__file__).parents[2] / "docs" / "tasks.md"
    assert written.read_text(encoding="utf-8") == page()
