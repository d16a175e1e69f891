"""What Prometheus is told (its text format 0.0.4)."""

import collections
from collections.abc import Iterable, Iterator

from qwen_audio_jax.inference.answers import Answer
from qwen_audio_jax.serving.served import Served

CONTENT_TYPE = "text/plain; version=0.0.4; charset=utf-8"
_BOUNDS = (0.05, 0.1, 0.2, 0.5, 1.0, 2.0, 5.0, 10.0, 30.0, 60.0)
_FIRST = "first_token_seconds"

_OF_ENGINES = (
    ("slots", "gauge", "Answers that can be written at once.", "slots"),
    ("slots_running", "gauge", "Answers that are being written.", "running"),
    ("requests_waiting", "gauge", "Requests that wait for a slot.", "waiting"),
    ("answers_total", "counter", "Answers that have ended.", "answers"),
    ("tokens_written_total", "counter", "Tokens of answers; its rate is tokens/s.", "written"),
    ("prompt_tokens_total", "counter", "Tokens of prompts.", "prompt_tokens"),
    ("reused_tokens_total", "counter", "Of these, held by a slot already.", "reused_tokens"),
    ("clips_encoded_total", "counter", "Windows of 30 s that were encoded.", "clips_encoded"),
    ("busy_seconds_total", "counter", "Time with something to answer.", "busy_seconds"),
)


class Measures:
    """Counts of the server itself; used in its event loop alone."""

    def __init__(self):
        self._responses: collections.Counter[tuple[str, int]] = collections.Counter()
        self._first: dict[str, list[float]] = {}

    def responded(self, path: str, status: int) -> None:
        """One more response of a path that is known."""
        self._responses[path, status] += 1

    def answered(self, model: str, answer: Answer) -> None:
        """An answer that has its first token."""
        if seconds := answer.usage.first_token_seconds:
            counts = self._first.setdefault(model, [0.0] * (len(_BOUNDS) + 2))
            for place, bound in enumerate(_BOUNDS):
                counts[place] += seconds <= bound
            counts[-2] += 1
            counts[-1] += seconds

    def page(self, models: Iterable[Served], draining: bool) -> str:
        """All of it as text."""
        return "\n".join([*self._lines(list(models), draining), ""])

    def _lines(self, models: list[Served], draining: bool) -> Iterator[str]:
        yield from _head("draining", "gauge", "Whether the server is about to end.")
        yield f"qwen_audio_draining {int(draining)}"
        statistics = [(_label("model", one.name), one.engine.statistics()) for one in models]
        for name, kind, told, field in _OF_ENGINES:
            yield from _head(name, kind, told)
            for label, of in statistics:
                yield f"qwen_audio_{name}{{{label}}} {getattr(of, field)}"
        yield from _head(_FIRST, "histogram", "From a request to its first token.")
        for model, counts in sorted(self._first.items()):
            label = _label("model", model)
            for bound, count in zip((*_BOUNDS, "+Inf"), counts, strict=False):
                yield f'qwen_audio_{_FIRST}_bucket{{{label},le="{bound}"}} {count:.0f}'
            yield f"qwen_audio_{_FIRST}_count{{{label}}} {counts[-2]:.0f}"
            yield f"qwen_audio_{_FIRST}_sum{{{label}}} {counts[-1]:.6f}"
        yield from _head("responses_total", "counter", "Responses by path and status.")
        for (path, status), count in sorted(self._responses.items()):
            labels = f'{_label("path", path)},status="{status}"'
            yield f"qwen_audio_responses_total{{{labels}}} {count}"


def _head(name: str, kind: str, told: str) -> Iterator[str]:
    yield f"# HELP qwen_audio_{name} {told}"
    yield f"# TYPE qwen_audio_{name} {kind}"


def _label(name: str, value: str) -> str:
    value = value.replace("\\", r"\\").replace('"', r"\"").replace("\n", r"\n")
    return f'{name}="{value}"'
