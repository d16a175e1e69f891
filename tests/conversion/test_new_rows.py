"""The rows that new tokens get: no two alike, always the same, and unlikely in text."""

import base64

import jax
import jax.numpy as jnp
import numpy as np
import originals
import pytest
from byte_vocabulary import byte_vocabulary
from converting import config_value, read_tables, run
from flax import nnx

from qwen_audio_jax.conversion import vocabulary
from qwen_audio_jax.conversion.importing import load_original
from qwen_audio_jax.models.language_model import LanguageModel, rope
from qwen_audio_jax.models.parts import read_parts
from qwen_audio_jax.models.presets import Compute
from qwen_audio_jax.models.segments import Segments
from qwen_audio_jax.text.tokenizer import control_tokens, load_tokenizer

OLD = 257


def decoder(folder, rows=OLD, dtype="float32", tied=False):
    folder = originals.qwen2(folder, dtype, vocab_size=rows, tied=tied)
    byte_vocabulary(folder / "tokenizer.json")
    return folder


def start(source, out, *options):
    assert run("import", f"--source={source}", f"--out={out}", *options) == 0
    return out


def ids_of(folder):
    return load_tokenizer(folder / "tokenizer").control_ids


@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
def test_no_two_new_rows_are_the_same(tmp_path, dtype):
    out = start(decoder(tmp_path / "source", dtype=dtype), tmp_path / "out")
    tables, ids = read_tables(out), ids_of(out)
    for rows in (tables["embedding"], tables["head"].T):
        assert not np.array_equal(rows[ids["<|transcribe|>"]], rows[ids["<|translate|>"]])
        # bfloat16 has 8 bits, and 16 numbers a row here.
        assert len(np.unique(rows[OLD:].astype(np.float32), axis=0)) == len(rows) - OLD


def test_a_token_has_its_row_whatever_else_is_added(tmp_path):
    source = decoder(tmp_path / "source")
    one, other = tmp_path / "one", tmp_path / "other"
    start(source, one)
    start(source, other, "--languages=cs,nl,cop")
    before, after = ids_of(one), ids_of(other)
    assert after["<audio>"] == before["<audio>"] + 3
    first, second = read_tables(one), read_tables(other)
    for name in (*control_tokens(), "<|endoftext|>"):
        np.testing.assert_array_equal(
            first["embedding"][before[name]], second["embedding"][after[name]]
        )
        np.testing.assert_array_equal(
            first["head"][:, before[name]], second["head"][:, after[name]]
        )


def test_new_rows_have_mean_and_covariance_of_the_old(tmp_path):
    source = decoder(tmp_path / "source")
    rows = read_tables(start(source, tmp_path / "out"))["embedding"]
    old, new = rows[:OLD], rows[OLD:]
    # 3,300 draws: a mean is known to a 57th of a deviation, a variance to a 40th of itself.
    deviation = old.std(0) / vocabulary._DRAWN**0.5
    assert (np.abs(new.mean(0) - old.mean(0)) < 5 / 57 * deviation).all()
    expected = np.cov(old.T, bias=True) / vocabulary._DRAWN
    found = np.cov(new.T, bias=True)
    scale = np.outer(deviation, deviation)
    assert (np.abs(found - expected) < 5 / 40 * scale).all()


def test_new_tokens_are_less_likely_than_average_ones_in_any_text(tmp_path):
    head = read_tables(start(decoder(tmp_path / "source"), tmp_path / "out"))["head"]
    hidden = np.random.default_rng(0).standard_normal((200, len(head)))
    weights = np.exp(hidden @ head.astype(np.float64))
    average = weights[:, :OLD].mean(1)
    # By Jensen's inequality on average over the draw, and here over 3,300 of them.
    assert (weights[:, OLD:].mean(1) < average).all()
    # A mean's exponential is at most the mean of exponentials, so no token is above its own rows.
    tokenizer = load_tokenizer(tmp_path / "out" / "tokenizer")
    for name in ("<|transcribe|>", "<|en|>", "<|0.54|>"):
        drawn = weights[:, vocabulary._draw(name, OLD)]
        assert (weights[:, tokenizer.special(name)] <= drawn.mean(1) * (1 + 1e-5)).all()


def test_a_tied_head_stays_equal_to_the_embedding(tmp_path):
    source = decoder(tmp_path / "source", tied=True)
    config_value("tie_word_embeddings", True)(source)
    tables = read_tables(start(source, tmp_path / "out"))
    if "head" in tables:
        np.testing.assert_array_equal(tables["head"], tables["embedding"].T)
    assert len(tables["embedding"]) > OLD


def test_rows_that_the_source_has_to_spare_are_new_as_well(tmp_path):
    source = decoder(tmp_path / "spare", rows=4096)
    out = start(source, tmp_path / "out")
    parts = read_parts(out).decoder
    assert (parts.vocab_size, parts.first_new_token) == (4096, OLD)
    rows, ids = read_tables(out)["embedding"], ids_of(out)
    assert ids["<audio>"] < 4096
    for name in ("<audio>", "<|transcribe|>", "<|en|>"):
        expected = rows[vocabulary._draw(name, OLD)].mean(0, dtype=np.float32)
        np.testing.assert_allclose(rows[ids[name]], expected, rtol=1e-5, atol=1e-6)


def test_what_the_source_knows_keeps_its_rows(tmp_path):
    source = originals.qwen2(tmp_path / "source", "float32", vocab_size=3712)
    byte_vocabulary(source / "tokenizer.json", ["<|endoftext|>", *control_tokens()[1:]])
    out = start(source, tmp_path / "out")
    parts = read_parts(out).decoder
    assert (parts.vocab_size, parts.first_new_token) == (3712, 0)
    before = load_original(source)[1]["decoder"]["embedding"]
    np.testing.assert_array_equal(read_tables(out)["embedding"], before)


def test_of_a_ranks_file_only_what_qwen_7b_has_is_known(tmp_path):
    lines = [f"{base64.b64encode(bytes([i])).decode()} {i}" for i in range(256)]
    (tmp_path / "qwen.tiktoken").write_text("\n".join(lines))
    tokenizer = load_tokenizer(tmp_path)
    known = 256 + 3 + 205
    assert vocabulary._known_ids(tokenizer, rows=512) == known
    assert tokenizer.special("[[[AUDIO:modality]]]") == known
    # Rows for all of Qwen-Audio's tokens: then it has learned them.
    assert vocabulary._known_ids(tokenizer, rows=4096) == tokenizer.vocab_size


TEXTS = (
    "The tide comes in twice a day, and the fishermen of the village have always known it.",
    "Please enter the number of the person you wish to call, followed by the pound key.",
    "In 2019 the company reported a profit of 3.54 million dollars, up 12 percent.",
    "Le chat dort sur le canapé et ne veut pas sortir parce qu'il pleut.",
    "Transcribe the speech in English, German, French or Chinese, and translate it.",
)


def hidden_states(parts, tree, tokenizer):
    """Of each position of the texts, [N, D]."""
    made = nnx.eval_shape(lambda: LanguageModel(parts.decoder, Compute(), nnx.Rngs(0)))
    graph, _ = nnx.split(made)
    model = nnx.merge(graph, jax.tree.map(jnp.asarray, tree["decoder"]))
    ids = [tokenizer.encode(text) for text in TEXTS]
    length = max(map(len, ids))
    tokens = jnp.array([one + [0] * (length - len(one)) for one in ids])
    segments = jnp.array([[1] * len(one) + [0] * (length - len(one)) for one in ids])
    positions = jnp.broadcast_to(jnp.arange(length), tokens.shape)
    rotate = rope(parts.decoder, positions)
    return model(model.embed(tokens), Segments.of(segments), rotate)[segments > 0]


@pytest.mark.slow
def test_new_tokens_are_unlikely_in_text_of_a_real_model(tmp_path, references):
    source = references / "real_start" / "smollm2-135m"
    if not source.is_dir():
        pytest.skip("QWEN_AUDIO_REFERENCES has no folder real_start/smollm2-135m")
    parts, tree = load_original(source)
    hidden = hidden_states(parts, tree, load_tokenizer(source))
    new = read_parts(start(source, tmp_path / "out")).decoder.first_new_token
    # Its head is its embedding.
    head = read_tables(tmp_path / "out")["embedding"].T
    before = hidden @ tree["decoder"]["embedding"].T
    logits = hidden @ head
    assert (head.shape[1], new) == (52480, 49152)
    assert float(jnp.abs(logits[:, :new] - before).max()) < 1e-4
    likely = jax.nn.softmax(logits)[:, new:]
    # If new tokens were as likely as old ones, all would take 6.3e-2; rows made of the words of
    # their names take 0.2 (benchmarks/new_rows.py).
    assert float(likely.sum(1).mean()) < 1e-3
    assert float(likely.max()) < 1e-4
