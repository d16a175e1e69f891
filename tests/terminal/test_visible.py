"""What is shown cannot act on the terminal."""

from hypothesis import given
from hypothesis import strategies as st

from qwen_audio_jax.terminal.visible import visible


@given(st.text(st.characters(exclude_categories=["Cc", "Cs"])))
def test_text_stays_as_it_is(text):
    assert visible(text) == text


@given(st.text(st.characters(categories=["Cc", "Cs"]) | st.sampled_from("\x1b[31m\x07\x9b")))
def test_nothing_is_left_that_controls_a_terminal_or_cannot_be_encoded(text):
    shown = visible(text)
    assert len(shown) == len(text)
    assert all(c in "\n\t" or (ord(c) >= 0x20 and not 0x7F <= ord(c) < 0xA0) for c in shown)
    shown.encode("utf-8")
