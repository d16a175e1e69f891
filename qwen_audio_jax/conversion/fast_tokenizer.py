"""Vocabularies as a `tokenizer.json` that engines read as training did, id for id."""

import json
from collections.abc import Collection, Mapping
from typing import Any

import sentencepiece

from qwen_audio_jax.text.control_tokens import END_OF_TEXT, IM_END, IM_START
from qwen_audio_jax.text.tokenizer_qwen import added_token

_SPACE_MARK = "\u2581"


def sentencepiece_to_fast(model: bytes) -> str:
    """Writes a vocabulary of `train_sentencepiece` for the `tokenizers` library.

    The pieces get real spaces in the place of SentencePiece's sign, so that neither side has to
    normalise anything, and a sign in the text is spelt in bytes on both. A piece can be merged
    from any two pieces that make it up, and pieces are merged in the order of their scores.

    Control tokens are special added tokens. So, other than here, their names act wherever a text
    has them, unless the engine is told not to let them (`split_special_tokens` in transformers,
    `encode_special_tokens` in tokenizers).

    Args:
        model: a serialised SentencePiece model: the contents of `tokenizer.model`.

    Returns:
        Contents of `tokenizer.json`. Encoding is the same as ours; so is decoding, except that in
        a run of byte pieces that is no UTF-8 every byte becomes U+FFFD.

    Raises:
        ValueError: the model has no byte fallback, so it is not one of ours.
    """
    pieces = sentencepiece.SentencePieceProcessor(model_proto=model)
    ids = range(pieces.vocab_size())
    if sum(map(pieces.is_byte, ids)) != 256:
        raise ValueError("the SentencePiece model has no byte fallback; it is not one of ours")
    is_other = [pieces.is_byte(i) or pieces.is_control(i) or pieces.is_unknown(i) for i in ids]
    vocabulary = {
        pieces.id_to_piece(i) if is_other[i] else pieces.id_to_piece(i).replace(_SPACE_MARK, " "): i
        for i in ids
    }
    learned = {piece: i for piece, i in vocabulary.items() if not is_other[i]}
    merges = [
        (piece[:cut], piece[cut:])
        for piece in sorted(learned, key=lambda piece: -pieces.get_score(learned[piece]))
        for cut in range(1, len(piece))
        if piece[:cut] in learned and piece[cut:] in learned
    ]
    control = filter(pieces.is_control, ids)
    content = {
        "version": "1.0",
        "truncation": None,
        "padding": None,
        "added_tokens": [added_token(i, pieces.id_to_piece(i)) for i in control],
        "normalizer": None,
        "pre_tokenizer": None,
        "post_processor": None,
        "decoder": {"type": "Sequence", "decoders": [{"type": "ByteFallback"}, {"type": "Fuse"}]},
        "model": {
            "type": "BPE",
            "dropout": None,
            "unk_token": pieces.id_to_piece(pieces.unk_id()),
            "continuing_subword_prefix": None,
            "end_of_word_suffix": None,
            "fuse_unk": False,
            "byte_fallback": True,
            "ignore_merges": False,
            "vocab": vocabulary,
            "merges": merges,
        },
    }
    return json.dumps(content, ensure_ascii=False, indent=1)


def as_trained(data: bytes) -> bytes:
    """A `tokenizer.json` that gives ids as training took them: of the text alone, and of all of it.

    What would cut, pad, merge by chance, or put a token before or behind a text is taken out.
    """
    content = json.loads(data)
    adds = (content.get("post_processor") or {}).get("type", "ByteLevel") != "ByteLevel"
    chance = content["model"].get("dropout")
    if not (content.get("truncation") or content.get("padding") or adds or chance):
        return data
    content |= {"truncation": None, "padding": None}
    content["model"] |= {"dropout": None}
    content |= {"post_processor": None} if adds else {}
    return json.dumps(content, ensure_ascii=False, indent=1).encode()


_KEPT = (
    "bos_token",
    "eos_token",
    "pad_token",
    "unk_token",
    "additional_special_tokens",
    "extra_special_tokens",
    "added_tokens_decoder",
    "chat_template",
    "clean_up_tokenization_spaces",
    "errors",
    "model_max_length",
    "padding_side",
    "processor_class",
)
"""Of an original's `tokenizer_config.json`, what does not change the ids of a text."""


def tokenizer_config(
    max_length: int, control: Collection[str], before: Mapping[str, Any]
) -> dict[str, Any]:
    """What `tokenizer_config.json` says beside a `tokenizer.json`.

    Args:
        max_length: positions that the model was made for.
        control: names of the vocabulary's control tokens.
        before: the original's, which goes before our own; empty if there is none.
    """
    marks = (IM_START, "<|AUDIO|>", "<|audio_bos|>", "<|audio_eos|>")
    config = {
        "processor_class": "Qwen2AudioProcessor",
        "bos_token": None,
        "unk_token": None,
        "eos_token": IM_END if IM_END in control else END_OF_TEXT,
        "pad_token": END_OF_TEXT,
        "additional_special_tokens": [mark for mark in marks if mark in control],
        "clean_up_tokenization_spaces": False,
        "model_input_names": ["input_ids", "attention_mask"],
        "model_max_length": max_length,
    }
    config |= {key: before[key] for key in _KEPT if key in before}
    # The plain class reads tokenizer.json as it is. Qwen2Tokenizer, which transformers takes for
    # Qwen2-Audio where no class is named, and the class of another original's vocabulary put their
    # own normaliser, splitting and decoder in the place of the file's.
    return config | {"tokenizer_class": "PreTrainedTokenizerFast"}
