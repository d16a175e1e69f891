"""The engine answers each request as `generate` answers it alone, whoever else is answered."""

import pathlib
import tempfile
import threading

import numpy as np
import pytest
from conftest import on_eight_devices
from tiny_loaded import plain_ids, tiny_loaded, tone

from qwen_audio_jax.inference import answers
from qwen_audio_jax.inference.conversation import prompt_of
from qwen_audio_jax.inference.engine import Closed, Engine, EngineConfig, QueueFull, Request
from qwen_audio_jax.inference.sampling import GREEDY, Sampling

SAMPLED = Sampling(temperature=1.0, top_k=50, top_p=0.95, repetition_penalty=1.2)
CONFIG = EngineConfig(slots=3, lengths=(64, 192, 512), group=4, waiting=20)
NEVER = (0,)


@pytest.fixture(
    scope="module", params=[pytest.param("qwen_audio", marks=pytest.mark.slow), "qwen2_audio"]
)
def loaded(request, tmp_path_factory):
    return tiny_loaded(request.param, tmp_path_factory.mktemp("vocabulary"))


@pytest.fixture(scope="module")
def engine(loaded):
    made = Engine(loaded, CONFIG)
    yield made
    made.close()


def asked(loaded, number, *, clips=0, sampling=GREEDY, new=12, stop=NEVER, talk="", more=""):
    content = [{"type": "audio"}] * clips + [{"type": "text", "text": f"What {number}?{more}"}]
    waves = [tone(10 * number + clip) for clip in range(clips)]
    example = prompt_of(loaded, [{"role": "user", "content": content}], waves)
    return Request(example, stop, new, sampling, number, talk)


def test_each_is_answered_as_alone(loaded, engine):
    """Eight requests on three slots: of one or more pieces, greedy and sampled, 0 to 2 clips."""
    long = " What do you hear?" * 12
    requests = [
        asked(loaded, n, clips=n % 3, sampling=(GREEDY, SAMPLED)[n % 2], more=long * (n % 4 == 1))
        for n in range(8)
    ]
    running = [engine.submit(request) for request in requests]
    ids = [list(answer) for answer in running]
    for request, answer, written in zip(requests, running, ids, strict=True):
        assert written == answer.ids == plain_ids(loaded, request)
        assert answer.finish == "length"
        assert answer.usage.reused_tokens == 0
        assert answer.usage.clips_encoded == len(request.example.clips)
        assert 0 < answer.usage.first_token_seconds <= answer.usage.seconds
    assert len({tuple(written) for written in ids}) > 5
    # The same company or none: the same bits, so the same ids.
    assert [list(engine.submit(request)) for request in requests] == ids


def test_a_greedy_engine_reads_all_prompts_first_and_answers_alike(loaded):
    config = EngineConfig(slots=3, lengths=(64, 192), group=4, waiting=20, read=4096, greedy=True)
    greedy = Engine(loaded, config)
    try:
        requests = [asked(loaded, n, clips=n % 2) for n in range(4)]
        for request, answer in [(one, greedy.submit(one)) for one in requests]:
            assert list(answer) == plain_ids(loaded, request)
        with pytest.raises(ValueError, match=r"sampling: Sampling.* is not greedy"):
            greedy.submit(asked(loaded, 0, sampling=SAMPLED))
    finally:
        greedy.close()


def test_an_answer_ends_before_its_stop(loaded, engine):
    free = list(engine.submit(asked(loaded, 1)))
    stop = (free[5], free[9])
    request = asked(loaded, 1, stop=stop)
    answer = engine.submit(request)
    assert list(answer) == free[: free.index(free[5])] == plain_ids(loaded, request)
    assert answer.finish == "stop"


def test_nothing_is_reused_but_in_its_talk(loaded, engine):
    """The same prompt, clip and all, is read anew by whoever else asks."""
    reused = []
    for talk in ("", "", "one", "two", "one", "", "two"):
        answer = engine.submit(asked(loaded, 2, clips=1, talk=talk))
        answer.wait()
        reused.append((answer.usage.reused_tokens, answer.usage.clips_encoded))
        assert answer.ids == plain_ids(loaded, asked(loaded, 2, clips=1))
    n = len(asked(loaded, 2, clips=1).example.text.tokens)
    assert reused == [(0, 1), (0, 1), (0, 1), (0, 1), (n - 1, 0), (0, 1), (n - 1, 0)]


def test_other_sound_in_the_same_place_is_heard(loaded, engine):
    first, second = (asked(loaded, n, clips=1, talk="sound") for n in (3, 4))
    engine.submit(first).wait()
    text = second.example.text
    answer = engine.submit(second)
    answer.wait()
    assert answer.usage.reused_tokens == int(np.argmax(text.audio >= 0))
    assert answer.usage.clips_encoded == 1
    assert answer.ids == plain_ids(loaded, second)


def test_a_talk_that_asks_twice_at_once(loaded, engine):
    requests = [asked(loaded, n, clips=1, talk="twice", new=8) for n in (5, 6, 5)]
    running = [engine.submit(request) for request in requests]
    for request, answer in zip(requests, running, strict=True):
        assert list(answer) == plain_ids(loaded, request)


def test_what_is_cancelled_frees_its_slot(loaded, engine):
    begun = threading.Event()
    running = [engine.submit(asked(loaded, n, new=300)) for n in range(3)]
    running[2].on_ids(lambda ids, finish: begun.set())
    waits = [engine.submit(asked(loaded, 7)), engine.submit(asked(loaded, 8))]
    begun.wait()
    waits[1].cancel()
    running[1].cancel()
    assert list(waits[0]) == plain_ids(loaded, asked(loaded, 7))
    assert list(waits[1]) == []
    assert [waits[1].finish, running[1].finish] == ["cancelled", "cancelled"]
    assert len(running[1].ids) < 300
    for answer in running:
        answer.cancel()
        answer.wait()
    counted = engine.statistics()
    assert (counted.slots, counted.running, counted.waiting) == (3, 0, 0)


def test_ids_come_to_a_callback(loaded, engine):
    answer, told, ended = engine.submit(asked(loaded, 1)), [], threading.Event()

    def heard(ids, finish):
        told.append((ids, finish))
        if finish:
            ended.set()

    answer.on_ids(heard)
    ended.wait()
    # One who listens no longer harms nobody.
    deaf = engine.submit(asked(loaded, 2))
    deaf.on_ids(lambda ids, finish: 1 / 0)
    assert list(deaf) == plain_ids(loaded, asked(loaded, 2))
    assert [token for ids, _ in told for token in ids] == plain_ids(loaded, asked(loaded, 1))
    assert [finish for _, finish in told if finish] == ["length"]


def test_what_no_slot_can_hold_is_refused(loaded, engine):
    for change, said in (
        (dict(new=0), "one is the fewest"),
        (dict(new=512), "together 512 are the most"),
        (dict(stop=()), "stop: 0 ids"),
        (dict(stop=range(9)), "stop: 9 ids"),
    ):
        with pytest.raises(ValueError, match=said):
            engine.submit(asked(loaded, 1, **change))
    far = asked(loaded, 1)
    with pytest.raises(ValueError, match="seed: 2147483648 is no whole number of 32 bits"):
        engine.submit(Request(far.example, NEVER, 2, seed=1 << 31))
    whole = asked(loaded, 1, new=512 - len(far.example.text.tokens))
    answer = engine.submit(whole)
    answer.wait()
    assert answer.ids == plain_ids(loaded, whole)


def test_an_error_ends_what_is_answered_and_no_more(loaded, engine, monkeypatch):
    engine.submit(asked(loaded, 1, talk="lost")).wait()

    def breaks(*_):
        raise RuntimeError("out of\n memory")

    monkeypatch.setattr(engine._programs, "write", breaks)
    answer = engine.submit(asked(loaded, 2))
    answer.wait()
    assert (answer.finish, answer.ids) == (answers.FAILED, plain_ids(loaded, asked(loaded, 2))[:1])
    assert answer.error == "the answer could not be computed (out of memory)"
    with pytest.raises(RuntimeError, match="could not be computed"):
        list(answer)
    monkeypatch.undo()
    again = engine.submit(asked(loaded, 1, talk="lost"))
    assert list(again) == plain_ids(loaded, asked(loaded, 1))
    assert again.usage.reused_tokens == 0


def test_the_queue_and_its_end(loaded):
    engine = Engine(loaded, EngineConfig(slots=1, lengths=(512,), group=2, waiting=1))
    first = engine.submit(asked(loaded, 1, new=400))
    next(iter(first))
    second = engine.submit(asked(loaded, 2, new=4))
    with pytest.raises(QueueFull, match="1 requests are waiting already"):
        engine.submit(asked(loaded, 3))
    assert not engine.drain(0.01)
    with pytest.raises(Closed, match="takes no more requests"):
        engine.submit(asked(loaded, 3))
    first.cancel()
    assert engine.drain(60)
    assert list(second) == plain_ids(loaded, asked(loaded, 2, new=4))
    engine.close()
    counted = engine.statistics()
    assert (counted.answers, counted.running, counted.waiting) == (2, 0, 0)
    assert counted.written == len(first.ids) + 4


def test_closing_cancels(loaded):
    engine = Engine(loaded, EngineConfig(slots=1, lengths=(512,), group=2))
    running = [engine.submit(asked(loaded, n, new=400)) for n in range(2)]
    next(iter(running[0]))
    engine.close()
    assert [answer.finish for answer in running] == ["cancelled", "cancelled"]


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (dict(slots=0), "slots: 0 is below 1"),
        (dict(group=0), "group: 0 is below 1"),
        (dict(group=65), "group: 65 is above 64"),
        (dict(waiting=-1), "waiting: -1 is below 0"),
        (dict(lengths=()), "lengths: "),
        (dict(lengths=(64, 32)), "lengths: .* ascend"),
    ],
)
def test_a_number_out_of_range_is_named(change, said):
    with pytest.raises(ValueError, match=said):
        EngineConfig(**change)


@pytest.mark.slow
@on_eight_devices
def test_on_several_devices():
    """Weights divided over all, slots over the data axes where they divide; the same answers."""
    with tempfile.TemporaryDirectory() as folder:
        one = tiny_loaded("qwen2_audio", pathlib.Path(folder))
        many = tiny_loaded("qwen2_audio", pathlib.Path(folder), devices=8)
        assert len(many.parameters["decoder"]["head"].sharding.device_set) == 8
        for slots in (8, 3):
            engine = Engine(many, EngineConfig(slots=slots, lengths=(256,), group=4))
            requests = [
                asked(many, n, clips=n % 3, sampling=(GREEDY, SAMPLED)[n % 2]) for n in range(4)
            ]
            running = [engine.submit(request) for request in requests]
            for request, answer in zip(requests, running, strict=True):
                assert list(answer) == plain_ids(one, request)
            engine.close()


def test_a_warm_engine_compiles_nothing_more(loaded):
    """For prompts of any length, with clips and without; and the slots are as good as new."""
    engine = Engine(loaded, EngineConfig(slots=2, lengths=(64, 192, 512), group=4))

    def compiled():
        programs = engine._programs._compiled
        jitted = programs.mark, programs.read, programs.encode, programs.write
        return [program._cache_size() for program in jitted]

    try:
        for compile_program in engine.warm_ups():
            compile_program()
        before = compiled()
        for n, more in enumerate(("", " What do you hear?" * 5, " What do you hear?" * 20)):
            request = asked(loaded, n, clips=n, more=more)
            assert list(engine.submit(request)) == plain_ids(loaded, request)
        assert compiled() == before
        assert min(before) >= 1
    finally:
        engine.close()
