"""The text of an answer while its ids come: whole characters only, and no control token."""

from qwen_audio_jax.rendering.chat import NOT_IN_CONTENT
from qwen_audio_jax.text.tokenizer import Tokenizer

_UNFINISHED = "\ufffd"
_HELD = 3
"""Characters at the end that may still become another: the bytes of an unfinished one, each of
which some vocabularies decode by itself."""


class TextStream:
    """Ids in, pieces of text out; joined they are the text of all ids.

    A character whose bytes are spread over several tokens comes with the last of them. Control
    tokens are written by name where `tags` says so, but for those that structure a conversation.
    Otherwise they part words, as in `metrics.text.without_tags`: one space stands for them, where
    there is none yet.
    """

    def __init__(self, tokenizer: Tokenizer, *, tags: bool = False):
        """Args:
        tokenizer: the vocabulary.
        tags: whether tags, such as times, are written by name, as `<|1.25|>`.
        """
        self._tokenizer, self._tags = tokenizer, tags
        self._names = {i: name for name, i in tokenizer.control_ids.items()}
        self._before: list[int] = []  # what decoding needs to know of what is written already
        self._pending: list[int] = []
        self._written = 0
        self._parted, self._end = False, " "  # whether a tag came since, and what is written last

    def push(self, token: int) -> str:
        """The text that is certain with one more id; often "" within a character."""
        token = int(token)
        if token in self._names:
            name = self._names[token]
            shown = self._tags and name.startswith("<|") and name not in NOT_IN_CONTENT
            before = self.end()
            self._parted = not self._tags
            return before + name * shown
        if not 0 <= token < self._tokenizer.vocab_size:
            return self.end() + self._apart(_UNFINISHED)
        self._pending.append(token)
        text = self._decoded()
        held = min(len(text) - len(text.rstrip(_UNFINISHED)), _HELD)
        piece = text[self._written : len(text) - held]
        self._written = max(self._written, len(text) - held)
        if not held:
            self._before, self._pending, self._written = self._pending, [], 0
        return self._apart(piece)

    def end(self) -> str:
        """What was held back; the stream then begins anew."""
        piece = self._decoded()[self._written :]
        self._before, self._pending, self._written = [], [], 0
        return self._apart(piece)

    def _apart(self, piece: str) -> str:
        """A piece as it stands behind what is written and the tags since."""
        if not piece:
            return ""
        space = " " * (self._parted and not self._end.isspace() and not piece[0].isspace())
        self._parted, self._end = False, piece[-1]
        return space + piece

    def _decoded(self) -> str:
        """Text of what is pending, as it is behind what comes before it."""
        before = self._tokenizer.decode(self._before)
        return self._tokenizer.decode([*self._before, *self._pending])[len(before) :]
