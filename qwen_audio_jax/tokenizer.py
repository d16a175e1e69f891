"""Vocabularies behind one small interface: encode, decode, special ids by name.

A vocabulary of one's own is a SentencePiece BPE model with byte fallback, trained when a corpus is
built and stored with it. The original families' control tokens are control symbols of that model:
they have ids, but no text ever encodes to them.
"""

import io
import itertools
import pathlib
from collections.abc import Iterable, Sequence

import sentencepiece

MODEL_FILE = "tokenizer.model"
END_OF_TEXT = "<|endoftext|>"
UNKNOWN = "<|unknown|>"

LANGUAGE_CODES = ("en", "zh", "de", "es", "ko", "fr", "ja", "it")
_SPACE_MARK = "\u2581"  # SentencePiece writes a space so, and would read it back as one


def control_tokens(languages: Iterable[str] = ()) -> list[str]:
    """The control tokens of both families, in Qwen-Audio's order (v1 repo, tokenization_qwen.py).

    Args:
        languages: further language codes that the corpus has; each gets a tag of its own.
    """
    further = sorted(set(languages) - set(LANGUAGE_CODES) - {"unknown", "zh_tr"})
    sub_tasks = """caption_audiocaps caption_clotho audioset_ontology caption_plain itn wo_itn
        startofentityvalue endofentityvalue startofentitytype endofentitytype
        named_entity_recognition audio_grounding startofword endofword delim emotion_recognition
        music_description note_analysis"""
    fields = """sonic instrument speaker_meta song_meta question answer choice scene event
        vocal_classification speech_understanding scenario action entities speech_edit"""
    names = itertools.chain(
        ("endoftext", "im_start", "im_end"),
        ("startoftranscript", "startofanalysis", "translate", "transcribe", "caption", "keyword"),
        ("unknown", *LANGUAGE_CODES, "zh_tr", "notimestamps", "sil", "timestamps"),
        (f"{i / 100:.2f}" for i in range(3001)),
        sub_tasks.split(),
        ("pitch", *(f"midi_pitch_{i}" for i in range(128))),
        ("velocity", *(f"midi_velocity_{i}" for i in range(128))),
        fields.split(),
        ("AUDIO", "audio_bos", "audio_eos"),
        further,
    )
    return [f"<|{name}|>" for name in names] + ["[[[AUDIO:modality]]]", "<audio>", "</audio>"]


class Tokenizer:
    """A SentencePiece vocabulary.

    Attributes:
        vocab_size: number of ids.
        end_of_text: id that closes every document, and pads.
    """

    def __init__(self, model: bytes):
        """Args: model: a serialised SentencePiece model."""
        self._model = model
        self._pieces = sentencepiece.SentencePieceProcessor(model_proto=model)
        self.vocab_size: int = self._pieces.vocab_size()
        self._special = {
            self._pieces.id_to_piece(i): i
            for i in range(self.vocab_size)
            if self._pieces.is_control(i)
        }
        self._surface = {i: name for name, i in self._special.items()}
        self._space_mark_ids = [
            self._pieces.piece_to_id(f"<0x{byte:02X}>") for byte in _SPACE_MARK.encode()
        ]
        self.end_of_text = self.special(END_OF_TEXT)

    def __reduce__(self):
        return Tokenizer, (self._model,)

    @classmethod
    def load(cls, folder: pathlib.Path | str) -> "Tokenizer":
        """Reads the vocabulary in a folder that `train_sentencepiece` or `save` wrote."""
        path = pathlib.Path(folder) / MODEL_FILE
        if not path.exists():
            raise FileNotFoundError(
                f"{path}: no vocabulary there; build the corpus with data_pipelines.build"
            )
        return cls(path.read_bytes())

    def save(self, folder: pathlib.Path | str) -> None:
        """Writes the vocabulary into a folder, which is made if need be."""
        folder = pathlib.Path(folder)
        folder.mkdir(parents=True, exist_ok=True)
        (folder / MODEL_FILE).write_bytes(self._model)

    def special(self, name: str) -> int:
        """The id of a control token. Raises KeyError with a sentence if there is none."""
        if name not in self._special:
            raise KeyError(f"the vocabulary has no control token {name!r}")
        return self._special[name]

    def tag(self, name: str, *, language: bool = False) -> int:
        """The id of a tag; a language that the vocabulary has no tag for is `<|unknown|>`."""
        if language and name not in self._special:
            name = UNKNOWN
        return self.special(name)

    def encode(self, text: str) -> list[int]:
        """Ids of plain text, never a control token; `decode` gives the same text back."""
        if _SPACE_MARK not in text:
            return self._pieces.encode(text)
        first, *rest = text.split(_SPACE_MARK)
        ids = self._pieces.encode(first)
        for part in rest:
            ids += self._space_mark_ids + self._pieces.encode(part)
        return ids

    def decode(self, ids: Sequence[int]) -> str:
        """Text of ids, control tokens written out by name."""
        parts = []
        for is_special, run in itertools.groupby(map(int, ids), self._surface.__contains__):
            if is_special:
                parts += [self._surface[i] for i in run]
            else:
                parts.append(self._pieces.decode(list(run)))
        return "".join(parts)


def train_sentencepiece(
    texts: Iterable[str], languages: Iterable[str], out_dir: pathlib.Path | str, pieces: int = 1024
) -> Tokenizer:
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
        vocab_size=1 + len(control) + 256 + len(characters) + pieces,
        hard_vocab_limit=False,
        character_coverage=0.9995,
        byte_fallback=True,
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
    tokenizer = Tokenizer(model.getvalue())
    tokenizer.save(out_dir)
    return tokenizer
