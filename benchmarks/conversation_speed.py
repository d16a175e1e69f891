"""What the engine saves and costs: later turns of a talk, eight clients at once, streaming.

    PYTHONPATH=. python benchmarks/conversation_speed.py --size=base

A model of a size of `generation_vs_transformers.py` with random weights, float32 on the CPU, here
and in transformers. Compilation is not counted; times are medians over the turns.

- `turn 5`: seconds to the first token of the fifth turn of a talk whose first had a clip of 30 s,
  beside those of the same new message without a history, and transformers', which is given the
  whole history as people call it.
- `eight clients`: tokens/s where each of eight sends one request after another, with answers of 8
  to 128 tokens and clips of 3 to 5 s; beside the same requests one after another, and transformers'
  batches of eight, each as long as its longest answer.
- `streaming`: tokens/s of an answer that comes id by id, beside that of `generate` in one program.
"""

import argparse
import functools
import os
import threading
import time
from collections.abc import Callable

import generation_vs_transformers as peers
import jax
import numpy as np
import torch
from flax import nnx
from rich.console import Console
from rich.table import Table

from data_pipelines.examples import Example, Preprocessor, empty_batch, fill_row
from qwen_audio_jax.audio.lengths import packed_frames
from qwen_audio_jax.inference.by_layer import by_layer
from qwen_audio_jax.inference.engine import Engine, EngineConfig, Request
from qwen_audio_jax.inference.generate import generate
from qwen_audio_jax.inference.loading import Loaded
from qwen_audio_jax.parallel.sharding import make_mesh
from qwen_audio_jax.rendering import Tokens

NEW, LONG, STOP = 24, 1024, (peers.NEVER,)


def loaded_of(graph: nnx.GraphDef, state: nnx.State) -> Loaded:
    """A model, made ready."""
    config = nnx.merge(graph, state).config
    graph, parameters = by_layer(config, nnx.to_pure_dict(state))
    mesh = make_mesh({"replica": 1, "fsdp": 1, "tensor": 1}, jax.devices()[:1])
    made = Preprocessor(None, "qwen2_audio", "prompts", peers.MEL_BINS, "ceil")
    return Loaded("peer", "qwen2_audio", config, graph, parameters, mesh, made, True)


def example(tokens: np.ndarray, mels: list[np.ndarray]) -> Example:
    """A prompt with features of clips, [frames, M] each."""
    audio = np.where(tokens == peers.AUDIO, np.cumsum(tokens == peers.AUDIO) - 1, -1)
    clips = [np.pad(mel, ((0, packed_frames(len(mel)) - len(mel)), (0, 0))) for mel in mels]
    text = Tokens(tokens.astype(np.int32), np.zeros(len(tokens), np.float32), audio)
    return Example(text, tuple(clips), tuple(map(len, mels)))


def words(random: np.random.Generator, number: int) -> np.ndarray:
    return random.integers(3, peers.PAD, number)


def heard(random: np.random.Generator, frames: int) -> tuple[np.ndarray, np.ndarray]:
    """(placeholders, features) of a clip."""
    mel = (0.4 * random.standard_normal((frames, peers.MEL_BINS))).astype(np.float32)
    return np.full((frames + 1) // 4, peers.AUDIO), mel


def theirs(examples: list[Example]) -> dict[str, torch.Tensor]:
    """The same prompts for transformers: left-padded, in windows of 30 s."""
    rows = [one.text.tokens for one in examples]
    longest = max(map(len, rows))
    ids = np.array([[peers.PAD] * (longest - len(row)) + row.tolist() for row in rows])
    frames = [n for one in examples for n in one.clip_frames]
    mels = np.full((len(frames), peers.WINDOW, peers.MEL_BINS), -0.6, np.float32)
    clips = (clip for one in examples for clip in one.clips)
    for mel, clip, n in zip(mels, clips, frames, strict=True):
        mel[:n] = clip[:n]
    within = np.arange(peers.WINDOW) < np.array(frames)[:, None]
    return dict(
        input_ids=torch.from_numpy(ids),
        attention_mask=torch.from_numpy((ids != peers.PAD).astype(np.int64)),
        input_features=torch.from_numpy(mels.swapaxes(1, 2).copy()),
        feature_attention_mask=torch.from_numpy(within.astype(np.int64)),
    )


def seconds(work: Callable[[], object]) -> float:
    begun = time.perf_counter()
    work()
    return time.perf_counter() - begun


def turn_five(engine: Engine, original, turns: int) -> list[tuple[str, ...]]:
    """Seconds to the first token."""
    random, found = np.random.default_rng(0), []
    for talk in range(turns + 1):  # the first compiles
        placeholders, mel = heard(random, 3000)
        history = np.concatenate([words(random, 20), placeholders])
        for _ in range(4):
            history = np.concatenate([history, words(random, 16)])
            answer = engine.submit(Request(example(history, [mel]), STOP, NEW, talk=str(talk)))
            history = np.concatenate([history, list(answer)])
        said = words(random, 16)
        whole = example(np.concatenate([history, said]), [mel])
        reused = engine.submit(Request(whole, STOP, 1, talk=str(talk)))
        reused.wait()
        # An answer's last token is read with what follows it.
        if (reused.usage.reused_tokens, reused.usage.clips_encoded) != (len(history) - 1, 0):
            raise SystemExit(f"the fifth turn computes what was there: {reused.usage}")
        alone = engine.submit(Request(example(said, []), STOP, 1))
        alone.wait()
        given = theirs([whole])
        anew = seconds(lambda g=given: original.generate(**g, max_new_tokens=1, do_sample=False))
        found.append([one.usage.first_token_seconds for one in (reused, alone)] + [anew])
    turn, alone, anew = np.median(found[1:], axis=0)
    return [
        ("turn 5, seconds to the first token", f"{turn:.4f}", ""),
        ("its new message without a history", f"{alone:.4f}", f"{turn / alone:.2f}"),
        ("transformers, the whole history", f"{anew:.4f}", f"{anew / turn:.1f}"),
    ]


def requests(each: int) -> list[list[Request]]:
    """Those of eight clients."""
    random, clients = np.random.default_rng(1), []
    for _ in range(8):
        mine = []
        for _ in range(each):
            placeholders, mel = heard(random, int(random.integers(300, 500)))
            tokens = np.concatenate([words(random, 4), placeholders, words(random, 28)])
            mine.append(Request(example(tokens, [mel]), STOP, int(random.integers(8, 129))))
        clients.append(mine)
    return clients


def at_once(engine: Engine, clients: list[list[Request]]) -> None:
    def client(mine):
        for request in mine:
            engine.submit(request).wait()

    threads = [threading.Thread(target=client, args=(mine,)) for mine in clients]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()


def eight_clients(loaded: Loaded, one: Engine, original, each: int) -> list[tuple[str, ...]]:
    """Tokens/s."""
    clients = requests(each)
    flat = [request for mine in clients for request in mine]
    eight = Engine(loaded, EngineConfig(slots=8, lengths=(256, 384)))
    at_once(eight, [mine[:1] for mine in clients])
    one.submit(flat[0]).wait()
    together = seconds(lambda: at_once(eight, clients))
    eight.close()
    in_turn = seconds(lambda: [one.submit(request).wait() for request in flat])

    def batches():
        for first in range(0, len(flat), 8):
            some = flat[first : first + 8]
            given = theirs([request.example for request in some])
            longest = max(request.max_new_tokens for request in some)
            original.generate(**given, max_new_tokens=longest, do_sample=False)

    static, tokens = seconds(batches), sum(request.max_new_tokens for request in flat)
    return [
        ("eight clients, tokens/s", f"{tokens / together:.1f}", ""),
        ("one after another", f"{tokens / in_turn:.1f}", f"{in_turn / together:.2f}"),
        ("transformers, batches of eight", f"{tokens / static:.1f}", f"{static / together:.2f}"),
    ]


def streaming(
    engine: Engine, graph: nnx.GraphDef, state: nnx.State, turns: int
) -> list[tuple[str, ...]]:
    """Tokens/s, with the prompt."""
    request = requests(1)[0][0]
    request = Request(request.example, STOP, 128)
    tokens = len(request.example.text.tokens)
    batch = empty_batch(1, tokens, 512, peers.MEL_BINS)
    fill_row(batch, 0, [request.example])
    program = jax.jit(functools.partial(generate, graph, stop=STOP, max_new_tokens=128))
    plain = lambda: np.asarray(program(state, batch))[0].tolist()  # noqa: E731
    if list(engine.submit(request)) != plain():
        raise SystemExit("the two write different ids")
    times = [[seconds(lambda: list(engine.submit(request))), seconds(plain)] for _ in range(turns)]
    streamed, whole = np.median(times, axis=0)
    return [
        ("streaming, tokens/s", f"{128 / streamed:.1f}", ""),
        ("generate", f"{128 / whole:.1f}", f"{whole / streamed:.2f}"),
    ]


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--turns", type=int, default=5, help="default: 5")
    parser.add_argument("--each", type=int, default=8, help="requests of a client (default: 8)")
    parser.add_argument("--size", choices=peers.SIZES, default="30m", help="default: 30m")
    names = ("turn", "streaming", "clients")
    parser.add_argument("--only", nargs="+", choices=names, default=names, help="default: all")
    options = parser.parse_args()
    torch.set_num_threads(os.cpu_count())
    original = peers.peer(options.size)
    graph, state = peers.ours_of(original)
    loaded = loaded_of(graph, state)
    engine = Engine(loaded, EngineConfig(slots=1, lengths=(256, LONG)))
    with torch.inference_mode():
        parts = {
            "turn": lambda: turn_five(engine, original, options.turns),
            "streaming": lambda: streaming(engine, graph, state, options.turns),
            "clients": lambda: eight_clients(loaded, engine, original, options.each),
        }
        for name in options.only:
            table = Table("", "", "ratio")
            for row in parts[name]():
                table.add_row(*row)
            Console().print(table)
    engine.close()


if __name__ == "__main__":
    main()
