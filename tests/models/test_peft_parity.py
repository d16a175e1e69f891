"""Adapters that PEFT trained compute the same here, and those of an export the same in PEFT."""

import json
import pathlib
import re
import shutil
import types
import warnings

import numpy as np
import parity
import pytest
from random_originals import inputs, original_config, randomised
from safetensors.numpy import load_file, save_file

from qwen_audio_jax import convert
from qwen_audio_jax.checkpoint import last_step
from qwen_audio_jax.models.parts import read_parts
from qwen_audio_jax.saved_parameters import SavedParameters

torch = pytest.importorskip("torch")
transformers = pytest.importorskip("transformers")
peft = pytest.importorskip("peft")

pytestmark = pytest.mark.parity

SHAPE, CLIPS = "grouped", ((37, 80), ())
DECODER = r"model\.language_model\.layers\.\d+\.(self_attn\.[qkvo]_proj|mlp\.\w+_proj)"

VARIANTS = {
    "rank_stabilised": dict(target_modules="all-linear", use_rslora=True, r=4, lora_alpha=6),
    "expression": dict(target_modules=DECODER, r=3, lora_alpha=7, lora_dropout=0.1),
    "patterns": dict(
        target_modules=["q_proj", "down_proj", "linear", "out_proj", "fc2"],
        rank_pattern={"layers.0.self_attn.q_proj": 2, r"audio_tower.*\.out_proj": 5},
        alpha_pattern={"layers.0.mlp.down_proj": 3, "linear": 40},
        r=3,
    ),
    "some_whole": dict(
        target_modules=["k_proj", "gate_proj"],
        layers_to_transform=[1],
        modules_to_save=["embed_tokens", "lm_head"],
    ),
}


def original():
    torch.manual_seed(0)
    made = transformers.Qwen2AudioForConditionalGeneration._from_config(
        original_config(SHAPE), attn_implementation="eager"
    )
    return randomised(made)


def logits_of(model) -> np.ndarray:
    given, _ = inputs(SHAPE, CLIPS)
    with torch.no_grad():
        return model.eval()(**given).logits[given["attention_mask"] == 1].numpy()


@pytest.fixture(
    scope="module",
    params=[
        *("rank_stabilised", "patterns", "some_whole"),
        pytest.param("expression", marks=pytest.mark.slow),
    ],
)
def trained(request, tmp_path_factory):
    """An adapter after a few steps: its folder, that of its base, and its logits."""
    folder = tmp_path_factory.mktemp(request.param)
    base = original()
    base.save_pretrained(folder / "base")
    before = logits_of(base)
    torch.manual_seed(1)
    model = peft.get_peft_model(base, peft.LoraConfig(**VARIANTS[request.param]))
    optimizer = torch.optim.Adam(model.parameters(), 0.05)
    given, _ = inputs(SHAPE, CLIPS)
    for _ in range(2):
        model.train()(**given).loss.backward()
        optimizer.step()
        optimizer.zero_grad()
    logits = logits_of(model)
    assert np.abs(logits - before).max() > 0.1
    model.save_pretrained(folder / "adapter")
    return types.SimpleNamespace(
        name=request.param, base=folder / "base", adapter=folder / "adapter", logits=logits
    )


def respelled(adapter: pathlib.Path, out: pathlib.Path) -> pathlib.Path:
    """The same adapter as transformers 4 names its modules."""

    def older(text: str) -> str:
        text = text.replace("model.model.language_model.", "model.language_model.model.")
        text = text.replace("model.model.audio_tower.", "model.audio_tower.")
        text = text.replace("model.model.multi_modal", "model.multi_modal")
        return text.replace("base_model.model.lm_head.", "base_model.model.language_model.lm_head.")

    shutil.copytree(adapter, out)
    tensors = load_file(out / "adapter_model.safetensors")
    save_file({older(k): v for k, v in tensors.items()}, out / "adapter_model.safetensors")
    config = json.loads((out / "adapter_config.json").read_text())
    if isinstance(targets := config["target_modules"], str):
        assert targets == DECODER
        config["target_modules"] = DECODER.replace(r"model\.language", r"language").replace(
            r"\.layers", r"\.model\.layers"
        )
    else:  # which PEFT makes of "all-linear": whole names
        names = [older(f"base_model.model.{name}") for name in targets]
        config["target_modules"] = [name.removeprefix("base_model.model.") for name in names]
    (out / "adapter_config.json").write_text(json.dumps(config))
    return out


def imported(base, adapter, out) -> dict[str, np.ndarray]:
    command = ["import", f"--source={base}", f"--source={adapter}", f"--out={out}"]
    assert convert.main(command) == 0
    return parameters(out)


def parameters(folder) -> dict[str, np.ndarray]:
    saved = SavedParameters(last_step(folder))
    return {path: saved.read(path, store) for path, store in saved.stores.items()}


def exported(checkpoint, out, *options) -> pathlib.Path:
    command = ["export", f"--checkpoint={checkpoint}", f"--out={out}", "--adapter", *options]
    assert convert.main(command) == 0
    return out


def same(one, other) -> bool:
    return one.keys() == other.keys() and all(np.array_equal(one[k], other[k]) for k in one)


def logits_here(folder: pathlib.Path) -> np.ndarray:
    """Logits of a checkpoint, its adapters beside their kernels."""
    tree: dict = {}
    for path, array in parameters(folder).items():
        *groups, last = path.split("/")
        node = tree
        for group in groups:
            node = node.setdefault(group, {})
        node[last] = array
    _, batch = inputs(SHAPE, CLIPS)
    logits = parity.forward(*parity.build(read_parts(folder).model(), tree), batch)["logits"]
    return logits[batch["segments"] > 0]


def opened(base, adapter):
    """The adapter on its base in PEFT, which misses nothing and leaves nothing."""
    model = transformers.Qwen2AudioForConditionalGeneration.from_pretrained(
        base, attn_implementation="eager", dtype=torch.float32, local_files_only=True
    )
    with warnings.catch_warnings():
        warnings.simplefilter("error", UserWarning)
        model = peft.PeftModel.from_pretrained(model, adapter)
        result = model.load_adapter(adapter, "again")
    assert result.missing_keys == result.unexpected_keys == []
    return model


def test_what_peft_trained_computes_the_same_here(trained, tmp_path):
    arrays = imported(trained.base, trained.adapter, tmp_path / "new")
    assert parity.deviation(logits_here(tmp_path / "new"), trained.logits) < parity.LOGITS
    older = respelled(trained.adapter, tmp_path / "older")
    assert same(arrays, imported(trained.base, older, tmp_path / "old"))
    assert read_parts(tmp_path / "old") == read_parts(tmp_path / "new")

    merged = tmp_path / "merged"
    assert convert.main(["export", f"--checkpoint={tmp_path / 'new'}", f"--out={merged}"]) == 0
    model = transformers.Qwen2AudioForConditionalGeneration.from_pretrained(
        merged, attn_implementation="eager", dtype=torch.float32, local_files_only=True
    )
    assert parity.deviation(logits_of(model), trained.logits) < parity.LOGITS


def test_what_we_export_computes_the_same_in_peft(trained, tmp_path):
    arrays = imported(trained.base, trained.adapter, tmp_path / "start")
    adapter = exported(tmp_path / "start", tmp_path / "adapter")
    model = opened(trained.base, adapter)
    assert parity.deviation(logits_of(model), trained.logits) < parity.LOGITS
    assert same(arrays, imported(trained.base, adapter, tmp_path / "again"))
    assert read_parts(tmp_path / "again") == read_parts(tmp_path / "start")

    older = exported(tmp_path / "start", tmp_path / "older", "--spelling=4")
    assert same(arrays, imported(trained.base, older, tmp_path / "older_again"))
    assert read_parts(tmp_path / "older_again") == read_parts(tmp_path / "start")
    if trained.name == "patterns":
        with pytest.raises(UserWarning, match=r"missing adapter keys .*audio_tower") as caught:
            opened(trained.base, older)
        assert "language_model" not in str(caught.value)
    here, there = (load_file(f / "adapter_model.safetensors") for f in (adapter, older))
    names = {re.sub(r"^base_model\.model\.(model\.)?", "", n) for n in here}
    swapped = {n.replace("language_model.model.", "language_model.") for n in there}
    swapped = {n.removeprefix("base_model.model.") for n in swapped}
    assert names == {n.replace("language_model.lm_head", "lm_head") for n in swapped}
