"""What several rooms' tests share: tiny models, examples made from a seed, and how tests run."""

import collections
import copy
import functools
import inspect
import io
import os
import pathlib
import runpy
import signal
import subprocess
import sys
import tempfile
from collections.abc import Sequence

import jax
import numpy as np
import pytest
import soundfile
from flax import nnx
from hypothesis import HealthCheck, settings

from data_pipelines.examples import Example, Preprocessor, asked
from data_pipelines.records import Record
from data_pipelines.shards import write_split
from qwen_audio_jax.audio.decode import decode
from qwen_audio_jax.audio.lengths import audio_tokens, packed_frames
from qwen_audio_jax.models.presets import DecoderConfig, EncoderConfig, ModelConfig
from qwen_audio_jax.models.qwen_audio import QwenAudio
from qwen_audio_jax.rendering import Tokens
from qwen_audio_jax.text.tokenizer import train_sentencepiece

TESTS = pathlib.Path(__file__).parent
BEGIN, PLACEHOLDER, END = 90, 91, 92

# Below a shell's `&` it is ignored, by what tests start as well; some of that must hear it.
if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
    signal.signal(signal.SIGINT, signal.default_int_handler)

# Half of the time of tests would be XLA's, so it compiles quickly here, to slower programs. Where
# other marks are asked for than by default, or XLA_FLAGS is set (be it empty), it compiles as ever.
QUICK = "--xla_backend_optimization_level=0"
if jax.version.__version_info__ < (0, 11):
    # In one piece: the other workers keep the other cores busy.
    QUICK += " --xla_cpu_use_fusion_emitters=false --xla_cpu_parallel_codegen_split_count=1"

# Files are handed to the workers in this order, so that none waits for a long one at the end.
LONG = (
    "training/test_loop.py",
    "parallel/test_distributed.py",
    "training/test_step.py",
    "parallel/test_group.py",
    "models",
    "conversion",
    "launch",
    "monitoring/test_goodput.py",
    "benchmarks",
)

# Above this the ten slowest are named: the tests shall take ten minutes at most on two cores.
BUDGET_SECONDS = 1000


def pytest_configure(config):
    if config.option.markexpr == "not slow and not tpu_aot":
        os.environ.setdefault("XLA_FLAGS", QUICK)
    os.chdir(config.rootpath)  # processes that tests start find the checkout's code and configs/
    folder = kept_programs(config)
    os.environ["XDG_CACHE_HOME"] = str(folder)  # where runs of `main` keep their programs
    jax.config.update("jax_compilation_cache_dir", str(folder / "in_tests"))
    jax.config.update("jax_persistent_cache_min_compile_time_secs", 0.2)


def kept_programs(config) -> pathlib.Path:
    """A folder that the next run of the tests finds again; `pytest --cache-clear` deletes it.

    Where pytest has no cache, or may not write there, a temporary one.
    """
    try:
        return config.cache.mkdir("compiled")
    except (AttributeError, OSError):
        temporary = tempfile.TemporaryDirectory(prefix="compiled-")
        config.add_cleanup(temporary.cleanup)
        return pathlib.Path(temporary.name)


def pytest_collection_modifyitems(items):
    def place(item):
        path = item.path.relative_to(TESTS).as_posix()
        return next((i for i, long in enumerate(LONG) if path.startswith(long)), len(LONG))

    items.sort(key=place)


def pytest_terminal_summary(terminalreporter):
    reports = [r for found in terminalreporter.stats.values() for r in found]
    seconds = collections.Counter()
    for report in reports:
        seconds[getattr(report, "nodeid", "")] += getattr(report, "duration", 0.0)
    if seconds.total() > BUDGET_SECONDS:
        terminalreporter.section("slow tests")
        terminalreporter.line(
            f"The tests took {seconds.total():,.0f} s, more than {BUDGET_SECONDS:,} s, added up "
            "over all workers. On a quiet machine, make these faster:",
            yellow=True,
        )
        for name, duration in seconds.most_common(10):
            terminalreporter.line(f"{duration:7.1f} s  {name}")


# No time is asserted in a test: on a busy machine a property takes what it takes.
settings.register_profile("unhurried", deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile("unhurried")


def tiny_config(family: str, **decoder) -> ModelConfig:
    """A model of two narrow layers; encoder width and decoder width differ, heads are grouped."""
    return ModelConfig(
        family=family,
        encoder=EncoderConfig(mel_bins=16, layers=2, width=24, heads=3, max_positions=64),
        decoder=DecoderConfig(
            vocab_size=96, layers=2, width=32, heads=4, kv_heads=2, head_dim=8, mlp_width=48
        )
        if not decoder
        else DecoderConfig(**decoder),
        frame_rounding="floor" if family == "qwen_audio" else "ceil",
        delimiter_embeddings=family == "qwen_audio",
        audio_begin=BEGIN,
        audio_end=END,
    )


@pytest.fixture(params=["qwen_audio", "qwen2_audio"])
def config(request) -> ModelConfig:
    return tiny_config(request.param)


@pytest.fixture
def model(config) -> QwenAudio:
    return QwenAudio(config, nnx.Rngs(0))


def make_example(seed: int, clip_frames: tuple[int, ...], text: int = 7, mel_bins: int = 16):
    """An example of random features and tokens; its last half of text is learned."""
    random = np.random.default_rng(seed)
    tokens, audio, first = [], [], 0
    for frames in clip_frames:
        n = audio_tokens(frames)
        tokens += [BEGIN, *[PLACEHOLDER] * n, END]
        audio += [-1, *range(first, first + n), -1]
        first += n
    words = random.integers(1, 80, text)
    weights = np.zeros(len(tokens) + text, np.float32)
    weights[len(tokens) + text // 2 :] = 1
    return Example(
        Tokens(
            np.array([*tokens, *words], np.int32),
            weights,
            np.array([*audio, *[-1] * text], np.int32),
        ),
        tuple(
            random.standard_normal((packed_frames(frames), mel_bins)).astype(np.float32)
            for frames in clip_frames
        ),
        clip_frames,
    )


def flac(wave: np.ndarray, rate: int = 16000) -> bytes:
    """A waveform as the bytes of a FLAC file."""
    file = io.BytesIO()
    soundfile.write(file, wave, rate, format="FLAC")
    return file.getvalue()


def tone_record(number: int) -> Record:
    """A short tone or burst of noise, labelled truly; ids and lengths differ."""
    random = np.random.default_rng(number)
    kind = ("tone", "noise")[number % 2]
    time = np.arange(4000 + 160 * (number % 9)) / 16000
    wave = np.sin(2 * np.pi * (200 + 50 * (number % 7)) * time)
    wave = 0.3 * (wave if kind == "tone" else random.standard_normal(len(time)).clip(-3, 3) / 3)
    annotation = {"text": kind, "source": "test", "license": "Apache-2.0"}
    return Record(f"{kind}-{number}", "instrument_classification", (flac(wave),), annotation)


def questions_of(preprocessor: Preprocessor, record: Record) -> list[tuple[Example, str]]:
    """What a record asks, and the reference answers' texts."""
    waves = list(map(decode, record.audio))
    each = asked(record.task, record.annotation)
    return [preprocessor.question(record.task, annotation, waves) for annotation in each]


def write_corpus(
    folder: pathlib.Path,
    train: int | Sequence[int],
    validation: int | Sequence[int] = (),
    text: Sequence[str] = ("tone", "noise"),
) -> None:
    """Writes a corpus of `tone_record`s, so many or of these numbers, with a text's vocabulary."""
    folder.mkdir(parents=True)
    train = range(train) if isinstance(train, int) else train
    if isinstance(validation, int):
        validation = range(len(train), len(train) + validation)
    for split, numbers in (("train", train), ("validation", validation)):
        if numbers:
            records = map(tone_record, numbers)
            measured = ((r, tuple(len(decode(clip)) for clip in r.audio)) for r in records)
            write_split(folder, split, measured)
    train_sentencepiece(text, ["en"], folder / "tokenizer", pieces=16)


def pretrain_values(name: str = "tiny", file: str = "pretrain") -> dict:
    """The keys of configs/pretrain.py, or another of the files there, as `main` reads them."""
    module = runpy.run_path(str(TESTS.parent / "configs" / f"{file}.py"))
    return module["get_config"](name).to_dict()


def changed(values: dict, key: str, value) -> dict:
    """Values with another one at a key such as "train.steps"."""
    values = copy.deepcopy(values)
    *groups, last = key.split(".")
    group = values
    for name in groups:
        group = group[name]
    group[last] = value
    return values


def on_eight_devices(test):
    """Runs a test in a process of its own, where the CPU stands for 8 devices.

    Its fixtures are made in both processes, and used in that one.
    """

    @functools.wraps(test)
    def outer(**fixtures):
        if jax.device_count() == 8:
            return test(**fixtures)
        devices = {"XLA_FLAGS": "--xla_force_host_platform_device_count=8", "JAX_PLATFORMS": "cpu"}
        name = f"{inspect.getfile(test)}::{test.__name__}"
        command = [sys.executable, "-m", "pytest", "-q", "-m", "", "-n", "0", name]
        done = subprocess.run(
            command, env=os.environ | devices, capture_output=True, text=True, check=False
        )
        assert done.returncode == 0, done.stdout[-5000:]
        return None

    return outer


@pytest.fixture(scope="session")
def references() -> pathlib.Path:
    """The folder of large reference files, or a skip that says how to get it."""
    folder = os.environ.get("QWEN_AUDIO_REFERENCES")
    if not folder or not pathlib.Path(folder).is_dir():
        pytest.skip("set QWEN_AUDIO_REFERENCES to the folder of reference files to run this")
    return pathlib.Path(folder).resolve()
