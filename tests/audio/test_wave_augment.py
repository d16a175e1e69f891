"""Speed, noise and gain are what was drawn, and touch nothing whose label they would falsify."""

import dataclasses

import numpy as np
import pytest

from qwen_audio_jax.audio.wave_augment import CHANGES, OFF, WaveAugment, with_noise
from qwen_audio_jax.config_fields import build
from qwen_audio_jax.tasks import CONVERSATIONS, KINDS


def tone(seconds=1.0):
    return (0.2 * np.sin(2 * np.pi * 440 * np.arange(int(16000 * seconds)) / 16000)).astype("f4")


@pytest.mark.parametrize("snr_db", [-5.0, 0.0, 20.0])
def test_noise_has_the_power_that_was_asked_for(snr_db):
    slopes = []
    for seed in range(8):
        wave = tone(4.0)
        noise = with_noise(wave, snr_db, np.random.default_rng(seed)).astype(np.float64) - wave
        measured = 10 * np.log10(np.mean(np.square(wave, dtype=np.float64)) / np.mean(noise**2))
        assert measured == pytest.approx(snr_db, abs=1e-3)
        power = np.abs(np.fft.rfft(noise)) ** 2
        low, high = power[400:800].mean(), power[12800:25600].mean()
        slopes.append(10 * np.log10(low / high) / 5)  # five octaves
    # White or pink.
    assert {round(slope) for slope in slopes} == {0, 3}


def test_silence_stays_silent():
    assert not with_noise(np.zeros(500, np.float32), 10.0, np.random.default_rng(0)).any()


def test_gain_is_even_in_db():
    augment = WaveAugment(gain_db=(-6.0, 3.0))
    wave = tone()
    drawn = [
        20 * np.log10(np.abs(augment(wave, CHANGES, np.random.default_rng(i))).max() / 0.2)
        for i in range(200)
    ]
    assert -6 <= min(drawn) < -5.5
    assert 2.5 < max(drawn) <= 3.001
    assert np.mean(drawn) == pytest.approx(-1.5, abs=0.5)


def test_noise_comes_in_its_share():
    augment = WaveAugment(noise_share=0.25)
    wave = tone(0.1)
    changed = [(augment(wave, CHANGES, np.random.default_rng(i)) != wave).any() for i in range(400)]
    assert np.mean(changed) == pytest.approx(0.25, abs=0.06)


def test_off_draws_nothing_and_changes_nothing():
    random = np.random.default_rng(0)
    assert OFF(tone(), CHANGES, random) is not None
    assert (OFF(tone(), CHANGES, random) == tone()).all()
    assert random.random() == np.random.default_rng(0).random()


def test_what_a_label_does_not_survive_is_not_done():
    augment = WaveAugment(noise_share=1.0, gain_db=(-6.0, -5.0))
    random = np.random.default_rng(0)
    assert (augment(tone(), (), random) == tone()).all()
    assert np.abs(augment(tone(), ("gain",), random)).max() < 0.12
    louder = augment(tone(), ("noise",), random)
    assert np.abs(louder - tone()).max() > 0
    assert np.abs(louder).max() > 0.15


def test_every_task_was_thought_about():
    """Pitch and timbre tell age, sex, mood, voice and note; a hiss would be a sound unnamed."""
    survives = {name: set(row.survives) for name, row in KINDS.items()}
    assert all(found <= set(CHANGES) for found in survives.values())
    assert {name for name, found in survives.items() if "speed" in found} == {
        "asr",
        "speech_translation",
        "overlapped_speech_recognition",
        "dialect_speech_recognition",
        "word_timestamps",
        "language_identification",
        "speaker_diarization",
        "entity_recognition",
        "keyword_spotting",
        "intent_classification",
        "slot_filling",
    }
    for conversation in CONVERSATIONS:
        survives.pop(conversation)  # its messages may speak of anything
    assert {name for name, found in survives.items() if "gain" not in found} == {"note_analysis"}
    hissless = {name for name, found in survives.items() if "noise" not in found}
    sound = {name for name, row in KINDS.items() if row.group == "sound"}
    assert hissless == sound | {"music_captioning", "music_question_answering"}


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"speeds": ()}, "changes.speeds: must be a tuple, 1 to 100 items"),
        ({"speeds": (0.9, 3.0)}, r"changes.speeds\[1\]: must be a number from 0.5 to 2, not 3.0"),
        ({"noise_share": 1.5}, "changes.noise_share: must be a number from 0 to 1"),
        ({"snr_db": (30.0, 10.0)}, "changes.snr_db: must be .*, the lower first"),
        ({"gain_db": (float("nan"), 1.0)}, r"changes.gain_db\[0\]: must be a number from -100"),
    ],
)
def test_nonsense_is_refused(values, message):
    with pytest.raises(ValueError, match=message):
        build(WaveAugment, dataclasses.asdict(OFF) | values, "changes")
