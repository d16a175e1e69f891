"""What processes compare tells runs apart that must not train together, and no others."""

import dataclasses

import pytest
from conftest import pretrain_values, write_corpus

from data_pipelines.records import Corpus
from qwen_audio_jax.parallel.sharding import make_mesh
from qwen_audio_jax.run_config import from_mapping
from qwen_audio_jax.training import agreement


@pytest.fixture
def config():
    return from_mapping(pretrain_values())


def differing(one, other):
    return [key for key in one | other if one.get(key) != other.get(key)]


def test_every_key_counts_but_what_a_host_may_have_of_its_own(config):
    facts = agreement.of_config(config)
    every = dataclasses.replace(
        config, checkpoint=dataclasses.replace(config.checkpoint, every=config.checkpoint.every + 1)
    )
    assert differing(facts, agreement.of_config(every)) == ["config.checkpoint.every"]
    assert facts["config.data.shapes"] == "[[16, 144, 352], [8, 448, 1024], [8, 1280, 3264]]"
    own = dataclasses.replace(
        config,
        compilation_cache="cache/here",
        data=dataclasses.replace(config.data, root="data/here", workers=3),
        profile=dataclasses.replace(config.profile, steps=3),
    )
    assert agreement.of_config(own) == facts


def test_corpora_and_devices_count(config, tmp_path):
    mesh = make_mesh(config.mesh)
    write_corpus(tmp_path / "one" / "tones", train=6)
    write_corpus(tmp_path / "other" / "tones", train=7)
    one, other = (
        agreement.of_data(config, {"tones": Corpus(tmp_path / name / "tones")}, mesh)
        for name in ("one", "other")
    )
    assert differing(one, other) == ["the digest of corpus 'tones'"]
    assert one["the mesh"] == "replica 1, fsdp 1, tensor 1"


def test_digests_see_names_sizes_and_content(tmp_path, monkeypatch):
    path = tmp_path / "file"

    def of(content, name="file"):
        (tmp_path / name).write_bytes(content)
        return agreement.digest([tmp_path / name])

    assert of(b"abc") == of(b"abc")
    assert len({of(b"abc"), of(b"abd"), of(b"abcd"), of(b"abc", "other")}) == 4
    monkeypatch.setattr(agreement, "_WHOLE", 100)
    monkeypatch.setattr(agreement, "_END", 10)
    long = bytearray(200)
    base = of(bytes(long))
    for place in (5, 195):
        changed = long.copy()
        changed[place] = 1
        assert of(bytes(changed)) != base
    assert path.is_file()
