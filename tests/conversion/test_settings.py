"""Configurations that contradict themselves, or are none, are told in a sentence with file and key.

`test_read_as_transformers.py` compares what is read with what transformers reads.
"""

import json

import originals
import pytest
from converting import config_value

from qwen_audio_jax.conversion.errors import ConversionError
from qwen_audio_jax.conversion.sources import open_source

LAYERS = 3
LLAMA3 = {
    "rope_type": "llama3",
    "factor": 8.0,
    "low_freq_factor": 1.0,
    "high_freq_factor": 4.0,
    "original_max_position_embeddings": 64,
}


def opened(folder, key, value):
    config_value(key, value)(folder)
    return open_source(folder).parts


def refusal(folder) -> str:
    with pytest.raises(ConversionError) as raised:
        open_source(folder)
    said = str(raised.value)
    assert str(folder) in said
    assert len(said) < 20_000
    return said


@pytest.fixture(scope="module")
def sources(tmp_path_factory):
    folder = tmp_path_factory.mktemp("sources")
    made = {
        "qwen2_audio": originals.qwen2_audio(folder / "qwen2_audio"),
        "qwen_audio": originals.qwen_audio(folder / "qwen_audio"),
        "qwen2": originals.qwen2(folder / "qwen2"),
        "qwen3": originals.qwen2(folder / "qwen3", kind="qwen3"),
        "llama": originals.qwen2(folder / "llama", kind="llama"),
        "whisper": originals.whisper(folder / "whisper"),
    }
    before = {name: (path / "config.json").read_bytes() for name, path in made.items()}
    return made, before


@pytest.fixture
def folders(sources):
    """Folders of four kinds, their configurations as at first."""
    made, before = sources
    for name, path in made.items():
        (path / "config.json").write_bytes(before[name])
    return made


@pytest.mark.parametrize(
    ("kind", "key", "value", "says"),
    [
        ("qwen2_audio", "text_config", [1], "config.json: 'text_config' must be an object, not ["),
        (
            "qwen2_audio",
            "text_config/model_type",
            "gemma",
            "text_config: model_type is 'gemma'; known decoders are qwen2, qwen3, llama",
        ),
        ("qwen2_audio", "text_config/model_type", ["qwen2"], "model_type is ['qwen2']; known dec"),
        ("qwen2_audio", "audio_config/model_type", [], "audio_config: model_type is []; only"),
        ("qwen2_audio", "text_config/rope_parameters", [1], "'rope_parameters' must be an object"),
        (
            "qwen2_audio",
            "text_config/rope_parameters",
            {"rope_theta": None, "rope_type": "default"},
            "text_config, rope_parameters: has no 'rope_theta'",
        ),
        ("qwen2", "rope_parameters", {"rope_theta": "1e4"}, "'rope_theta' must be a positive numb"),
        ("qwen2", "rope_parameters", {"rope_type": None}, "rotary scaling None is not supported"),
        ("qwen2", "rope_parameters", {"full_attention": {}}, "by layer, not supported"),
        ("qwen2", "rope_parameters", {"partial_rotary_factor": 0.5}, "partial_rotary_factor is 0"),
        ("qwen2", "rope_scaling", {"type": "yarn", "factor": 4.0}, "rotary scaling 'yarn'"),
        *(
            (kind, key, {"rope_type": scaling, "factor": 2.0}, f"'{scaling}' is not supported; on")
            for kind in ("llama", "qwen3")
            for key in ("rope_scaling", "rope_parameters")
            for scaling in ("linear", "dynamic", "yarn", "longrope")
        ),
        ("llama", "rope_scaling", LLAMA3 | {"factor": None}, "rope_scaling: has no 'factor', wh"),
        ("llama", "rope_scaling", LLAMA3 | {"factor": 0.5}, "factor must be 1 at least, and high"),
        ("llama", "rope_scaling", LLAMA3 | {"low_freq_factor": 4.0}, "not 8.0, 4.0 and 4.0"),
        ("llama", "rope_scaling", LLAMA3 | {"high_freq_factor": "4"}, "'high_freq_factor' must be"),
        (
            "llama",
            "rope_scaling",
            LLAMA3 | {"original_max_position_embeddings": 0},
            "'original_max_position_embeddings' must be a positive whole number",
        ),
        ("llama", "attention_bias", True, "attention_bias is True; only False is supported"),
        ("llama", "mlp_bias", True, "mlp_bias is True; only False is supported"),
        ("llama", "head_dim", 5, "heads of 5 cannot be rotated"),
        ("llama", "num_attention_heads", 5, "a width of 16 is not divided by 5 heads"),
        ("llama", "hidden_act", "gelu", "hidden_act is 'gelu'; only 'silu'"),
        ("qwen3", "attention_bias", True, "attention_bias is True; only False is supported"),
        ("qwen3", "use_sliding_window", True, "use_sliding_window is True; only False"),
        ("qwen3", "layer_types", ["sliding_attention"] * LAYERS, "layer_types is ['sliding_att"),
        ("qwen3", "head_dim", 7, "heads of 7 cannot be rotated"),
        ("qwen2", "rope_scaling", 2, "'rope_scaling' must be an object, not 2"),
        ("qwen2", "rope_theta", None, "config.json: has no 'rope_theta'"),
        ("qwen2", "rope_theta", 10**400, "'rope_theta' must be a positive number, not 1000"),
        ("qwen2", "rope_theta", True, "'rope_theta' must be a positive number, not True"),
        ("qwen2", "rms_norm_eps", "1e-5x", "'rms_norm_eps' must be a positive number, not '1e-5x'"),
        ("qwen2", "hidden_size", 10**18, "'hidden_size' must be a positive whole number up to"),
        ("qwen2", "hidden_size", 1e18, "'hidden_size' must be a positive whole number up to"),
        ("qwen2", "num_hidden_layers", 10**9, "a positive whole number up to 1,000, not 10000000"),
        ("qwen2", "num_hidden_layers", True, "a positive whole number up to 1,000, not True"),
        ("qwen2", "num_attention_heads", 5, "a width of 16 is not divided by 5 heads"),
        ("qwen2", "num_key_value_heads", 3, "num_key_value_heads 3 does not divide 4 heads"),
        ("qwen2", "head_dim", 5, "heads of 5 cannot be rotated"),
        ("qwen2", "layer_types", ["sliding_attention"] * LAYERS, "layer_types is ['sliding_att"),
        ("qwen2", "layer_types", ["full_attention"], "only 3 times 'full_attention'"),
        ("qwen2", "per_layer_config", {"0": {}}, "per_layer_config is {'0': {}}; only None"),
        ("qwen2", "tie_word_embeddings", "no", "'tie_word_embeddings' must be true or false, not"),
        (
            "qwen2",
            "quantization_config",
            {"quant_method": "gptq"},
            "that the weights are quantized",
        ),
        ("qwen2", "model_type", ["qwen2"], "model_type is ['qwen2']; known are"),
        (
            "llama",
            "model_type",
            "mistral",
            "model_type is 'mistral'; known are qwen2_audio, qwen (Qwen-Audio, Qwen-7B), qwen2 "
            "(Qwen2, Qwen2.5), qwen3, llama (Llama, SmolLM2, TinyLlama) and whisper",
        ),
        ("qwen_audio", "audio", None, "has no 'audio', which this model needs"),
        ("qwen_audio", "audio/n_layer", 10**9, "audio: 'n_layer' must be a positive whole number"),
        ("qwen_audio", "audio/n_ctx", 10**7, "misshapen: transformer.audio.positional_embedding"),
        (
            "qwen_audio",
            "audio/qwen_audio_jax_window",
            "wide",
            "audio: qwen_audio_jax_window is 'wide'; window: 'wide' is none of clip, window, clip",
        ),
        ("qwen2_audio", "audio_config/qwen_audio_jax_window", [1], "_window is [1]; "),
        ("qwen_audio", "use_logn_attn", "false", "'use_logn_attn' must be true or false, not 'fal"),
        ("qwen_audio", "intermediate_size", 41, "intermediate_size is odd"),
        ("qwen_audio", "tie_word_embeddings", True, "tie_word_embeddings is True; only False"),
        ("whisper", "hidden_size", 16, "'d_model' is 12 and 'hidden_size', another name of it, 16"),
        ("whisper", "num_attention_heads", 2, "'encoder_attention_heads' is 3 and 'num_attention"),
        ("qwen2_audio", "audio_token_id", 7, "'audio_token_index' is 60 and 'audio_token_id'"),
    ],
)
def test_what_is_refused(folders, kind, key, value, says):
    config_value(key, value)(folders[kind])
    assert says in refusal(folders[kind])


def test_what_is_read(folders):
    qwen2 = folders["qwen2"]
    assert opened(qwen2, "rope_theta", 5e5).decoder.rope_base == 5e5
    assert opened(qwen2, "rope_parameters", {"rope_theta": 3e5}).decoder.rope_base == 3e5
    assert opened(qwen2, "rope_scaling", {}).decoder.rope_base == 3e5
    # The older name goes before the newer one, with what it does not say from outside.
    assert opened(qwen2, "rope_scaling", {"type": "default"}).decoder.rope_base == 5e5
    assert opened(qwen2, "num_key_value_heads", 2).decoder.kv_heads == 2
    assert opened(qwen2, "layer_types", ["full_attention"] * LAYERS)
    assert opened(qwen2, "torch_dtype", "float16")
    assert opened(folders["qwen2_audio"], "torch_dtype", "float16").encoder.window == "clip"
    for kind, audio in (("qwen2_audio", "audio_config"), ("qwen_audio", "audio")):
        key = f"{audio}/qwen_audio_jax_window"
        assert opened(folders[kind], key, "clip+1s").encoder.window == "clip+1s"
    llama = folders["llama"]
    for key in ("rope_parameters", "rope_scaling"):
        decoder = opened(llama, key, LLAMA3 | {"rope_theta": 5e5}).decoder
        assert (decoder.rope_base, decoder.rope_factor, decoder.rope_length) == (5e5, 8.0, 64)
    # Older files leave the length outside, or out.
    without_length = {key: LLAMA3[key] for key in list(LLAMA3)[:-1]}
    opened(llama, "max_position_embeddings", 99)
    assert opened(llama, "rope_scaling", without_length).decoder.rope_length == 99
    assert opened(llama, "original_max_position_embeddings", 77).decoder.rope_length == 77
    assert opened(folders["qwen3"], "num_attention_heads", 4).decoder.qk_norm
    whisper = folders["whisper"]
    assert opened(whisper, "torch_dtype", "float16").encoder.window == "window"
    config = json.loads((whisper / "config.json").read_text())
    del config["encoder_attention_heads"]
    (whisper / "config.json").write_text(json.dumps(config))
    assert opened(whisper, "num_attention_heads", 6).encoder.heads == 6


@pytest.mark.parametrize(
    ("content", "says"),
    [
        (b"", "is not JSON"),
        (b"\xef\xbb\xbf{}", "is not JSON (Unexpected UTF-8 BOM"),
        (b'{"model_type": "\xff"}', "is not JSON ('utf-8' codec"),
        (b"null", "must hold a JSON object"),
        (b"[" * 100_000 + b"]" * 100_000, "nested too deep"),
        (b'{"a":' * 100_000 + b"1" + b"}" * 100_000, "nested too deep"),
        (b'{"model_type": "qwen2", "model_type": "qwen"}', "has the key 'model_type' twice"),
        (b'{"hidden_size": ' + b"9" * 6000 + b"}", "is not JSON"),
        (b"{}", "model_type is ''; known are"),
    ],
)
def test_no_configuration_at_all(folders, content, says):
    (folders["qwen2"] / "config.json").write_bytes(content)
    said = refusal(folders["qwen2"])
    assert f"config.json: {says}" in said or says in said
    assert "\n" not in said


@pytest.mark.parametrize("n", [10, 10**4])
def test_many_faults_are_not_told_without_end(folders, n):
    config_value("num_hidden_layers", min(n, 1000))(folders["qwen2"])
    said = refusal(folders["qwen2"])
    told = said.count("missing: model.layers.")
    assert told == (min(n, 1000) - LAYERS) * 12 if n == 10 else told == 100
    assert ("missing: 11,864 more" in said) == (n > 10)


def test_features_made_otherwise(tmp_path):
    from qwen_audio_jax.conversion.companions import check_features

    for name, content, says in (
        (
            "preprocessor_config.json",
            {"sampling_rate": 24000},
            "sampling_rate is 24000; only 16000",
        ),
        ("preprocessor_config.json", {"feature_size": 80}, "feature_size is 80; only 8"),
        ("processor_config.json", {"feature_extractor": {"hop_length": 200}}, "hop_length is 200"),
        ("processor_config.json", {"feature_extractor": 1}, "'feature_extractor' must be an obje"),
        ("preprocessor_config.json", [], "must hold a JSON object"),
    ):
        (tmp_path / name).write_text(json.dumps(content))
        with pytest.raises(ConversionError, match=f"{name}.*{says}"):
            check_features(tmp_path, originals.ENCODER)
        (tmp_path / name).write_text(json.dumps({"feature_size": 8} if name[3] == "p" else {}))
        check_features(tmp_path, originals.ENCODER)
