"""Two tiny models and a server that has them: a plugin of the API's tests."""

from collections.abc import Iterator

import pytest
import tiny_models
from api_server import CONFIG, ENDLESS, TINY, Running, running, state_of

from qwen_audio_jax.inference.engine import Engine
from qwen_audio_jax.inference.loading import load
from qwen_audio_jax.serving.served import Models, Served


@pytest.fixture(scope="session")
def models(tmp_path_factory) -> Iterator[Models]:
    """A model whose answers end, and one whose do not."""
    served = []
    for seed, (name, ending) in enumerate({TINY: 1.5, ENDLESS: 0.0}.items()):
        folder = tiny_models.write_model(tmp_path_factory.mktemp("models") / name, seed, ending)
        loaded = load(folder)
        served.append(Served(name, loaded, Engine(loaded, CONFIG)))
    yield Models(served)
    for one in served:
        one.engine.close()


@pytest.fixture(scope="session")
def api(models) -> Iterator[Running]:
    """The server of most tests."""
    with running(state_of(models)) as server:
        yield server
