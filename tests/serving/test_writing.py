"""An answer as text in asyncio: what ends it, and how it fails."""

import asyncio
import contextlib

import pytest
from api_server import TINY

from qwen_audio_jax.inference.answers import CANCELLED, FAILED, STOP, Answer, Request
from qwen_audio_jax.inference.conversation import prompt_of
from qwen_audio_jax.serving.errors import ApiError
from qwen_audio_jax.serving.writing import Writing

pytest_plugins = ("api_fixtures",)


@pytest.fixture
def loaded(models):
    return models.find(TINY).loaded


@pytest.fixture
def answer(loaded):
    """One that the test writes in the engine's place."""
    example = prompt_of(loaded, [{"role": "user", "content": "a"}], [])
    return Answer(Request(example, (0,), 100))


async def read(writing: Writing) -> list[str]:
    async with contextlib.aclosing(writing.pieces()) as pieces:
        return [piece async for piece in pieces]


def written(answer, loaded, texts, finish, stops=(), error="") -> tuple[list[str], Writing]:
    """Pieces of an answer whose ids come one by one while it is read."""
    writing = Writing(answer, loaded.tokenizer, stops)

    async def both():
        reading = asyncio.ensure_future(read(writing))
        for text in texts:
            for token in loaded.tokenizer.encode(text):
                answer.put([token])
                await asyncio.sleep(0)
        answer.put([], finish, error)
        return await reading

    return asyncio.run(both()), writing


def test_characters_come_whole(answer, loaded):
    pieces, writing = written(answer, loaded, ["好", "é!", "👩\u200d🚀"], STOP)
    assert "".join(pieces) == "好é!👩\u200d🚀"
    assert "\ufffd" not in "".join(pieces)
    assert set("".join(pieces)) == set("好é!👩\u200d🚀")
    assert writing.finish == STOP


def test_ids_behind_a_stop_string_do_not_count(answer, loaded):
    answer.put(loaded.tokenizer.encode("one two three"))
    pieces, writing = written(answer, loaded, [" four"], STOP, stops=["two"])
    assert "".join(pieces) == "one "
    assert len(writing.ids) == len("one two")
    assert writing.finish == STOP
    assert answer.cancelled


@pytest.mark.parametrize(("finish", "status"), [(FAILED, 500), (CANCELLED, 503)])
def test_what_the_engine_could_not_do_is_an_error(answer, loaded, finish, status):
    with pytest.raises(ApiError) as caught:
        written(answer, loaded, ["one"], finish, error="no memory is left")
    assert caught.value.status == status
    assert (caught.value.message == "no memory is left") == (finish == FAILED)


def test_who_stops_reading_ends_the_answer(answer, loaded):
    answer.put(loaded.tokenizer.encode("one"))

    async def first():
        async with contextlib.aclosing(Writing(answer, loaded.tokenizer).pieces()) as pieces:
            return await anext(pieces)

    assert asyncio.run(first()) == "one"
    assert answer.cancelled
