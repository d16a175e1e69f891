"""The models that are served, by name, and what of them is asked."""

import contextlib
import dataclasses
import time
from collections.abc import Iterator, Sequence
from typing import Any

import jax
import jax.numpy as jnp

from data_pipelines.examples import Example
from qwen_audio_jax.checkpoint import by_path
from qwen_audio_jax.inference.answers import Answer, Closed, QueueFull, Request
from qwen_audio_jax.inference.conversation import stop_ids
from qwen_audio_jax.inference.engine import Engine
from qwen_audio_jax.inference.loading import Loaded
from qwen_audio_jax.inference.sampling import Sampling
from qwen_audio_jax.models.parts import path_name
from qwen_audio_jax.serving.arguments import shown
from qwen_audio_jax.serving.errors import ApiError, busy, draining, wrong
from qwen_audio_jax.serving.limits import Limits


def sharing(loaded: Loaded, base: Loaded) -> Loaded:
    """A model that takes no memory for the parameters in which it equals another.

    Args:
        loaded: of an adapter.
        base: what the adapter is put upon.
    """
    shared = by_path(base.parameters)

    def one(path: Any, leaf: jax.Array) -> jax.Array:
        other = shared.get(path_name(path))
        same = (
            other is not None
            and (other.shape, other.dtype) == (leaf.shape, leaf.dtype)
            and jnp.array_equal(other, leaf)
        )
        return other if same else leaf

    parameters = jax.tree_util.tree_map_with_path(one, loaded.parameters)
    return dataclasses.replace(loaded, parameters=parameters)


@dataclasses.dataclass(frozen=True)
class Served:
    """A model with its engine.

    Attributes:
        name: what requests call it.
        loaded: the model.
        engine: answers with it.
        created: when it was loaded, in seconds since 1970.
    """

    name: str
    loaded: Loaded
    engine: Engine
    created: int = dataclasses.field(default_factory=lambda: int(time.time()))

    def described(self, limits: Limits) -> dict[str, Any]:
        """Its row of GET /v1/models; the fields from `tuned` on are not OpenAI's."""
        return {
            "id": self.name,
            "object": "model",
            "created": self.created,
            "owned_by": "qwen-audio-jax",
            "tuned": self.loaded.tuned,
            "family": self.loaded.family,
            "max_tokens": limits.tokens,
            "context": self.engine.config.lengths[-1],
            "clip_seconds": self.loaded.preprocessor.max_seconds,
            "audio_seconds": limits.audio_seconds,
        }

    def submit(
        self,
        example: Example,
        max_tokens: int | None,
        most: int,
        sampling: Sampling,
        seeds: Sequence[int],
        talk: str = "",
    ) -> list[Answer]:
        """An answer for each seed, on its way; all of them or none.

        Args:
            example: the prompt.
            max_tokens: of an answer; as many as there is room for if None, and no more than `most`.
            most: tokens that any answer may have.
            sampling: how tokens are chosen.
            seeds: of their draws.
            talk: see `Request`.

        Raises:
            ApiError: there is no room: ever (400), now (429), or because the server ends (503).
        """
        prompt = len(example.text.tokens)
        room = min(most, self.engine.config.lengths[-1] - prompt)
        if room < 1:
            raise self._too_long(
                f"the prompt has {prompt:,} tokens, and a prompt and its answer have room for "
                f"{self.engine.config.lengths[-1]:,} together"
            )
        answers: list[Answer] = []
        with self._all_or_none(answers):
            for seed in seeds:
                request = Request(
                    example, stop_ids(self.loaded), max_tokens or room, sampling, seed, talk
                )
                answers.append(self.engine.submit(request))
        return answers

    @contextlib.contextmanager
    def _all_or_none(self, answers: list[Answer]) -> Iterator[None]:
        """The engine's refusals in words of HTTP; then nothing of a request stays in it."""
        try:
            yield
        except (QueueFull, Closed, ValueError) as error:
            for answer in answers:
                answer.cancel()
            if isinstance(error, QueueFull):
                raise busy(f"as many requests wait for {self.name} as may") from None
            if isinstance(error, Closed):
                raise draining() from None
            raise self._too_long(str(error)) from None

    @staticmethod
    def _too_long(fault: str) -> ApiError:
        return wrong(
            "messages",
            f"{fault}; send fewer or shorter messages and clips, or ask for fewer tokens",
            "context_length_exceeded",
        )


class Models:
    """All that are served; the first is the base model."""

    def __init__(self, served: Sequence[Served]):
        """Args: served: with distinct names."""
        self._by_name = {one.name: one for one in served}

    def __iter__(self) -> Iterator[Served]:
        return iter(self._by_name.values())

    def find(self, name: str) -> Served:
        """The model of a name, the base model's if it is "".

        Raises:
            ApiError: there is none (404).
        """
        if not name:
            return next(iter(self))
        if name not in self._by_name:
            raise ApiError(
                404,
                f"model: {shown(name)} is not served here; there is {', '.join(self._by_name)}",
                "model",
                "model_not_found",
            )
        return self._by_name[name]
