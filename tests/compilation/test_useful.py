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
