"""Times and speakers against scorers that others wrote: their recorded values, and called here.

`tests/golden/README.md` names the recorded ones. mir_eval and simpleder come with `[parity]`.
"""

import json
import pathlib

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from qwen_audio_jax.metrics import Answer, score
from qwen_audio_jax.tasks import labels

GOLDEN = pathlib.Path(__file__).parents[1] / "golden"
parity = pytest.mark.parity


def recorded(name):
    return json.loads((GOLDEN / f"{name}.json").read_text())["sets"]


def values(task, *answers):
    return {row["metric"]: row["value"] for row in score(task, list(answers))}


def turns_of(listed):
    return [{"speaker": name, "start": a, "end": b} for name, a, b in listed]


def events_of(listed):
    return [{"event": name, "start": a, "end": b} for name, a, b in listed]


def der(reference, hypothesis):
    said = labels.timed_turns({"turns": turns_of(hypothesis)}).format(turns=turns_of(hypothesis))
    return values("speaker_diarization", Answer({"turns": turns_of(reference)}, said))["der"]


def event_answer(reference, hypothesis):
    found = events_of(hypothesis)
    said = labels.timed_events({"events": found}).format(events=found)
    return Answer({"events": events_of(reference)}, said)


def test_diarization_error_as_spyder_and_pyannote_have_it():
    sets = recorded("diarization")
    assert len(sets) == 200
    for one in sets:
        ours = der(one["reference"], one["hypothesis"])
        assert ours == pytest.approx(one["pyannote"], abs=1e-9)
        assert ours == pytest.approx(one["spyder"], abs=1e-9)
    # Of spy-der's README, and by hand: 2.9 s of 5.1 s.
    assert 100 * der(sets[0]["reference"], sets[0]["hypothesis"]) == pytest.approx(56.86, abs=0.005)


def test_a_sets_diarization_error_is_of_sums():
    sets = recorded("diarization")
    answers = []
    for one in sets:
        found = turns_of(one["hypothesis"])
        said = labels.timed_turns({"turns": found}).format(turns=found)
        answers.append(Answer({"turns": turns_of(one["reference"])}, said))
    speech = np.array([one["speech"] for one in sets])
    expected = (speech * [one["pyannote"] for one in sets]).sum() / speech.sum()
    assert values("speaker_diarization", *answers)["der"] == pytest.approx(expected, abs=1e-9)


def test_permutation_wer_as_meeteval_has_it():
    sets = recorded("overlapped_speech")
    assert len(sets) == 200
    answers = [
        Answer({"texts": one["texts"], "language": "en"}, "<|delim|>".join(one["found"]))
        for one in sets
    ]
    for one, answer in zip(sets, answers, strict=True):
        found = values("overlapped_speech_recognition", answer)["wer"]
        assert found == pytest.approx(one["errors"] / one["words"])
    errors, words = (sum(one[name] for one in sets) for name in ("errors", "words"))
    found = values("overlapped_speech_recognition", *answers)["wer"]
    assert found == pytest.approx(errors / words)


def test_event_f1_as_sed_eval_has_it():
    sets = recorded("sound_events")
    assert len(sets) == 200
    answers = [event_answer(one["events"], one["found"]) for one in sets]
    for of, each in (([one], [answer]) for one, answer in zip(sets, answers, strict=True)):
        assert_event_f1(of, each)
    assert_event_f1(sets, answers)


def assert_event_f1(sets, answers):
    found = values("sound_event_detection", *answers)
    events = sum(len(one["events"]) + len(one["found"]) for one in sets)
    for rule in ("onset", "onset_offset"):
        matched = sum(one[rule] for one in sets)
        assert found[f"event_f1_{rule}"] == pytest.approx(2 * matched / events)


tenths = st.integers(0, 60).map(lambda n: n / 10)
lengths = st.integers(1, 40).map(lambda n: n / 10)
turns = st.lists(
    st.tuples(st.sampled_from("ABCD"), tenths, lengths).map(
        lambda turn: (turn[0], turn[1], round(turn[1] + turn[2], 1))
    ),
    min_size=1,
    max_size=6,
)


@parity
@given(turns, turns)
def test_diarization_error_is_simpleders(reference, hypothesis):
    simpleder = pytest.importorskip("simpleder")
    assert der(reference, hypothesis) == pytest.approx(simpleder.DER(reference, hypothesis))


@parity
@given(turns, turns, st.sampled_from([0, 95, 3000]))
def test_shared_time_is_simpleders_of_one_speaker(wanted, found, start):
    """The Jaccard error rate of one speaker is what the intersection over union lacks to 1."""
    simpleder = pytest.importorskip("simpleder")
    wanted, found = (
        [("x", start + a, round(start + b, 1)) for _, a, b in side] for side in (wanted, found)
    )
    one, other = ([{"start": a, "end": b} for _, a, b in side] for side in (wanted, found))
    answer = Answer({"phrase": "x", "segments": one}, labels.segments({"segments": other}))
    iou = values("audio_grounding", answer)["iou"]
    assert iou == pytest.approx(1 - simpleder.JER(wanted, found))


def notes(listed):
    """Events as mir_eval has notes: intervals, and an octave for each label."""
    intervals = np.array([[a, b] for _, a, b in listed], float)
    return intervals, np.array([110.0 * 2 ** "abc".index(name) for name, *_ in listed])


def events_at(hundredths):
    return st.lists(
        st.tuples(st.sampled_from("abc"), hundredths, st.integers(1, 50)).map(
            lambda event: (event[0], event[1] / 100, (event[1] + 4 * event[2]) / 100)
        ),
        min_size=1,
        max_size=8,
    )


@parity
@given(
    events_at(st.integers(0, 50).map(lambda n: 4 * n)),
    # An odd hundredth is never as far away as half of a length: mir_eval does not round that half.
    events_at(st.integers(0, 100).map(lambda n: 2 * n + 1)),
)
def test_events_are_matched_as_mir_eval_matches_notes(reference, hypothesis):
    transcription = pytest.importorskip("mir_eval.transcription")
    found = values("sound_event_detection", event_answer(reference, hypothesis))
    for metric, share in (("event_f1_onset", None), ("event_f1_onset_offset", 0.5)):
        _, _, f1, _ = transcription.precision_recall_f1_overlap(
            *notes(reference),
            *notes(hypothesis),
            onset_tolerance=0.2,
            offset_ratio=share,
            offset_min_tolerance=0.2,
        )
        assert found[metric] == pytest.approx(f1)


@parity
@given(events_at(st.integers(0, 100)), events_at(st.integers(0, 100)))
def test_an_onset_on_the_collar_counts_as_in_mir_eval(reference, hypothesis):
    transcription = pytest.importorskip("mir_eval.transcription")
    _, _, f1, _ = transcription.precision_recall_f1_overlap(
        *notes(reference), *notes(hypothesis), onset_tolerance=0.2, offset_ratio=None
    )
    found = values("sound_event_detection", event_answer(reference, hypothesis))
    assert found["event_f1_onset"] == pytest.approx(f1)


@st.composite
def timed_words(draw):
    """Words that follow one another, two times for each boundary, and those that were heard."""
    count = draw(st.integers(1, 8))
    sides = [
        np.cumsum(draw(st.lists(st.integers(1, 90), min_size=count, max_size=count))) / 100
        for _ in range(2)
    ]
    return *sides, draw(st.lists(st.booleans(), min_size=count, max_size=count))


@parity
@given(st.lists(timed_words(), min_size=1, max_size=4))
def test_boundary_shift_is_mir_evals_of_the_words_that_were_heard(recordings):
    """Twice, as a start and an end are added up; words that were misheard have no part in it."""
    alignment = pytest.importorskip("mir_eval.alignment")
    answers, kept, weights = [], [], []
    for ends, said, heard in recordings:
        starts = np.array([0, *ends[:-1]])
        words = [
            {"word": f"w{n}", "start": a, "end": b}
            for n, (a, b) in enumerate(zip(starts, ends, strict=True))
        ]
        spoken = "".join(
            f"{'w' if right else 'x'}{n}<|{end:.2f}|>"
            for n, (end, right) in enumerate(zip(said, heard, strict=True))
        )
        answers.append(Answer({"words": words, "language": "en"}, spoken))
        heard = np.array(heard)
        if heard.any():
            sides = ((starts, np.array([0, *said[:-1]])), (ends, said))
            errors = [alignment.absolute_error(r[heard], h[heard])[1] for r, h in sides]
            kept.append(1000 * sum(errors))
            weights.append(heard.sum())
    expected = pytest.approx(np.average(kept, weights=weights), abs=1e-6) if kept else None
    assert values("word_timestamps", *answers)["aas_ms"] == expected


def test_a_boundary_shift_by_hand():
    """0.1 + 0.1 s of "hello" and 0.1 + 0 s of "world": 0.3 s over two units."""
    words = [
        {"word": "hello", "start": 0.0, "end": 0.5},
        {"word": "world", "start": 0.5, "end": 1.0},
    ]
    said = "<|sil|><|0.10|>hello<|0.60|>world<|1.00|>"
    found = values("word_timestamps", Answer({"words": words, "language": "en"}, said))
    assert found["aas_ms"] == pytest.approx(150)


def test_an_event_that_ends_within_half_of_its_length():
    """On either collar an end counts, and just past it no more."""
    for length, late, right in ((1.0, 0.5, 1), (1.0, 0.51, 0), (0.3, 0.2, 1), (0.3, 0.21, 0)):
        reference = [("bell", 1.0, 1.0 + length)]
        hypothesis = [("bell", 1.0, 1.0 + length + late)]
        found = values("sound_event_detection", event_answer(reference, hypothesis))
        assert found == {"event_f1_onset": 1, "event_f1_onset_offset": right}


@pytest.mark.parametrize("order", [1, -1])
def test_an_answer_that_fits_two_events_goes_where_both_are_found(order):
    """The first answer fits both events, the second the longer one alone."""
    reference = [("bell", 1.0, 2.0), ("bell", 1.1, 2.4)][::order]
    hypothesis = [("bell", 1.1, 2.3), ("bell", 1.0, 2.6)]
    found = values("sound_event_detection", event_answer(reference, hypothesis))
    assert found["event_f1_onset_offset"] == 1
