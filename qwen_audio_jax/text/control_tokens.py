"""Names of the control tokens, and what every vocabulary does with them by name."""

import abc
import functools
import itertools
import re
from collections.abc import Iterable, Mapping, Sequence

END_OF_TEXT = "<|endoftext|>"
IM_START = "<|im_start|>"
IM_END = "<|im_end|>"
UNKNOWN = "<|unknown|>"
LANGUAGE_CODES = ("en", "zh", "de", "es", "ko", "fr", "ja", "it")
_LANGUAGE_TAG = re.compile(r"<\|(?:[a-z]{2,3}|zh_tr|unknown)\|>")


def _tags() -> list[str]:
    """Qwen-Audio's tags in its order (v1 repo, tokenization_qwen.py), audio marks left out."""
    sub_tasks = """caption_audiocaps caption_clotho audioset_ontology caption_plain itn wo_itn
        startofentityvalue endofentityvalue startofentitytype endofentitytype
        named_entity_recognition audio_grounding startofword endofword delim emotion_recognition
        music_description note_analysis"""
    fields = """sonic instrument speaker_meta song_meta question answer choice scene event
        vocal_classification speech_understanding scenario action entities speech_edit"""
    return [
        f"<|{name}|>"
        for name in itertools.chain(
            ("startoftranscript", "startofanalysis", "translate", "transcribe"),
            ("caption", "keyword", "unknown", *LANGUAGE_CODES, "zh_tr"),
            ("notimestamps", "sil", "timestamps"),
            (f"{i / 100:.2f}" for i in range(3001)),
            sub_tasks.split(),
            ("pitch", *(f"midi_pitch_{i}" for i in range(128))),
            ("velocity", *(f"midi_velocity_{i}" for i in range(128))),
            fields.split(),
        )
    ]


def is_language_tag(name: str) -> bool:
    """Whether a control token says a language, by its form; `<|sil|>` and `<|itn|>` do not."""
    return _LANGUAGE_TAG.fullmatch(name) is not None and name not in ("<|sil|>", "<|itn|>")


def control_tokens(languages: Iterable[str] = ()) -> list[str]:
    """The control tokens of both families: what a vocabulary of one's own begins with.

    Args:
        languages: further language codes that the corpus has; each gets a tag of its own. What is
            no code gets none: it would be taken for the control token that is called so.
    """
    codes = {code for code in languages if is_language_tag(f"<|{code}|>")}
    further = sorted(codes - set(LANGUAGE_CODES) - {"unknown", "zh_tr"})
    return [
        *(END_OF_TEXT, IM_START, IM_END),
        *_tags(),
        *("<|AUDIO|>", "<|audio_bos|>", "<|audio_eos|>"),
        *(f"<|{code}|>" for code in further),
        *("[[[AUDIO:modality]]]", "<audio>", "</audio>"),
    ]


def qwen_audio_control_tokens() -> list[str]:
    """The 3522 control tokens that follow the ranks of `qwen.tiktoken`, in the order of their ids.

    This is the order of the public repository. A released folder may hold another tag in between,
    so compare `audio.audio_start_id` of its config.json with the id of `<audio>`.
    """
    return [
        *(END_OF_TEXT, IM_START, IM_END),
        *(f"<|extra_{i}|>" for i in range(205)),
        "[[[AUDIO:modality]]]",
        *_tags(),
        *("<audio>", "</audio>"),
    ]


@functools.cache
def _no_languages() -> frozenset[str]:
    return frozenset(
        name
        for name in (*control_tokens(), *qwen_audio_control_tokens())
        if not is_language_tag(name)
    )


class ControlTokens(abc.ABC):
    """The part of a vocabulary that is looked up by name, which all vocabularies share.

    A subclass has the ids of plain text to itself: `_encode_plain`, which must not give a control
    token, and `_decode_plain`, which is given runs of ids below `vocab_size` without one.

    Attributes:
        vocab_size: number of ids: the highest + 1.
        control_ids: id by name of every control token.
    """

    def __init__(self, vocab_size: int, control_ids: Mapping[str, int]):
        self.vocab_size = vocab_size
        self.control_ids = control_ids
        self._names = {i: name for name, i in control_ids.items()}

    @property
    def end_of_text(self) -> int:
        """The id that closes every document, and pads."""
        return self.special(END_OF_TEXT)

    def special(self, name: str) -> int:
        """The id of a control token. Raises KeyError with a sentence if there is none."""
        if name not in self.control_ids:
            raise KeyError(f"the vocabulary has no control token {name!r}")
        return self.control_ids[name]

    def tag(self, name: str, *, language: bool = False) -> int:
        """The id of a tag; a language that the vocabulary has no tag for is `<|unknown|>`.

        So is one that is called as a control token which is no language's.
        """
        if language and (name not in self.control_ids or name in _no_languages()):
            name = UNKNOWN
        return self.special(name)

    def encode(self, text: str) -> list[int]:
        """Ids of plain text, never a control token, whatever the text says.

        `decode` gives the text back; in its NFC form, if the vocabulary is one of Qwen's.

        Raises:
            ValueError: half of a surrogate pair is in it, as JSON can hold; the three libraries
                would each do something else with it.
        """
        try:
            text.encode()
        except UnicodeEncodeError as error:
            half = text[error.start]
            raise ValueError(f"text holds {half!r}, half of a surrogate pair") from None
        return self._encode_plain(text)

    def decode(self, ids: Sequence[int]) -> str:
        """Text of ids, control tokens written out by name.

        Bytes that are no UTF-8, and ids that the vocabulary lacks (an embedding table may have
        more rows), are U+FFFD.
        """
        parts = []
        for kind, run in itertools.groupby(map(int, ids), self._kind):
            if kind == "control":
                parts += [self._names[i] for i in run]
            elif kind == "plain":
                parts.append(self._decode_plain(list(run)))
            else:
                parts += ["\ufffd" for _ in run]
        return "".join(parts)

    def _kind(self, i: int) -> str:
        if i in self._names:
            return "control"
        return "plain" if 0 <= i < self.vocab_size else "unknown"

    @abc.abstractmethod
    def _encode_plain(self, text: str) -> list[int]:
        """Ids of text that holds no control tokens."""

    @abc.abstractmethod
    def _decode_plain(self, ids: list[int]) -> str:
        """Text of ids that are no control tokens."""


def split_at(names: Iterable[str], text: str) -> list[str]:
    """Splits text at the names: plain, name, plain, ..., name, plain (plain may be empty)."""
    names = tuple(names)
    return _pattern(names).split(text) if names else [text]


@functools.lru_cache(maxsize=8)
def _pattern(names: tuple[str, ...]) -> re.Pattern[str]:
    # The longest first, as a name may begin with another. The look-ahead spares ordinary
    # characters the trial of thousands of names.
    firsts = "".join(sorted({re.escape(name[0]) for name in names}))
    either = "|".join(map(re.escape, sorted(names, key=len, reverse=True)))
    return re.compile(f"((?=[{firsts}])(?:{either}))")
