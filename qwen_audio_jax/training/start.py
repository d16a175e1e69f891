"""What a run starts from: its data, its model, and the first state."""

import dataclasses
import logging
import os
import pathlib
from collections.abc import Callable, Collection

import jax
from jax.sharding import Mesh

from data_pipelines.examples import Preprocessor
from data_pipelines.pipeline import check_memory, make_plan, open_mixture
from data_pipelines.records import Corpus, NothingChosen
from data_pipelines.selection import ALL
from qwen_audio_jax.audio.lengths import WINDOW_FRAMES, encoder_positions
from qwen_audio_jax.audio.silence import CLIP, silence_frames
from qwen_audio_jax.checkpoint import Checkpoints, abstract, by_path, run_folder
from qwen_audio_jax.models.parts import Parts, path_name, read_parts
from qwen_audio_jax.models.presets import (
    COMPUTE,
    Compute,
    EncoderConfig,
    ModelConfig,
    model_config,
    preset_parts,
    why_not_qwen_audio,
)
from qwen_audio_jax.parallel.sharding import local_rows, make_mesh
from qwen_audio_jax.rendering.spans import AUDIO_TAGS
from qwen_audio_jax.run_config import ConfigError, ModelChoice, RunConfig
from qwen_audio_jax.text.tokenizer import Tokenizer, load_tokenizer
from qwen_audio_jax.training import lora
from qwen_audio_jax.training.data import Data
from qwen_audio_jax.training.splice_scale import at_word_norm
from qwen_audio_jax.training.step import Recipe, TrainState, make_init
from qwen_audio_jax.training.workdir import has_begun


def open_data(
    config: RunConfig, mesh: Mesh, own: tuple[Parts, Tokenizer] | None = None
) -> tuple[Data, ModelConfig]:
    """Opens the mixture, and chooses the model that goes with its vocabulary.

    Args:
        config: of the run.
        mesh: its devices.
        own: the model and the vocabulary of a run that goes on; None makes those of a new one.
    """
    mine = {
        shape: local_rows(shape.rows, mesh, config.train.accumulate)
        for shape in config.data.row_shapes
    }
    corpora = open_mixture(config.data.root, config.data.mixture, config.data.chosen)
    if own is None:
        start = read_start(config)
        tokenizer = choose_tokenizer(config, start, corpora)
    else:
        start, tokenizer = own
    model = choose_model(config, tokenizer, start)
    if jax.process_index() == 0:
        tell_of_export(config, start, model)
    check_memory(mine, model.encoder.mel_bins)
    preprocessor = Preprocessor(
        tokenizer,
        model.family,
        config.data.conditioning,
        model.encoder.mel_bins,
        model.frame_rounding,
        config.data.max_seconds,
        config.data.wave_augment,
        silence=silence_frames(model.encoder.window),
        templates=config.data.templates,
        learn=config.data.learn,
        learn_newline=config.data.learn_newline,
        room=config.data.room,
        layout=config.preference.pairs,
    )
    plan = make_plan(
        corpora,
        config.data.mixture,
        preprocessor,
        config.data.row_shapes,
        config.data.seed,
        temperature=config.data.temperature,
        max_bad_share=config.data.max_bad_share,
    )
    return Data(corpora, preprocessor, plan, mine), model


def check_start(config: RunConfig, workdir: pathlib.Path) -> None:
    """Finds out what can be known to be wrong before a corpus is built.

    Raises:
        ConfigError, ValueError: the mesh does not fit the devices, or `config.init_from` names
            nothing to start from, or an encoder that cannot have the window, or `config.lora` does
            not fit what it names.
    """
    make_mesh(config.mesh)
    if config.init_from and run_folder(config.init_from).resolve() == workdir.resolve():
        raise ConfigError(
            f"config.init_from: {config.init_from} is the run's own folder; name another --workdir "
            "to start from it, or what this run started from to go on with it"
        )
    if not has_begun(workdir):
        start = read_start(config)
        if start.encoder:
            with_window(config, start, start.encoder)
        parts = preset_parts(config.model.preset, config.model.family, vocab_size=1)
        encoder, decoder = start.encoder or parts[0], start.decoder or parts[1]
        model = model_config(config.model.family, encoder, decoder, audio_begin=-1, audio_end=-1)
        lora.check_start(config, start, lora.with_adapters(config.lora, model))


def read_start(config: RunConfig) -> Parts:
    """What training starts from; nothing if from scratch."""
    if not config.init_from:
        return Parts()
    try:
        return read_parts(run_folder(config.init_from))
    except (OSError, ValueError) as error:
        raise ConfigError(f"config.init_from: {error}") from error


def choose_tokenizer(config: RunConfig, start: Parts, corpora: dict[str, Corpus]) -> Tokenizer:
    """The vocabulary of the decoder that training starts from, else the first corpus's."""
    if start.decoder:
        folder = run_folder(config.init_from) / "tokenizer"
        if folder.is_dir():
            return load_tokenizer(folder)
    return load_tokenizer(next(iter(corpora.values())).path / "tokenizer")


def choose_model(config: RunConfig, tokenizer: Tokenizer, start: Parts) -> ModelConfig:
    """The model's configuration: the preset's, but for the parts that training starts from.

    Raises:
        ConfigError: those parts are of another family, or have another vocabulary, or one without
            the tokens around a clip; or `config.lora` cannot be had with them.
    """
    family = config.model.family
    encoder, decoder = preset_parts(config.model.preset, family, tokenizer.vocab_size)
    encoder = with_window(config, start, start.encoder or encoder)
    decoder = start.decoder or decoder
    if start.family not in ("", family):
        raise ConfigError(
            f"config.init_from: {config.init_from} is of family {start.family}; add "
            f"--config.model.family={start.family}"
        )
    if decoder.vocab_size < tokenizer.vocab_size:
        raise ConfigError(
            f"config.init_from: {config.init_from} knows {decoder.vocab_size} tokens and the "
            f"vocabulary has {tokenizer.vocab_size}; import it together with its tokenizer files"
        )
    try:
        begin, _, end = map(tokenizer.special, AUDIO_TAGS[family])
    except KeyError as error:
        raise ConfigError(
            f"config.init_from: {config.init_from}: {error.args[0]}, which a {family} model needs; "
            "import it again, together with its tokenizer files"
        ) from error
    model = model_config(
        family,
        encoder,
        decoder,
        audio_begin=begin,
        audio_end=end,
        compute=compute_for(config.model, jax.default_backend()),
    )
    model = lora.with_adapters(config.lora, model)
    lora.check_start(config, start, model)
    return model


def with_window(config: RunConfig, start: Parts, encoder: EncoderConfig) -> EncoderConfig:
    """The encoder with the window that the run computes it in.

    Raises:
        ConfigError: a whole model was trained in another one, or it has no positions for 30 s.
    """
    chosen = config.model.window
    if start.family and chosen not in ("auto", encoder.window):
        raise ConfigError(
            f"config.model.window: is {chosen!r}, and the whole model in {config.init_from} was "
            f"trained with {encoder.window!r}; leave it at 'auto', or start from the encoder alone"
        )
    if chosen == "auto":
        chosen = encoder.window if start.family else CLIP
    if chosen != CLIP and encoder.max_positions < (needed := encoder_positions(WINDOW_FRAMES)):
        raise ConfigError(
            f"config.model.window: {chosen!r} needs an encoder of {needed} positions, which are "
            f"30 s, and that in {config.init_from} has {encoder.max_positions}; take 'clip'"
        )
    return dataclasses.replace(encoder, window=chosen)


def tell_of_export(config: RunConfig, start: Parts, model: ModelConfig) -> None:
    """Says what an export would not be, and what the encoder's window means for one of Whisper."""
    if model.family == "qwen_audio" and (reason := why_not_qwen_audio(model.decoder)):
        logging.warning(
            "note: what is trained here cannot be exported: %s; --config.model.family=qwen2_audio "
            "can",
            reason,
        )
    window, trained = model.encoder.window, start.encoder and start.encoder.window
    if window != CLIP:
        logging.warning(
            "note: the encoder sees silence behind clips (config.model.window is %r), which the "
            "originals' code masks: an exported model answers otherwise there than here, unless "
            "it is called as docs/conversion.md says",
            window,
        )
    elif config.model.window == "auto" and trained not in (None, CLIP):
        logging.warning(
            "note: the encoder in %s was trained with silence behind clips, and this run shows it "
            "none; --config.model.window=%s does, at the cost that docs/training.md tells",
            config.init_from,
            trained,
        )


def compute_for(choice: ModelChoice, platform: str) -> Compute:
    """How to compute on "cpu", "gpu" or "tpu", where the choice leaves it open."""
    auto = COMPUTE[platform]
    return Compute(
        auto.dtype if choice.dtype == "auto" else choice.dtype,
        auto.attention if choice.attention == "auto" else choice.attention,
        choice.remat,
    )


def use_compilation_cache(choice: str, workdir: pathlib.Path, processes: int) -> None:
    """Keeps compiled programs in a folder, where the next start finds them.

    JAX_COMPILATION_CACHE_DIR, JAX's own variable, decides if it is set.

    Args:
        choice: the folder; "" for none. "auto" is one in the user's cache, which all runs share. Of
            several processes only the first writes and all read, so theirs is in the run folder.
        workdir: the run folder.
        processes: how many there are.
    """
    if not choice or jax.config.jax_compilation_cache_dir:
        return
    if choice != "auto":
        folder = pathlib.Path(choice)
    elif processes > 1:
        folder = workdir / "compilation_cache"
    else:
        cache = os.environ.get("XDG_CACHE_HOME") or "~/.cache"
        folder = pathlib.Path(cache).expanduser() / "qwen_audio_jax" / "compilation"
    jax.config.update("jax_compilation_cache_dir", str(folder.absolute()))
    # JAX begins at a second. An engine's programs are many small ones, and answers wait for them.
    jax.config.update("jax_persistent_cache_min_compile_time_secs", 0.0)


def find_validation_splits(
    config: RunConfig, corpora: dict[str, Corpus]
) -> dict[str, tuple[Corpus, str]]:
    """The corpora and splits to evaluate on, by name; none, with a warning, if there are none."""

    def opened(name: str) -> Corpus:
        root, chosen = pathlib.Path(config.data.root), config.data.chosen
        return Corpus(root / name, chosen.get(name, ALL))

    if name := config.evaluate.data:
        corpus = opened(name)
        return {name: (corpus, corpus.evaluated)}
    found = {}
    for name, corpus in (corpora | {name: opened(name) for name in config.evaluate.beside}).items():
        if "validation" in corpus.splits:
            try:
                corpus.index("validation")
            except NothingChosen as error:
                logging.warning("note: %s, so it is not evaluated on", error)
                continue
            found[name] = (corpus, "validation")
    if not found:
        logging.warning(
            "no corpus of the mixture has a validation split, so nothing is evaluated; build one "
            "with data_pipelines.build --split=validation, or name a corpus in config.evaluate.data"
        )
    return found


def recipe_of(config: RunConfig, model: ModelConfig, steps: int) -> Recipe:
    """What the step of a run of so many is made of."""
    train, optimizer = config.train, lora.optimizer_of(config, model)
    return Recipe(model, optimizer, steps, train.seed, train.accumulate, config.preference)


def restore_or_init(
    config: RunConfig, checkpoints: Checkpoints, recipe: Recipe, layout: TrainState
) -> tuple[TrainState, int]:
    """The run's own last checkpoint, or parameters from elsewhere, or a fresh start.

    A projector that is new beside what comes from elsewhere is scaled to the decoder's words.

    Args:
        config: of the run.
        checkpoints: its own.
        recipe: what its step is made of.
        layout: shardings of the state.

    Returns:
        (TrainState, the data position).
    """
    if checkpoints.latest is None:
        return first_state_of(config, checkpoints, recipe, layout), 0
    wanted = abstract(jax.eval_shape(make_init(recipe)[1]), layout)
    return checkpoints.restore(checkpoints.latest, wanted, config.init_from)


def first_state_of(
    config: RunConfig, checkpoints: Checkpoints, recipe: Recipe, layout: TrainState
) -> TrainState:
    """The state that a run starts from; the arguments are those of `restore_or_init`."""
    _, init = make_init(recipe)
    wanted = abstract(jax.eval_shape(init), layout)
    trained, frozen = {}, {}
    if config.init_from:
        leave_out = bool(recipe.optimizer.frozen)
        trained, frozen = checkpoints.start_from(config.init_from, wanted, leave_out=leave_out)
    state = _completed(init, layout, trained, frozen)
    loaded = {path.split("/")[0] for path in (trained | frozen)}
    if loaded and "projector" not in loaded:
        state = at_word_norm(state, layout, recipe.model.decoder.first_new_token)
    return state


def _completed(init: Callable, layout: TrainState, trained: dict, frozen: dict) -> TrainState:
    """The first state, of the parameters that were loaded, by path, and of new ones."""
    drawn = missing(init, layout, trained, frozen)()

    def filled(form, tree, loaded):
        leaves = by_path(tree) | loaded
        return jax.tree_util.tree_map_with_path(lambda path, _: leaves[path_name(path)], form)

    return dataclasses.replace(
        drawn,
        parameters=filled(layout.parameters, drawn.parameters, trained),
        frozen=filled(layout.frozen, drawn.frozen, frozen),
    )


def missing(
    init: Callable, layout: TrainState, trained: Collection[str], frozen: Collection[str]
) -> Callable[[], TrainState]:
    """A compiled `init` that draws as if nothing had been loaded, but only what was not.

    The compiler leaves out whatever no result needs.

    Args:
        init: makes the first state.
        layout: shardings of the state.
        trained, frozen: paths of what was loaded, which is None in the result.
    """

    def without(tree, loaded):
        return jax.tree_util.tree_map_with_path(
            lambda path, leaf: None if path_name(path) in loaded else leaf, tree
        )

    def but(state: TrainState) -> TrainState:
        return dataclasses.replace(
            state,
            parameters=without(state.parameters, trained),
            frozen=without(state.frozen, frozen),
        )

    return jax.jit(lambda: but(init()), out_shardings=but(layout))
