"""A run folder belongs to one run and keeps what that began with."""

import json
import shutil

import numpy as np
import pytest
from conftest import changed, pretrain_values, write_corpus

from data_pipelines.records import Corpus
from qwen_audio_jax.run_config import ConfigError, from_mapping, short_hash, to_json
from qwen_audio_jax.training import workdir as workdirs
from qwen_audio_jax.training.corpus_digests import changes, digests_of, write_digests


@pytest.fixture
def values():
    return pretrain_values()


def write_config(workdir, values):
    (workdir / "config.json").write_text(json.dumps(to_json(from_mapping(values))))


def test_a_start_that_fails_leaves_no_empty_folder(tmp_path):
    for name, content in (("empty", None), ("full", "x")):
        (tmp_path / name).mkdir()
        if content:
            (tmp_path / name / "file").write_text(content)
        with pytest.raises(KeyError), workdirs.emptied(tmp_path / name):
            raise KeyError
    assert not (tmp_path / "empty").exists()
    assert (tmp_path / "full" / "file").exists()


def test_workdir_of_another_configuration_is_refused(values, tmp_path):
    write_config(tmp_path, changed(values, "train.steps", 5))
    workdirs.check_config(tmp_path, from_mapping(values))  # nothing was trained there yet
    write_config(tmp_path, values)
    (tmp_path / "metrics.jsonl").touch()
    workdirs.check_config(tmp_path, from_mapping(changed(values, "evaluate.limit", 3)))
    with pytest.raises(ConfigError, match=r"\(config\.train\.steps was \d+ and is now 3\)"):
        workdirs.check_config(tmp_path, from_mapping(changed(values, "train.steps", 3)))


def test_a_run_from_before_a_key_was_there_goes_on(values, tmp_path):
    """With what the key is by default, and with nothing else."""
    write_config(tmp_path, values)
    (tmp_path / "metrics.jsonl").touch()
    path = tmp_path / "config.json"
    before = json.loads(path.read_text())
    for key in ("rates", "train_new_tokens"):
        del before["optimizer"][key]
    path.write_text(json.dumps(before))
    workdirs.check_config(tmp_path, from_mapping(values))
    for key, value in (("train_new_tokens", False), ("rates", {"^decoder/": 0.1})):
        now = from_mapping(changed(values, f"optimizer.{key}", value))
        with pytest.raises(ConfigError, match=rf"\(config\.optimizer\.{key}.* is now "):
            workdirs.check_config(tmp_path, now)
    assert (
        len(
            {
                short_hash(from_mapping(changed(values, "optimizer.rates", {"^decoder/": rate})))
                for rate in (0.1, 0.2)
            }
        )
        == 2
    )


@pytest.mark.parametrize("text", ["", "{", "[]", '"x"', "\x00"])
def test_a_damaged_config_json_is_told(values, tmp_path, text):
    (tmp_path / "config.json").write_text(text)
    (tmp_path / "metrics.jsonl").touch()
    with pytest.raises(ConfigError, match=r"config\.json: is damaged"):
        workdirs.check_config(tmp_path, from_mapping(values))


def test_a_run_without_its_own_model_is_told(tmp_path):
    assert workdirs.own_parts(tmp_path) is None
    (tmp_path / "checkpoints" / "4").mkdir(parents=True)
    with pytest.raises(ConfigError, match=r"--workdir: .*model\.json: is missing"):
        workdirs.own_parts(tmp_path)


class TestCorpora:
    """What has become of the corpora since the run last started."""

    @pytest.fixture
    def workdir(self, tmp_path):
        folder = tmp_path / "run"
        folder.mkdir()
        return folder

    def corpus(self, folder, *records):
        """A corpus of the tones with these numbers."""
        if folder.exists():
            shutil.rmtree(folder)
        write_corpus(folder, train=records)
        return {"tones": (Corpus(folder), "train")}

    def compared(self, workdir, before, now):
        return changes(workdir, now, digests_of(before), digests_of(now))

    def test_nothing(self, workdir, tmp_path):
        splits = self.corpus(tmp_path / "a", 0, 1, 2)
        digests = digests_of(splits)
        write_digests(workdir, digests)
        (workdir / "metrics.jsonl").touch()
        again = workdirs.check_corpora(workdir, self.corpus(tmp_path / "a", 0, 1, 2))
        np.testing.assert_array_equal(again["tones records"], digests["tones records"])

    @pytest.mark.parametrize(
        ("now", "told"),
        [
            ((0, 1, 2, 3, 4), "has 2 records more than when the run last started"),
            ((3, 0, 1, 4, 2), "has 2 records more"),
            ((2, 1, 0), "has its records in another order"),
        ],
    )
    def test_records_that_were_added_are_told(self, workdir, tmp_path, caplog, now, told):
        write_digests(workdir, digests_of(self.corpus(tmp_path / "a", 0, 1, 2)))
        splits = self.corpus(tmp_path / "a", *now)
        workdirs.check_corpora(workdir, splits)  # nothing was trained there yet
        assert not caplog.records
        (workdir / "metrics.jsonl").touch()
        workdirs.check_corpora(workdir, splits)
        assert told in caplog.text

    @pytest.mark.parametrize(
        ("now", "told"),
        [
            ((0, 1), "1 of the 3 records"),
            ((0, 1, 3), "1 of the 3 records"),
            ((4, 5, 6), "3 of the 3 records"),
        ],
    )
    def test_records_that_are_gone_stop_it(self, workdir, tmp_path, now, told):
        before = digests_of(self.corpus(tmp_path / "a", 0, 1, 2))
        splits = self.corpus(tmp_path / "a", *now)
        with pytest.raises(ConfigError, match=rf"{told} that the run in .* --config\.init_from="):
            changes(workdir, splits, before, digests_of(splits))

    def test_other_audio_under_the_same_labels_stops_it(self, workdir, tmp_path):
        splits = self.corpus(tmp_path / "a", 0, 1, 2)
        now = digests_of(splits)
        before = now | {"tones bytes": now["tones bytes"] + 1}
        with pytest.raises(ConfigError, match="its audio is not what"):
            changes(workdir, splits, before, now)

    def test_another_validation_split_is_told(self, workdir, tmp_path):
        before = digests_of(self.corpus(tmp_path / "a", 0, 1, 2))
        corpus, _ = self.corpus(tmp_path / "a", 4, 5)["tones"]
        now = before | {"tones bytes": np.int64(1)}
        (told,) = changes(workdir, {"tones": (corpus, "validation")}, before, now)
        assert "the validation split has changed" in told

    def test_a_damaged_file_is_told(self, workdir, tmp_path):
        (workdir / "corpora.npz").write_bytes(b"PK nonsense")
        (workdir / "metrics.jsonl").touch()
        with pytest.raises(ConfigError, match=r"corpora\.npz: is damaged; delete it"):
            workdirs.check_corpora(workdir, self.corpus(tmp_path / "a", 0))
