"""Stop strings: however the text is cut into pieces, what comes out is what stands before one."""

from hypothesis import given
from hypothesis import strategies as st

from qwen_audio_jax.serving.stops import Stops

TEXTS = st.text("ab\n", max_size=30)


@given(
    pieces=st.lists(st.text("ab\n", max_size=4), max_size=12),
    strings=st.lists(st.text("ab\n", min_size=1, max_size=4), max_size=3),
)
def test_the_text_ends_where_the_first_stop_string_is_complete(pieces, strings):
    stops = Stops(strings)
    found = ""
    for piece in pieces:
        found += stops.push(piece)
    found += stops.end()
    text = "".join(pieces)
    ends = [text.find(one) + len(one) for one in strings if one in text]
    assert stops.found == bool(ends)
    if not ends:
        assert found == text
        return
    # Of those that are complete first, the one that begins first, as far as pieces let one see.
    starts = [text.find(one) for one in strings if one in text]
    assert found in {text[:start] for start in starts}
    assert text.startswith(found)


@given(pieces=st.lists(st.text("abc", max_size=3), max_size=10))
def test_no_more_is_held_back_than_may_be_a_stop_string(pieces):
    stops = Stops(["abca"])
    text = found = ""
    for piece in pieces:
        text += piece
        found += stops.push(piece)
        if stops.found:
            return
        held = text.removeprefix(found)
        assert "abca".startswith(held)
        assert len(held) < 4
