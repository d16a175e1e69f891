"""PyTorch folders into a checkpoint, a few parameters at a time."""

import concurrent.futures
import ctypes
import dataclasses
import gc
import itertools
import math
import os
import pathlib
from collections.abc import Iterable, Iterator, Sequence

import jax
import numpy as np
from orbax.checkpoint import v1 as ocp
from tqdm import tqdm

from qwen_audio_jax.conversion import adapter_importing, companions, names, vocabulary
from qwen_audio_jax.conversion.errors import ConversionError
from qwen_audio_jax.conversion.finite import require_finite
from qwen_audio_jax.conversion.names import Row
from qwen_audio_jax.conversion.output import whole_folder
from qwen_audio_jax.conversion.prefetch import prefetch
from qwen_audio_jax.conversion.shapes import parameter_shapes, tensor_names
from qwen_audio_jax.conversion.sources import Source, open_source
from qwen_audio_jax.conversion.weight_files import DTYPES
from qwen_audio_jax.models.parts import Parts, write_parts
from qwen_audio_jax.rendering.language_codes import tagged_languages
from qwen_audio_jax.text.tokenizer import Tokenizer

_GROUP_BYTES = 512 << 20
"""Small parameters are saved together until they are this much."""

_CHUNK_BYTES = 256 << 20
"""Large ones are stored in pieces of this size."""


def run(folders: Sequence[pathlib.Path], out: pathlib.Path, languages: Sequence[str] = ()) -> None:
    """`convert import`.

    Args:
        folders: the sources.
        out: a new folder.
        languages: codes that get a tag beside those that every vocabulary has.

    Raises:
        ConversionError: see `sources.open_source`, `combine`, `adapter_importing`, `vocabulary`
            and `output.whole_folder`.
    """
    models, adapter_folder = adapter_importing.part(folders)
    sources, adapter = [open_source(folder) for folder in models], None
    parts = combine(sources)
    if adapter_folder:
        adapter = adapter_importing.open_adapter(adapter_folder, sources[0])
        sources, parts = [adapter.base], dataclasses.replace(parts, adapters=adapter.adapters)
    tokenizer, first_new = vocabulary.take_tokenizer(sources, parts, languages)
    decoder = next((source for source in sources if source.parts.decoder), sources[0])
    config = decoder.folder / "config.json"
    parts = vocabulary.with_vocabulary(parts, tokenizer, config, first_new)
    kept = companions.kept_files(decoder.folder)
    if not parts.family:
        kept = companions.of_text_model(kept)
    for source in sources:
        if source.parts.encoder:
            companions.check_features(source.folder, source.parts.encoder)
    needed = sum(map(total_bytes, [*sources, *filter(None, [adapter])]))
    with whole_folder(out, needed) as folder:
        arrays = itertools.chain.from_iterable(map(parameters, sources))
        if adapter:
            arrays = itertools.chain(arrays, adapter.parameters())
        arrays = vocabulary.with_rows(arrays, parts, tokenizer)
        write_checkpoint(folder / "checkpoints" / "0", arrays, needed)
        write_parts(folder, parts)
        if tokenizer:
            tokenizer.save(folder / "tokenizer")
        companions.take(kept, folder)
        if adapter:
            adapter.note(folder)
    for source in sources:
        print(f"{source.title}: {source.folder}, {len(source.tensors)} tensors")
    if parts.decoder and not tokenizer:
        print(
            f"no vocabulary: {decoder.folder} holds neither tokenizer.json nor qwen.tiktoken; a "
            "run takes its corpus's, whose ids are other words"
        )
    if adapter:
        print(adapter.summary)
    print(_summary(parts, tokenizer, out))


def _summary(parts: Parts, tokenizer: Tokenizer | None, out: pathlib.Path) -> str:
    lines = []
    if encoder := parts.encoder:
        lines.append(
            f"encoder: {encoder.layers} layers of width {encoder.width}, "
            f"{encoder.mel_bins} mel bins"
        )
    if decoder := parts.decoder:
        lines.append(
            f"decoder: {decoder.layers} layers of width {decoder.width}, "
            f"{decoder.vocab_size:,} tokens"
        )
    if tokenizer:
        lines.append(f"languages with a tag: {', '.join(tagged_languages(tokenizer)) or 'none'}")
    family = f" --config.model.family={parts.family}" if parts.family else ""
    lines.append(f"written to {out}; train from it with --config.init_from={out}{family}")
    return "\n".join(lines)


def combine(sources: Sequence[Source]) -> Parts:
    """The configuration of what several folders make together.

    Raises:
        ConversionError: two of them bring the same part.
    """
    if len(sources) == 1:
        return sources[0].parts
    for part in ("encoder", "decoder"):
        having = [source for source in sources if getattr(source.parts, part)]
        if len(having) > 1:
            raise ConversionError(
                f"{having[0].folder} and {having[1].folder} both have {_a(part)}; a new model "
                "starts from one encoder and one decoder"
            )
    encoder = next((s.parts.encoder for s in sources if s.parts.encoder), None)
    decoder = next((s.parts.decoder for s in sources if s.parts.decoder), None)
    return Parts(encoder=encoder, decoder=decoder)


def _a(part: str) -> str:
    return f"a{'n' if part[0] in 'aeiou' else ''} {part}"


def load_original(folder: pathlib.Path | str) -> tuple[Parts, dict]:
    """A whole folder in memory: (its configuration, nested dict of numpy parameters)."""
    source = open_source(pathlib.Path(folder))
    tree: dict = {}
    for path, array in parameters(source):
        *groups, last = path.split("/")
        node = tree
        for group in groups:
            node = node.setdefault(group, {})
        node[last] = array
    return source.parts, tree


def total_bytes(source: Source | adapter_importing.PeftAdapter) -> int:
    """Bytes of a source's tensors."""
    sizes = {"F32": 4, "BF16": 2, "F16": 2}
    return sum(sizes[t.dtype] * int(np.prod(t.shape)) for t in source.tensors.values())


def parameters(source: Source) -> Iterator[tuple[str, np.ndarray]]:
    """Yields (path, array) of every parameter, one at a time, in the tensors' own dtype."""
    shapes = parameter_shapes(source.parts)
    for row in source.rows:
        yield row.path, _read(source, row, shapes[row.path])


def _read(source: Source, row: Row, shape: tuple[int, ...]) -> np.ndarray:
    tensors = tensor_names(row, shape[0] if row.layered else 1)
    array = _aligned(shape, np.dtype(DTYPES[source.tensors[tensors[0]].dtype]))
    targets = array if row.layered else array[None]
    with concurrent.futures.ThreadPoolExecutor(os.cpu_count()) as threads:
        list(threads.map(lambda name, target: _copy(source, row, name, target), tensors, targets))
    return array


def _copy(source: Source, row: Row, name: str, target: np.ndarray) -> None:
    """Reads a tensor, or the row's part of it, into a parameter."""
    stored = source.tensors[name]
    index, of = row.part
    shape = (stored.shape[0] // of, *stored.shape[1:])
    size = math.prod(shape) * target.itemsize
    # Not mapped into memory: a cold mapped file comes page by page, and counts as resident.
    data = np.fromfile(stored.file, np.uint8, size, offset=stored.offset + index * size)
    tensor = data.view(target.dtype).reshape(shape)
    require_finite(tensor, f"{stored.file}: {name}")
    if row.layout == "linear":
        names.copy_transposed(target, tensor)
    else:
        target[...] = names.to_parameter(tensor, row.layout)


def _aligned(shape: tuple[int, ...], dtype: np.dtype) -> np.ndarray:
    """An empty array that JAX takes over as it is: it copies what starts at an odd address."""
    boundary = 64
    size = math.prod(shape) * dtype.itemsize
    memory = np.empty(size + boundary, np.uint8)
    start = -memory.ctypes.data % boundary
    return memory[start : start + size].view(dtype).reshape(shape)


def write_checkpoint(
    step: pathlib.Path, arrays: Iterable[tuple[str, np.ndarray]], bytes_in_all: int
) -> None:
    """Writes parameters into a step folder as they come.

    Args:
        step: the step folder, `checkpoints/0`; it appears when all is written.
        arrays: (path, array).
        bytes_in_all: for the progress bar.
    """
    context = ocp.Context()
    # Weights hardly compress, and trying takes longer than writing them.
    context.array.saving.use_compression = False
    # In one piece, the largest parameter would be copied twice on its way to the disk.
    context.array.saving.storage_options.chunk_byte_size = _CHUNK_BYTES
    context.array.saving.scoped_storage_options_creator = _storage
    cpu = jax.local_devices(backend="cpu")[0]
    with (
        context,
        tqdm(total=bytes_in_all, unit="B", unit_scale=True, desc="importing", disable=None) as bar,
    ):
        for group in prefetch(_groups(arrays)):
            tree: dict = {}
            for path, array in group:
                *folders, last = path.split("/")
                node = tree
                for folder in folders:
                    node = node.setdefault(folder, {})
                # Orbax copies numpy arrays before it writes them, and JAX's not.
                node[last] = jax.device_put(array, cpu, may_alias=True)
            ocp.partial.save(step, {"parameters": tree})
            bar.update(sum(array.nbytes for _, array in group))
            del group, tree, node, array
            _give_back()
        ocp.partial.finalize(step)


def _storage(_, array: jax.Array) -> ocp.options.ArrayOptions.Saving.StorageOptions:
    """Stacked layers are stored one by one: so each piece is in one place of the array."""
    axes = (0,) if array.ndim > 2 else None
    return ocp.options.ArrayOptions.Saving.StorageOptions(shard_axes=axes)


def _give_back() -> None:
    """Frees what saving left behind: Orbax in reference cycles, glibc in its threads' pools."""
    gc.collect()
    if trim := getattr(ctypes.CDLL(None), "malloc_trim", None):
        trim(0)


def _groups(
    arrays: Iterable[tuple[str, np.ndarray]],
) -> Iterator[list[tuple[str, np.ndarray]]]:
    group: list[tuple[str, np.ndarray]] = []
    for path, array in arrays:
        group.append((path, array))
        if sum(array.nbytes for _, array in group) >= _GROUP_BYTES:
            yield group
            group = []
    if group:
        yield group
