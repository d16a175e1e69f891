"""eSpeak NG in process: every sentence is spoken word by word, and says so."""

import os
import sys

import numpy as np
import pytest

from data_pipelines.sources.synthetic import speech as synthetic_speech
from data_pipelines.sources.synthetic.phrases import ADJECTIVES, LANGUAGES, NOUNS, spoken, written
from data_pipelines.sources.synthetic.speech import speak
from data_pipelines.sources.synthetic.speech_tasks import FEMALE, MALE


def test_sentences_agree():
    assert spoken("de", 4, 0) == "die kuh ist groß"
    assert spoken("es", 9, 8) == "la caja está limpia"
    assert spoken("fr", 0, 6) == "le chien est beau"
    assert spoken("fr", 6, 6) == "la maison est belle"
    assert spoken("ko", 0, 0) == "개는 크다"
    assert spoken("ko", 11, 0) == "꽃은 크다"
    assert written("ja", 0, 0) == "いぬはおおきい"
    assert all(len(NOUNS[c]) == 12 and len(ADJECTIVES[c]) == 10 for c in LANGUAGES)


@pytest.mark.parametrize("language", LANGUAGES)
def test_every_word_is_reported(language):
    pytest.importorskip("espeakng_loader")
    for noun in range(12):
        text = spoken(language, noun, noun % 10)
        utterance = speak(text, language, "f3")
        words = [word for word, _, _ in utterance.words]
        assert "".join(words) == text.replace(" ", "")
        if language != "zh":
            assert words == text.split()
        times = [t for _, start, end in utterance.words for t in (start, end)]
        assert times[0] >= 0
        assert times == sorted(times)
        assert times[-1] <= utterance.samples.size / 16_000 + 0.001
        assert np.abs(utterance.samples).max() == pytest.approx(1)
        # Spelled-out letters or "Chinese letter" would take several seconds.
        assert utterance.samples.size < 2.2 * 16_000


def test_every_adjective_is_reported():
    pytest.importorskip("espeakng_loader")
    for language in LANGUAGES:
        for adjective in range(10):
            text = spoken(language, 0, adjective)
            words = [word for word, _, _ in speak(text, language, "m1").words]
            assert "".join(words) == text.replace(" ", "")
            assert len(words) >= 2


def test_unknown_voice_is_named():
    pytest.importorskip("espeakng_loader")
    with pytest.raises(ValueError, match="variant 'nobody': eSpeak NG has no such"):
        speak("yes", "en", "nobody")


def test_long_data_path_still_works(tmp_path, monkeypatch):
    loader = pytest.importorskip("espeakng_loader")
    far = tmp_path / ("a" * 100) / ("b" * 100)
    far.mkdir(parents=True)
    folder = far / "espeak-ng-data"
    os.symlink(loader.get_data_path(), folder)
    usual = speak("yes", "en", "f1")
    monkeypatch.setattr(loader, "get_data_path", lambda: str(folder))
    synthetic_speech._installation.cache_clear()
    far_away = speak("yes", "en", "f1")
    synthetic_speech._installation.cache_clear()
    assert len(synthetic_speech._short_path(str(folder))) < 120
    assert np.array_equal(far_away.samples, usual.samples)


def test_missing_espeak_says_what_to_install(monkeypatch):
    monkeypatch.setitem(sys.modules, "espeakng_loader", None)
    synthetic_speech._installation.cache_clear()
    with pytest.raises(ImportError, match=r"pip install -e '\.\[synthetic\]'"):
        speak("yes", "en", "f1")
    synthetic_speech._installation.cache_clear()


def test_pitch_tells_the_gender():
    pytest.importorskip("espeakng_loader")
    librosa = pytest.importorskip("librosa")

    def pitch(voice, setting):
        wave = speak("the dog is big", "en", voice, setting).samples
        return np.median(librosa.yin(wave, fmin=50, fmax=450, sr=16_000, hop_length=800))

    assert max(pitch(voice, 60) for voice in MALE) < 130
    assert min(pitch(voice, 40) for voice in FEMALE) > 140
    assert np.mean([pitch(v, 50) for v in FEMALE]) > 1.5 * np.mean([pitch(v, 50) for v in MALE])
