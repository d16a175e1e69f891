"""transformers' own processor with the vocabulary and the template of the released Qwen2-Audio."""

import pathlib

import pytest


def released_processor(folder: pathlib.Path, monkeypatch: pytest.MonkeyPatch):
    """A Qwen2AudioProcessor.

    Args:
        folder: has tokenizer.json and chat_template.jinja.
        monkeypatch: keeps it from asking the network.
    """
    transformers = pytest.importorskip("transformers")
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    return transformers.Qwen2AudioProcessor(
        transformers.WhisperFeatureExtractor(feature_size=128),
        transformers.AutoTokenizer.from_pretrained(folder),
        chat_template=(folder / "chat_template.jinja").read_text(),
    )
