"""What is useful in a batch of a usual mix of clips."""

import pytest
from conftest import changed, pretrain_values

from data_pipelines.packing import RowShape
from qwen_audio_jax.compilation.verdict import model_of, useful
from qwen_audio_jax.run_config import from_mapping


@pytest.mark.parametrize("window", ["auto", "window"])
def test_the_report_is_of_the_window_that_the_configuration_asks_for(window):
    values = changed(pretrain_values("qwen2_audio_7b"), "model.window", window)
    assert model_of(from_mapping(values)).encoder.window == window.replace("auto", "clip")


def test_silence_takes_room_and_is_no_audio():
    shape = RowShape(8, 1792, 6144)
    clip, window = useful(shape), useful(shape, silence=3000)
    assert clip.silence == 0
    # Two windows have room in a row.
    assert 1.9 * 8 * 3000 < window.frames + window.silence <= 2 * 8 * 3000
    assert window.positions == pytest.approx((window.frames + window.silence) / 2, rel=1e-3)
    assert window.frames < clip.frames / 2
    assert window.audio_tokens == pytest.approx(window.frames / 4, rel=1e-2)


@pytest.mark.parametrize("layout", ["branches", "apart"])
def test_a_pair_has_two_answers_to_each_clip(layout):
    """The second one takes room, so that a row has fewer clips; each of those is encoded once."""
    shape = RowShape(8, 2048, 7168)
    alone, pairs = useful(shape), useful(shape, layout=layout)
    assert pairs.frames < 0.95 * alone.frames
    assert pairs.audio_tokens == pytest.approx(pairs.frames / 4, rel=1e-2)
    # What is learned of a second of audio is twice as much.
    learned = [of.loss_positions / of.frames for of in (alone, pairs)]
    assert learned[1] == pytest.approx(2 * learned[0], rel=0.1)
    assert 0.95 * 8 * 2048 < pairs.tokens <= 8 * 2048
    of_prompt = pairs.tokens - pairs.loss_positions
    audio_and_text = (alone.tokens - alone.loss_positions) / alone.frames * pairs.frames
    times = 1 if layout == "branches" else 2
    assert of_prompt == pytest.approx(times * audio_and_text, rel=0.1)
