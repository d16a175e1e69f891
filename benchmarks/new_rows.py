"""What rows of new tokens take from text, by the way in which they are made.

    python benchmarks/new_rows.py --source=SmolLM2-135M

Prints one table, for a Qwen2 text model with its tokenizer: the probability of all new tokens at a
position of ten texts, its mean and largest; the largest of one token anywhere; and how far new
rows lie from their mean, in the distance of old ones from theirs.
"""

import argparse
import pathlib
import re

import jax
import jax.numpy as jnp
import numpy as np
from babel import Locale
from flax import nnx
from rich.console import Console
from rich.table import Table

from qwen_audio_jax.conversion.importing import load_original
from qwen_audio_jax.models.language_model import LanguageModel, rope
from qwen_audio_jax.models.presets import Compute
from qwen_audio_jax.models.segments import Segments
from qwen_audio_jax.text.control_tokens import control_tokens, is_language_tag
from qwen_audio_jax.text.tokenizer import load_tokenizer

TEXTS = (
    "The tide comes in twice a day, and the fishermen of the village have always known it.",
    "Please enter the number of the person you wish to call, followed by the pound key.",
    "In 2019 the company reported a profit of 3.54 million dollars, up 12 percent from before.",
    "def translate(text, language='en'):\n    return model.generate(text, language)\n",
    "El perro corre por la playa mientras los niños juegan con la pelota.",
    "Le chat dort sur le canapé et ne veut pas sortir parce qu'il pleut.",
    "Question: What instrument is playing in this recording? Answer: It is a violin.",
    "Transcribe the speech in English, German, French or Chinese, and translate it.",
    "She opened the letter slowly, afraid of what it might say about her brother.",
    "user: What is the capital of France? assistant: The capital of France is Paris.",
)


def hidden_states(parts, decoder, tokenizer) -> np.ndarray:
    """Of every position of the texts, [N, D]."""
    graph, _ = nnx.split(
        nnx.eval_shape(lambda: LanguageModel(parts.decoder, Compute(), nnx.Rngs(0)))
    )

    @jax.jit
    def states(parameters, tokens):
        model = nnx.merge(graph, parameters)
        rotate = rope(parts.decoder, jnp.arange(tokens.shape[1])[None])
        return model(model.embed(tokens), Segments.of(jnp.ones_like(tokens)), rotate)[0]

    parameters = jax.tree.map(jnp.asarray, decoder)
    ids = [tokenizer.encode(text) for text in TEXTS]
    length = max(map(len, ids))
    # Causal, so what follows a text does not change it.
    padded = [jnp.array([one + [0] * (length - len(one))]) for one in ids]
    found = [states(parameters, tokens) for tokens in padded]
    return np.concatenate([h[: len(one)] for h, one in zip(found, ids, strict=True)])


def words_of(name: str) -> str:
    """A token's name in words, a language's in English."""
    plain = name.strip("<|>[]/")
    if is_language_tag(name):
        plain = Locale("en").languages.get(plain, plain)
    return " " + re.sub(r"^(start|end)of", r"\1 of ", re.sub(r"[_:]", " ", plain))


def ways(old: np.ndarray, names: list[str], tokenizer) -> dict[str, np.ndarray]:
    """Rows of the new tokens, [n, D], made in each way."""
    random = np.random.default_rng(0)
    mean, n = old.mean(0), len(names)
    root = np.linalg.cholesky(np.cov(old.T) + 1e-9 * np.eye(len(mean)))
    noise = random.standard_normal((n, len(mean))) @ root.T
    words = np.stack([old[tokenizer.encode(words_of(name))].mean(0) for name in names])

    def drawn(k: int) -> np.ndarray:
        return np.stack([old[random.integers(0, len(old), k)].mean(0) for _ in names])

    return {
        "mean of all": np.broadcast_to(mean, noise.shape),
        "drawn, old covariance": mean + noise,
        "drawn, a quarter of it": mean + noise / 2,
        **{f"mean of {k} drawn": drawn(k) for k in (1, 4, 8, 16)},
        "words of the name": words,
        "mean, 1/8 of words": mean + (words - mean) / 8,
        "mean, 1/2 of words, centred": mean + (words - words.mean(0)) / 2,
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--source", type=pathlib.Path, required=True)
    arguments = parser.parse_args()
    parts, tree = load_original(arguments.source)
    tokenizer = load_tokenizer(arguments.source)
    hidden = hidden_states(parts, tree["decoder"], tokenizer)
    old = np.asarray(tree["decoder"]["head"], np.float32).T[: tokenizer.vocab_size]
    names = [name for name in control_tokens() if name not in tokenizer.control_ids]
    weights = np.exp(hidden @ old.T).sum(1, dtype=np.float64)
    apart = np.linalg.norm(old - old.mean(0), axis=1).mean()
    table = Table("rows", "all, mean", "all, largest", "one, largest", "distance")
    for way, rows in ways(old, names, tokenizer).items():
        new = np.exp(hidden @ rows.astype(np.float32).T).astype(np.float64)
        total = weights + new.sum(1)
        every, one = new.sum(1) / total, new / total[:, None]
        distance = np.linalg.norm(rows - rows.mean(0), axis=1).mean() / apart
        figures = (f"{every.mean():.1e}", f"{every.max():.1e}", f"{one.max():.1e}")
        table.add_row(way, *figures, f"{distance:.2f}")
    Console().print(f"{len(names):,} new tokens, {len(hidden)} positions")
    Console().print(table)


if __name__ == "__main__":
    main()
