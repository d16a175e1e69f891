"""The originals' vocabularies: Qwen's byte-level BPE, from either of its two file formats.

`qwen.tiktoken` (Qwen, Qwen-Audio) lists the ranks of the merges alone: text is normalised and split
by rules that are known here, and control tokens follow in a fixed order. `tokenizer.json` (Qwen2
and later, Qwen2-Audio) says all of this itself. Both keep the bytes of their file, to save them as
they came.
"""

import base64
import binascii
import json
import pathlib
import unicodedata
from collections.abc import Sequence
from typing import Any

import tiktoken
import tokenizers

from qwen_audio_jax.text.control_tokens import ControlTokens, qwen_audio_control_tokens

RANKS_FILE = "qwen.tiktoken"
EXTRA_FILE = "extra_tokens.json"
JSON_FILE = "tokenizer.json"

# What text is split into before merging: contractions, words with the character before them,
# single digits, signs, line ends, spaces. Qwen differs from cl100k_base in the digits.
SPLIT_PATTERN = "|".join(
    (
        r"(?i:'s|'t|'re|'ve|'m|'ll|'d)",
        r"[^\r\n\p{L}\p{N}]?\p{L}+",
        r"\p{N}",
        r" ?[^\s\p{L}\p{N}]+[\r\n]*",
        r"\s*[\r\n]+",
        r"\s+(?!\S)",
        r"\s+",
    )
)


class RanksTokenizer(ControlTokens):
    """The vocabulary of a `qwen.tiktoken` file, with Qwen-Audio's control tokens."""

    def __init__(self, ranks: bytes, extra: Sequence[str] = ()):
        """Reads the ranks.

        Args:
            ranks: contents of the file.
            extra: names of control tokens beyond Qwen-Audio's.

        Raises:
            ValueError: the contents are not a whole list of ranks.
        """
        self._ranks, self._extra = ranks, tuple(extra)
        self._plain = tiktoken.Encoding(
            "qwen",
            pat_str=SPLIT_PATTERN,
            mergeable_ranks=_parse_ranks(ranks),
            special_tokens={},
        )
        first = self._plain.n_vocab
        names = [*qwen_audio_control_tokens(), *self._extra]
        if len(set(names)) < len(names):
            raise ValueError(f"{EXTRA_FILE} beside it repeats the name of a control token")
        super().__init__(first + len(names), {name: first + i for i, name in enumerate(names)})

    def __reduce__(self):
        return RanksTokenizer, (self._ranks, self._extra)

    @classmethod
    def load(cls, folder: pathlib.Path | str) -> "RanksTokenizer":
        """Reads `qwen.tiktoken`, and `extra_tokens.json` where it stands beside it."""
        path, extra = pathlib.Path(folder) / RANKS_FILE, pathlib.Path(folder) / EXTRA_FILE
        names = _read_names(extra) if extra.is_file() else ()
        try:
            return cls(path.read_bytes(), names)
        except ValueError as error:
            raise ValueError(f"{path}: {error}") from error

    def save(self, folder: pathlib.Path | str) -> None:
        """Writes the files that `load` reads."""
        folder = pathlib.Path(folder)
        folder.mkdir(parents=True, exist_ok=True)
        (folder / RANKS_FILE).write_bytes(self._ranks)
        if self._extra:
            text = json.dumps(self._extra, ensure_ascii=False, indent=1)
            (folder / EXTRA_FILE).write_text(text + "\n", encoding="utf-8")

    def appended(self, names: Sequence[str]) -> "RanksTokenizer":
        """The vocabulary with control tokens that it lacks, their ids from `vocab_size` on."""
        return RanksTokenizer(self._ranks, [*self._extra, *names])

    def _encode_plain(self, text: str) -> list[int]:
        return self._plain.encode_ordinary(unicodedata.normalize("NFC", text))

    def _decode_plain(self, ids: list[int]) -> str:
        return self._plain.decode(ids, errors="replace")


class JsonTokenizer(ControlTokens):
    """The vocabulary of a `tokenizer.json` file whose model is BPE."""

    def __init__(self, data: bytes):
        """Reads the file.

        Args:
            data: contents of the file.

        Raises:
            ValueError: the contents are not a BPE tokenizer of the `tokenizers` library.
        """
        self._data = data
        content = _parse_json(data)
        vocabulary = content["model"]["vocab"]
        control = {token["content"]: token["id"] for token in content["added_tokens"]}
        # Left to the library, added tokens act wherever text spells them, and the switch against
        # that covers only those marked special. Without them there is nothing that could act.
        content["added_tokens"] = []
        content["model"]["dropout"] = None  # merging by chance
        content["model"]["vocab"] = {
            piece: i
            for piece, i in vocabulary.items()
            if piece not in control or piece == content["model"].get("unk_token")
        }
        try:
            self._plain = tokenizers.Tokenizer.from_str(json.dumps(content))
        except Exception as error:  # the library raises no narrower class
            raise ValueError(f"not a tokenizer of the tokenizers library: {error}") from error
        self._plain.no_truncation()
        self._plain.no_padding()
        super().__init__(1 + max(*vocabulary.values(), *control.values()), control)

    def __reduce__(self):
        return JsonTokenizer, (self._data,)

    @classmethod
    def load(cls, folder: pathlib.Path | str) -> "JsonTokenizer":
        """Reads `tokenizer.json`."""
        path = pathlib.Path(folder) / JSON_FILE
        try:
            return cls(path.read_bytes())
        except (ValueError, KeyError) as error:
            raise ValueError(f"{path}: {error.args[0]}") from error

    def save(self, folder: pathlib.Path | str) -> None:
        """Writes the file that `load` reads."""
        folder = pathlib.Path(folder)
        folder.mkdir(parents=True, exist_ok=True)
        (folder / JSON_FILE).write_bytes(self._data)

    def appended(self, names: Sequence[str]) -> "JsonTokenizer":
        """The vocabulary with control tokens that it lacks, their ids from `vocab_size` on."""
        content = json.loads(self._data)
        content["added_tokens"] += [
            added_token(self.vocab_size + i, name) for i, name in enumerate(names)
        ]
        return JsonTokenizer(json.dumps(content, ensure_ascii=False, indent=2).encode())

    def _encode_plain(self, text: str) -> list[int]:
        return self._plain.encode(text, add_special_tokens=False).ids

    def _decode_plain(self, ids: list[int]) -> str:
        return self._plain.decode(ids, skip_special_tokens=False)


def added_token(i: int, name: str) -> dict[str, int | str | bool]:
    """A control token as `tokenizer.json` writes it."""
    flags = {"single_word": False, "lstrip": False, "rstrip": False, "normalized": False}
    return {"id": i, "content": name, **flags, "special": True}


def _parse_ranks(data: bytes) -> dict[bytes, int]:
    """Reads lines of "base64 rank". Raises ValueError with a sentence that names the line."""
    ranks: dict[bytes, int] = {}
    for number, line in enumerate(data.splitlines(), start=1):
        try:
            piece, rank = line.split()
            piece, rank = base64.b64decode(piece, validate=True), int(rank)
        except (ValueError, binascii.Error):
            raise ValueError(f"line {number} is not a piece in base64 and its rank") from None
        if rank != number - 1 or piece in ranks:
            raise ValueError(f"line {number}: rank {rank} is out of order; the file is damaged")
        ranks[piece] = rank
    if any(bytes([byte]) not in ranks for byte in range(256)):
        raise ValueError("does not hold all 256 single bytes; the file is damaged")
    return ranks


def _parse_json(data: bytes) -> dict:
    """Reads a BPE `tokenizer.json`. Raises ValueError with a sentence."""
    content = _loads(data)
    model = content.get("model") if isinstance(content, dict) else None
    vocabulary = model.get("vocab") if isinstance(model, dict) else None
    if not isinstance(vocabulary, dict) or not vocabulary:
        raise ValueError("not a tokenizer.json with a BPE model")
    added = content.get("added_tokens")
    if not added:
        raise ValueError("has no control tokens (added_tokens)")
    if not isinstance(added, list) or not all(isinstance(token, dict) for token in added):
        raise ValueError("added_tokens must be a list of objects")
    named = [(token.get("content"), token.get("id")) for token in added]
    for name, i in [*vocabulary.items(), *named]:
        is_id = isinstance(i, int) and not isinstance(i, bool) and 0 <= i < 1 << 31
        if not isinstance(name, str) or not is_id:
            raise ValueError(f"{str(name)[:60]!r} has {str(i)[:60]!r} for its id")
    names = {i: name for name, i in vocabulary.items()}
    for name, i in named:
        if names.setdefault(i, name) != name:
            raise ValueError(f"{name!r} has the id {i}, and so has {names[i]!r}")
    return content


def _loads(data: bytes) -> Any:
    try:
        return json.loads(data)
    except ValueError as error:
        raise ValueError(f"not valid JSON; the file is damaged: {error}") from error
    except RecursionError:
        raise ValueError("not JSON that can be read: nested too deep") from None


def _read_names(path: pathlib.Path) -> list[str]:
    """Reads a JSON list of strings. Raises ValueError with a sentence."""
    try:
        names = _loads(path.read_bytes())
    except ValueError as error:
        raise ValueError(f"{path}: {error}") from error
    if not isinstance(names, list) or not all(isinstance(name, str) and name for name in names):
        raise ValueError(f"{path}: must be a list of names of control tokens")
    return names
