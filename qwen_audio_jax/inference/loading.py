"""A checkpoint, made ready to answer: its parameters on the mesh, its vocabulary, its prompts."""

import dataclasses
import json
import pathlib
from collections.abc import Iterable, Mapping
from typing import Any

import jax
import numpy as np
from flax import nnx
from jax.sharding import Mesh

from data_pipelines.examples import Preprocessor
from qwen_audio_jax.audio.silence import silence_frames
from qwen_audio_jax.checkpoint import by_path, last_step, load_parameters, run_folder
from qwen_audio_jax.conversion import companions, importing, vocabulary
from qwen_audio_jax.conversion.sources import open_source
from qwen_audio_jax.models.parts import MODEL_FILE, Parts, path_name, read_parts
from qwen_audio_jax.models.presets import COMPUTE, ModelConfig
from qwen_audio_jax.models.qwen_audio import QwenAudio
from qwen_audio_jax.parallel.sharding import make_mesh, shardings
from qwen_audio_jax.rendering.prompts import templates_of
from qwen_audio_jax.step_config import MESH_AXES
from qwen_audio_jax.tasks import CHAT
from qwen_audio_jax.text.control_tokens import IM_END, IM_START
from qwen_audio_jax.text.tokenizer import Tokenizer, load_tokenizer

_CONDITIONING = {"qwen_audio": "tags", "qwen2_audio": "prompts"}
"""What the originals were trained with, for a model without a run's config.json."""


@dataclasses.dataclass(frozen=True)
class Loaded:
    """A model ready to answer.

    Attributes:
        name: for people, and for GET /v1/models: the folder's.
        family: "qwen_audio" or "qwen2_audio".
        model: its configuration.
        graph: of the model, see `nnx.split`.
        parameters: nested dict of arrays on the mesh; the decoder's in the compute dtype.
        mesh: where they lie.
        preprocessor: how records and conversations become prompts.
        tuned: whether it is known to be tuned on conversations, or nothing tells that it is not.
    """

    name: str
    family: str
    model: ModelConfig
    graph: nnx.GraphDef
    parameters: Any
    mesh: Mesh
    preprocessor: Preprocessor
    tuned: bool

    @property
    def tokenizer(self) -> Tokenizer:
        """The vocabulary."""
        return self.preprocessor.tokenizer


def load(
    checkpoint: pathlib.Path | str, *, adapter: pathlib.Path | str = "", mesh: Mesh | None = None
) -> Loaded:
    """Loads a model.

    Args:
        checkpoint: a run folder (its last step), one of its step folders, what `convert import`
            wrote, or a PyTorch folder as `convert export` writes it.
        adapter: what is put upon it: the folder of a LoRA run that started from it.
        mesh: where to; all devices of this process if None, parameters divided over them.

    Raises:
        ValueError, OSError: one sentence that names the folder and the mend.
    """
    if jax.process_count() > 1:
        raise ValueError(
            f"{checkpoint}: answers are given by one process, and this is one of "
            f"{jax.process_count()}; start it on one machine, without a coordinator"
        )
    mesh = make_mesh(dict.fromkeys(MESH_AXES, 1) | {"fsdp": -1}) if mesh is None else mesh
    checkpoint = pathlib.Path(checkpoint)
    if not checkpoint.is_dir():
        raise FileNotFoundError(f"{checkpoint}: is not a folder")
    if (
        not (run_folder(checkpoint) / MODEL_FILE).is_file()
        and (checkpoint / "config.json").is_file()
    ):
        return _load_original(checkpoint, mesh)
    return _load_checkpoint(pathlib.Path(adapter or checkpoint), mesh)


def _load_checkpoint(folder: pathlib.Path, mesh: Mesh) -> Loaded:
    run = run_folder(folder)
    parts = read_parts(run)
    if not parts.whole:
        raise ValueError(f"{run}: is a part of a model; train one from it first")
    last_step(folder)
    if not (run / "tokenizer").is_dir():
        raise ValueError(
            f"{run / 'tokenizer'}: is missing; import the model again, together with its "
            "tokenizer files"
        )
    tokenizer = load_tokenizer(run / "tokenizer")
    graph, wanted, model = _wanted(parts, mesh)
    parameters = load_parameters(folder, wanted)
    settings = _settings(run)
    return _loaded(run, model, graph, parameters, mesh, tokenizer, settings, _tuned(run))


def _load_original(folder: pathlib.Path, mesh: Mesh) -> Loaded:
    """A PyTorch folder, imported into memory."""
    source = open_source(folder)
    if not source.parts.whole:
        raise ValueError(f"{folder}: is a {source.title}; only a whole model answers")
    tokenizer, first_new = vocabulary.take_tokenizer([source], source.parts)
    if tokenizer is None:
        raise ValueError(
            f"{folder}: holds neither tokenizer.json nor qwen.tiktoken; put the model's there"
        )
    companions.check_features(folder, source.parts.encoder)
    config = folder / "config.json"
    parts = vocabulary.with_vocabulary(source.parts, tokenizer, config, first_new)
    graph, wanted, model = _wanted(parts, mesh)
    arrays = vocabulary.with_rows(importing.parameters(source), parts, tokenizer)
    parameters = _placed(arrays, wanted)
    return _loaded(folder, model, graph, parameters, mesh, tokenizer, {}, True)


def _wanted(parts: Parts, mesh: Mesh) -> tuple[nnx.GraphDef, Any, ModelConfig]:
    """(graph, ShapeDtypeStructs of the parameters on the mesh, the model's configuration).

    The decoder is wanted in its compute dtype, which it would be cast to for every answer.
    """
    compute = COMPUTE[mesh.devices.flat[0].platform]
    model = dataclasses.replace(parts.model(), compute=compute)
    graph, state = nnx.split(nnx.eval_shape(lambda: QwenAudio(model, nnx.Rngs(0))))
    shapes = nnx.to_pure_dict(state)

    def one(path, leaf, sharding):
        dtype = compute.dtype if path_name(path).startswith("decoder/") else leaf.dtype
        return jax.ShapeDtypeStruct(leaf.shape, dtype, sharding=sharding)

    wanted = jax.tree_util.tree_map_with_path(one, shapes, shardings(shapes, mesh))
    return graph, wanted, model


def _placed(arrays: Iterable[tuple[str, np.ndarray]], wanted: Any) -> Any:
    """Arrays by path, put where they are wanted one after another."""
    leaves = by_path(wanted)
    placed = {
        path: jax.device_put(array.astype(leaves[path].dtype), leaves[path].sharding)
        for path, array in arrays
    }
    return jax.tree_util.tree_map_with_path(lambda path, _: placed[path_name(path)], wanted)


def _loaded(
    folder: pathlib.Path,
    model: ModelConfig,
    graph: nnx.GraphDef,
    parameters: Any,
    mesh: Mesh,
    tokenizer: Tokenizer,
    data: Mapping[str, Any],
    tuned: bool,
) -> Loaded:
    preprocessor = Preprocessor(
        tokenizer,
        model.family,
        data.get("conditioning") or _CONDITIONING[model.family],
        model.encoder.mel_bins,
        model.frame_rounding,
        data.get("max_seconds") or 300.0,
        silence=silence_frames(model.encoder.window),
        templates=templates_of(data.get("prompts") or {}, data.get("prompt_language") or "all"),
    )
    talks = all(name in tokenizer.control_ids for name in (IM_START, IM_END))
    name = folder.resolve().name
    return Loaded(name, model.family, model, graph, parameters, mesh, preprocessor, talks and tuned)


def _settings(run: pathlib.Path) -> dict[str, Any]:
    """`config.data` of a run; nothing of an import.

    Raises:
        ValueError: its config.json is damaged.
    """
    path = run / "config.json"
    if not path.is_file():
        return {}
    try:
        return dict(json.loads(path.read_text())["data"])
    except (ValueError, KeyError, TypeError) as error:
        raise ValueError(
            f"{path}: is damaged ({error}); checkpoints/STEP/config has the same values"
        ) from error


def _tuned(run: pathlib.Path) -> bool:
    """Whether a run was evaluated on conversations, or nothing tells what it was trained on."""
    path = run / "evaluation.json"
    try:
        return any(row["task"] == CHAT for row in json.loads(path.read_text()))
    except (OSError, ValueError, KeyError, TypeError):
        return True
