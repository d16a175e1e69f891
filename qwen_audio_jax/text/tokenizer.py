"""Vocabularies behind one small interface: encode, decode, special ids by name.

A vocabulary of one's own is a SentencePiece BPE model with byte fallback, trained when a corpus is
built and stored with it. The original families' control tokens are control symbols of that model:
they have ids, but no text ever encodes to them. The originals' own vocabularies are in
`tokenizer_qwen`.
"""

import io
import pathlib
from collections.abc import Collection, Iterable, Mapping, Sequence
from typing import Protocol

import sentencepiece

from qwen_audio_jax.text.control_tokens import END_OF_TEXT, ControlTokens, control_tokens, split_at
from qwen_audio_jax.text.tokenizer_qwen import JSON_FILE, RANKS_FILE, JsonTokenizer, RanksTokenizer

__all__ = [
    "END_OF_TEXT",
    "SentencePieceTokenizer",
    "Tokenizer",
    "control_tokens",
    "encode_with_control",
    "load_text_vocabulary",
    "load_tokenizer",
    "train_sentencepiece",
    "with_control_tokens",
]

MODEL_FILE = "tokenizer.model"
_SPACE_MARK = "\u2581"  # SentencePiece writes a space so, and would read it back as one


class Tokenizer(Protocol):
    """What the rest of the project knows of a vocabulary. It can be pickled.

    Attributes:
        vocab_size: number of ids that it knows: the highest + 1.
        control_ids: id by name of every control token.
        end_of_text: id that closes every document, and pads.
    """

    vocab_size: int
    control_ids: Mapping[str, int]
    end_of_text: int

    def encode(self, text: str) -> list[int]:
        """Ids of plain text, never a control token. Raises ValueError if it is no Unicode."""

    def decode(self, ids: Sequence[int]) -> str:
        """Text of ids, control tokens written out by name."""

    def special(self, name: str) -> int:
        """The id of a control token. Raises KeyError with a sentence if there is none."""

    def tag(self, name: str, *, language: bool = False) -> int:
        """The id of a tag; a language that the vocabulary has no tag for is `<|unknown|>`."""

    def save(self, folder: pathlib.Path | str) -> None:
        """Writes the vocabulary into a folder, which is made if need be."""


def load_tokenizer(folder: pathlib.Path | str) -> Tokenizer:
    """Reads the vocabulary in a folder, whichever of the three kinds it is.

    Args:
        folder: holds `tokenizer.model` (our own), `qwen.tiktoken` (Qwen, Qwen-Audio) or
            `tokenizer.json` (Qwen2 and later, Qwen2-Audio); the first of these that is there.

    Raises:
        FileNotFoundError: it holds none of them.
        ValueError: the file is damaged or of another kind.
    """
    folder = pathlib.Path(folder)
    kinds = {MODEL_FILE: SentencePieceTokenizer, RANKS_FILE: RanksTokenizer}
    for name, kind in (kinds | {JSON_FILE: JsonTokenizer}).items():
        if (folder / name).is_file():
            tokenizer = kind.load(folder)
            if END_OF_TEXT not in tokenizer.control_ids:
                raise ValueError(
                    f"{folder / name}: the vocabulary has no control token {END_OF_TEXT!r}"
                )
            return tokenizer
    raise FileNotFoundError(
        f"{folder}: no vocabulary there ({MODEL_FILE}, {RANKS_FILE} or {JSON_FILE}); "
        "build the corpus with data_pipelines.build, or give the folder of a released model"
    )


def load_text_vocabulary(folder: pathlib.Path | str) -> Tokenizer:
    """Reads the vocabulary of a text model, which may lack any of our control tokens.

    Other than in `load_tokenizer`, `tokenizer.json` goes first: a `tokenizer.model` beside it is
    the same vocabulary in SentencePiece's form, of another maker.
    """
    if (pathlib.Path(folder) / JSON_FILE).is_file():
        return JsonTokenizer.load(folder)
    return load_tokenizer(folder)


def encode_with_control(
    tokenizer: Tokenizer, text: str, names: Collection[str] | None = None
) -> list[int]:
    """Ids of text that is trusted: names of control tokens in it become those tokens.

    Args:
        tokenizer: the vocabulary.
        text: a template, never what a user or a corpus wrote.
        names: the control tokens that may act; all of the vocabulary's if None.
    """
    ids = []
    parts = split_at(tokenizer.control_ids if names is None else names, text)
    for number, part in enumerate(parts):
        ids += [tokenizer.special(part)] if number % 2 else tokenizer.encode(part)
    return ids


def with_control_tokens(tokenizer: Tokenizer, names: Iterable[str]) -> Tokenizer:
    """The same vocabulary with control tokens appended, for a text model that learns to hear.

    Args:
        tokenizer: one of the originals' vocabularies.
        names: control tokens that are wanted; those it lacks get ids from `vocab_size` on.

    Raises:
        ValueError: the vocabulary is our own, which has its control tokens from training.
    """
    new = [name for name in dict.fromkeys(names) if name not in tokenizer.control_ids]
    if not new:
        return tokenizer
    if not isinstance(tokenizer, RanksTokenizer | JsonTokenizer):
        raise ValueError(
            f"control token {new[0]!r} cannot be added to a SentencePiece vocabulary; "
            "build the corpus again"
        )
    return tokenizer.appended(new)


class SentencePieceTokenizer(ControlTokens):
    """A vocabulary of one's own."""

    def __init__(self, model: bytes):
        """Args: model: a serialised SentencePiece model that `train_sentencepiece` made."""
        self._model = model
        self._pieces = sentencepiece.SentencePieceProcessor(model_proto=model)
        ids = range(self._pieces.vocab_size())
        super().__init__(
            len(ids), {self._pieces.id_to_piece(i): i for i in ids if self._pieces.is_control(i)}
        )
        self.special(END_OF_TEXT)  # else it is of another maker
        self._space_mark_ids = [
            self._pieces.piece_to_id(f"<0x{byte:02X}>") for byte in _SPACE_MARK.encode()
        ]

    def __reduce__(self):
        return SentencePieceTokenizer, (self._model,)

    @classmethod
    def load(cls, folder: pathlib.Path | str) -> "SentencePieceTokenizer":
        """Reads the vocabulary in a folder that `train_sentencepiece` or `save` wrote."""
        path = pathlib.Path(folder) / MODEL_FILE
        try:
            return cls(path.read_bytes())
        except (RuntimeError, KeyError) as error:
            raise ValueError(
                f"{path}: is damaged, or not a vocabulary that this project made; put it back from "
                "a copy"
            ) from error

    def save(self, folder: pathlib.Path | str) -> None:
        """Writes the vocabulary into a folder, which is made if need be."""
        folder = pathlib.Path(folder)
        folder.mkdir(parents=True, exist_ok=True)
        (folder / MODEL_FILE).write_bytes(self._model)

    def _encode_plain(self, text: str) -> list[int]:
        if _SPACE_MARK not in text:
            return self._pieces.encode(text)
        first, *rest = text.split(_SPACE_MARK)
        ids = self._pieces.encode(first)
        for part in rest:
            ids += self._space_mark_ids + self._pieces.encode(part)
        return ids

    def _decode_plain(self, ids: list[int]) -> str:
        return self._pieces.decode(ids)


def train_sentencepiece(
    texts: Iterable[str], languages: Iterable[str], out_dir: pathlib.Path | str, pieces: int = 1024
) -> SentencePieceTokenizer:
    """Trains a vocabulary and writes it into `out_dir`.

    Args:
        texts: what the corpus says; the result depends on nothing else.
        languages: language codes of the corpus.
        out_dir: folder to write.
        pieces: how many pieces to learn beside control tokens, bytes and single characters.
    """
    texts = [text for text in texts if text.strip()]
    control = control_tokens(languages)
    characters = set().union(*texts) if texts else set()
    model = io.BytesIO()
    sentencepiece.SentencePieceTrainer.train(
        # Training needs at least one sentence; a corpus of empty answers has none.
        sentence_iterator=iter(texts or ["a"]),
        model_writer=model,
        model_type="bpe",
        vocab_size=1 + len(control) + 256 + len(characters | {" "}) + pieces,
        hard_vocab_limit=False,
        character_coverage=0.9995,
        byte_fallback=True,
        # Also where no text has one: in bytes it would be those of SentencePiece's sign for it,
        # and other tokenizers write those of a space.
        required_chars=_SPACE_MARK,
        split_digits=True,
        normalization_rule_name="identity",
        add_dummy_prefix=False,
        remove_extra_whitespaces=False,
        max_sentence_length=1 << 20,
        control_symbols=control,
        unk_id=0,
        bos_id=-1,
        eos_id=-1,
        pad_id=-1,
        num_threads=1,
        minloglevel=2,
    )
    tokenizer = SentencePieceTokenizer(model.getvalue())
    tokenizer.save(out_dir)
    return tokenizer
