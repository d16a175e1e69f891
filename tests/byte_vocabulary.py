"""A vocabulary that any text can be written in, made without training."""

import pathlib

import tokenizers

from qwen_audio_jax.text.tokenizer_qwen import SPLIT_PATTERN


def byte_vocabulary(path: pathlib.Path, names=("<|endoftext|>",)) -> dict[str, int]:
    """A tokenizer.json of Qwen's kind: 256 bytes and control tokens, no merge; ids by token."""
    alphabet = sorted(tokenizers.pre_tokenizers.ByteLevel.alphabet())
    made = qwen_tokenizer({letter: i for i, letter in enumerate(alphabet)}, [], names)
    made.save(str(path))
    return made.get_vocab()


def qwen_tokenizer(vocab: dict[str, int], merges, names) -> tokenizers.Tokenizer:
    """Byte-level BPE that cuts text as Qwen does.

    Args:
        vocab: ids by token.
        merges: pairs of tokens.
        names: of control tokens, which get the next ids.
    """
    made = tokenizers.Tokenizer(tokenizers.models.BPE(vocab=vocab, merges=merges))
    made.normalizer = tokenizers.normalizers.NFC()
    made.pre_tokenizer = tokenizers.pre_tokenizers.Sequence(
        [
            tokenizers.pre_tokenizers.Split(tokenizers.Regex(SPLIT_PATTERN), "isolated"),
            tokenizers.pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False),
        ]
    )
    made.decoder = tokenizers.decoders.ByteLevel()
    made.add_special_tokens([tokenizers.AddedToken(name, normalized=False) for name in names])
    return made
