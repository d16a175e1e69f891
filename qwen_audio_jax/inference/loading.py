"""A checkpoint, made ready to answer: its parameters on the mesh, its vocabulary, its prompts."""

import dataclasses
import itertools
import json
import pathlib
from collections.abc import Callable, Iterable, Mapping
from typing import Any

import jax
import numpy as np
from flax import nnx
from jax.sharding import Mesh

from data_pipelines.examples import Preprocessor
from qwen_audio_jax.audio.silence import silence_frames
from qwen_audio_jax.checkpoint import by_path, last_step, run_folder
from qwen_audio_jax.conversion import companions, importing, names, vocabulary
from qwen_audio_jax.conversion.adapter_importing import is_adapter, open_adapter
from qwen_audio_jax.conversion.adapter_modules import rows_of
from qwen_audio_jax.conversion.shapes import parameter_shapes, tensor_shapes
from qwen_audio_jax.conversion.sources import Source, open_source
from qwen_audio_jax.conversion.weight_files import Stored
from qwen_audio_jax.inference.by_layer import by_layer
from qwen_audio_jax.models.parts import MODEL_FILE, Parts, path_name, read_parts
from qwen_audio_jax.models.presets import COMPUTE, ModelConfig
from qwen_audio_jax.models.qwen_audio import QwenAudio
from qwen_audio_jax.parallel.sharding import make_mesh, shardings
from qwen_audio_jax.rendering.prompts import templates_of
from qwen_audio_jax.saved_parameters import SavedParameters
from qwen_audio_jax.step_config import MESH_AXES
from qwen_audio_jax.tasks import CONVERSATIONS
from qwen_audio_jax.text.control_tokens import IM_END, IM_START
from qwen_audio_jax.text.tokenizer import Tokenizer, load_tokenizer

_Wanted = Mapping[str, jax.ShapeDtypeStruct]
"""Shape, dtype and sharding of parameters, by path."""

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
        parameters: nested dict of arrays on the mesh, both as `by_layer` gives them.
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


@dataclasses.dataclass(frozen=True)
class _Opened:
    """A checkpoint before its parameters are read.

    Attributes:
        folder: that it is called by.
        parts: its configuration.
        tokenizer: its vocabulary.
        source: its tensors, as an adapter of PEFT is compared with them.
        read: parameters by path -> these on the mesh.
        data: `config.data` of a run; nothing of an import.
        tuned: see `Loaded`.
    """

    folder: pathlib.Path
    parts: Parts
    tokenizer: Tokenizer
    source: Source
    read: Callable[[_Wanted], dict[str, jax.Array]]
    data: Mapping[str, Any]
    tuned: bool


def load(
    checkpoint: pathlib.Path | str, *, adapter: pathlib.Path | str = "", mesh: Mesh | None = None
) -> Loaded:
    """Loads a model.

    Args:
        checkpoint: a run folder (its last step), one of its step folders, what `convert import`
            wrote, or a PyTorch folder as `convert export` writes it.
        adapter: what is put upon it: the folder of a LoRA run that started from it, or PEFT's.
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
    folders = [pathlib.Path(folder) for folder in (checkpoint, adapter) if str(folder)]
    for folder in folders:
        if not folder.is_dir():
            raise FileNotFoundError(f"{folder}: is not a folder")
    if len(folders) == 1:
        return _loaded(_opened(folders[0]), mesh)
    if is_adapter(folders[1]):
        return _loaded(_with_peft(_opened(folders[0]), folders[1]), mesh)
    return _loaded(_with_run(*folders), mesh)


def _opened(folder: pathlib.Path) -> _Opened:
    if is_adapter(folder):
        raise ValueError(
            f"{folder}: holds an adapter alone; give the model that it was trained on as the "
            "checkpoint, and this folder as the adapter"
        )
    if (run_folder(folder) / MODEL_FILE).is_file():
        return _open_checkpoint(folder)
    if (run_folder(folder) / "checkpoints").is_dir():
        raise FileNotFoundError(
            f"{run_folder(folder) / MODEL_FILE}: is missing, and says what the parameters of this "
            "folder are; put it back from a copy"
        )
    if (folder / "config.json").is_file():
        return _open_original(folder)
    inside = [one.parent for one in sorted(folder.glob(f"*/{MODEL_FILE}"))]
    mend = f"; did you mean {inside[0]}?" if inside else ""
    if folder.name == "checkpoints" and (folder.parent / MODEL_FILE).is_file():
        mend = f"; give the run, {folder.parent}, or one of its steps, {last_step(folder.parent)}"
    raise FileNotFoundError(
        f"{folder}: is neither a run folder nor one that was imported or exported{mend}"
    )


def _open_checkpoint(folder: pathlib.Path, moved_to: str = "") -> _Opened:
    """A run or an import; `moved_to` is where the weights lie that a run kept frozen."""
    run = run_folder(folder)
    parts = read_parts(run)
    if not parts.whole:
        raise ValueError(f"{run}: is a part of a model; train one from it first")
    if not (run / "tokenizer").is_dir():
        raise ValueError(
            f"{run / 'tokenizer'}: is missing; import the model again, together with its "
            "tokenizer files"
        )
    saved = SavedParameters(last_step(folder), moved_to)
    rows = names.distinct(rows_of(parts, "4"))
    shapes = tensor_shapes(rows, parameter_shapes(dataclasses.replace(parts, adapters=())))
    tensors = {name: Stored(run, 0, shape, "F32") for name, shape in shapes.items()}

    def read(wanted: _Wanted) -> dict[str, jax.Array]:
        if differing := wanted.keys() ^ saved.shapes().keys():
            raise ValueError(
                f"{saved.step}: its parameters are not those of its {MODEL_FILE}: "
                f"{min(differing)} is in one of them alone; put both back from a copy"
            )
        saved.verify()
        return saved.load(wanted)[0]

    source = Source(run, parts.family, parts, rows, tensors)
    tokenizer = load_tokenizer(run / "tokenizer")
    return _Opened(run, parts, tokenizer, source, read, _settings(run), _tuned(run))


def _open_original(folder: pathlib.Path) -> _Opened:
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

    def read(wanted: _Wanted) -> dict[str, jax.Array]:
        arrays = vocabulary.with_rows(importing.parameters(source), parts, tokenizer)
        return _placed(arrays, wanted)

    return _Opened(folder, parts, tokenizer, source, read, {}, True)


def _with_run(base: pathlib.Path, folder: pathlib.Path) -> _Opened:
    """A LoRA run upon what it started from."""
    opened = _open_checkpoint(folder, str(base))
    if not opened.parts.adapters:
        raise ValueError(
            f"{folder}: has no adapters; it is a model of its own and no LoRA run upon {base}, so "
            "give it as the checkpoint, without an adapter"
        )
    started = SavedParameters(last_step(folder), str(base)).base
    here = run_folder(base).resolve()
    if started is not None and here not in started.step.resolve().parents:
        raise ValueError(
            f"{folder}: was trained on {started.step}, and not on {base}; give that as the "
            "checkpoint, or this folder alone"
        )
    return opened


def _with_peft(base: _Opened, folder: pathlib.Path) -> _Opened:
    """An adapter of PEFT upon a model."""
    if base.parts.adapters:
        raise ValueError(
            f"{folder}: {base.folder} has adapters already, and a model has one at a time; merge "
            "them by convert export and put this one upon that"
        )
    adapter = open_adapter(folder, base.source)
    rows = tuple(row for row in base.source.rows if row.path in adapter.whole)
    whole = dataclasses.replace(adapter.base, rows=rows)

    def read(wanted: _Wanted) -> dict[str, jax.Array]:
        own = {path for path in wanted if path.endswith(("/lora_a", "/lora_b"))}
        of_base = base.read({path: leaf for path, leaf in wanted.items() if path not in own})
        arrays = itertools.chain(adapter.parameters(), importing.parameters(whole))
        return of_base | _placed(arrays, wanted)

    parts = dataclasses.replace(base.parts, adapters=adapter.adapters)
    return dataclasses.replace(base, folder=folder, parts=parts, read=read)


def _placed(arrays: Iterable[tuple[str, np.ndarray]], wanted: _Wanted) -> dict[str, jax.Array]:
    """Arrays by path, put where they are wanted one after another."""
    return {
        path: jax.device_put(array.astype(wanted[path].dtype), wanted[path].sharding)
        for path, array in arrays
    }


def _loaded(opened: _Opened, mesh: Mesh) -> Loaded:
    """Reads the parameters: the decoder's in the compute dtype, which each answer would cast to."""
    compute = COMPUTE[mesh.devices.flat[0].platform]
    model = dataclasses.replace(opened.parts.model(), compute=compute)
    state = nnx.state(nnx.eval_shape(lambda: QwenAudio(model, nnx.Rngs(0))))
    shapes = nnx.to_pure_dict(state)

    def one(path, leaf, sharding):
        dtype = compute.dtype if path_name(path).startswith("decoder/") else leaf.dtype
        return jax.ShapeDtypeStruct(leaf.shape, dtype, sharding=sharding)

    wanted = jax.tree_util.tree_map_with_path(one, shapes, shardings(shapes, mesh))
    read = opened.read(by_path(wanted))
    stacked = jax.tree_util.tree_map_with_path(lambda path, _: read[path_name(path)], wanted)
    graph, parameters = by_layer(model, stacked, delete=True)
    preprocessor = _preprocessor(model, opened.tokenizer, opened.data)
    talks = all(name in opened.tokenizer.control_ids for name in (IM_START, IM_END))
    name, tuned = opened.folder.resolve().name, talks and opened.tuned
    return Loaded(name, model.family, model, graph, parameters, mesh, preprocessor, tuned)


def _preprocessor(
    model: ModelConfig, tokenizer: Tokenizer, data: Mapping[str, Any]
) -> Preprocessor:
    return Preprocessor(
        tokenizer,
        model.family,
        data.get("conditioning") or _CONDITIONING[model.family],
        model.encoder.mel_bins,
        model.frame_rounding,
        data.get("max_seconds") or 300.0,
        silence=silence_frames(model.encoder.window),
        templates=templates_of(data.get("prompts") or {}, data.get("prompt_language") or "all"),
    )


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
        return any(row["task"] in CONVERSATIONS for row in json.loads(path.read_text()))
    except (OSError, ValueError, KeyError, TypeError):
        return True
