"""Datasets that TFDS prepared: a real one, made here, comes out as records."""

import numpy as np
import pytest
import tensorflow_datasets as tfds

from data_pipelines import build
from data_pipelines.records import Corpus, RejectedRecord
from data_pipelines.sources import tfds_dataset
from qwen_audio_jax.audio.decode import decode


def wave(number: int) -> np.ndarray:
    return (3000 * np.sin(np.arange(4000 + number) / 9)).astype(np.int64)


@pytest.fixture(scope="module")
def prepared(tmp_path_factory):
    """The folders of one dataset, as array_record and as tfrecord."""
    pytest.importorskip("tensorflow", reason="needs the extra [tfds]")

    class Spoken(tfds.core.GeneratorBasedBuilder):
        VERSION = tfds.core.Version("1.2.0")

        def _info(self):
            features = {
                "audio": tfds.features.Audio(sample_rate=8000, shape=(None,)),
                "label": tfds.features.ClassLabel(names=["go_down", "up"]),
                "speaker": {"says": tfds.features.Text()},
            }
            features = tfds.features.FeaturesDict(features)
            return tfds.core.DatasetInfo(builder=self, features=features)

        def _split_generators(self, dl_manager):
            return {"train": self._generate_examples(12), "val": self._generate_examples(4)}

        def _generate_examples(self, count):
            for i in range(count):
                yield i, {"audio": wave(i), "label": i % 2, "speaker": {"says": f"number {i}"}}

    def folder(kind):
        builder = Spoken(data_dir=tmp_path_factory.mktemp(kind), file_format=kind)
        builder.download_and_prepare()
        return builder.data_path.parents[1]

    return folder("array_record"), folder("tfrecord")


def test_classes_and_constants(prepared, tmp_path):
    out = tmp_path / "corpus"
    flags = [
        "--dataset=spoken",
        f"--root={prepared[0]}",
        "--tasks=keyword_spotting",
        f"--out={out}",
        "--workers=1",
    ]
    fields = "text=label, language='en'"
    assert build.main(["--source=tfds", *flags, f"--fields={fields}"]) == 0
    corpus = Corpus(out)
    assert corpus.splits == ("train", "validation")
    index = corpus.index("train")
    assert len(index) == 12
    assert sorted(row.annotation["text"] for row in index) == ["go down"] * 6 + ["up"] * 6
    assert {row.annotation["language"] for row in index} == {"en"}
    # TFDS shuffles; a record's own samples tell which it was.
    record, row = corpus.record("train", 5), index[5]
    number = row.samples[0] // 2 - 4000
    assert row.annotation["text"] == ("go down", "up")[number % 2]
    np.testing.assert_allclose(
        decode(record.audio[0])[200:-200:2], wave(number)[100:-100] / 32768, atol=2e-3
    )


@pytest.mark.slow
def test_a_group_and_another_number_of_workers(prepared, tmp_path):
    fields = "text=speaker/says,language='en'"
    for workers in (1, 2):
        flags = ["--dataset=spoken", f"--root={prepared[0]}", "--tasks=asr", f"--fields={fields}"]
        out = tmp_path / str(workers)
        assert build.main(["--source=tfds", *flags, f"--out={out}", f"--workers={workers}"]) == 0
    one, two = (
        {p.name: p.read_bytes() for p in (tmp_path / name).iterdir() if p.is_file()}
        for name in ("1", "2")
    )
    assert one == two
    texts = {row.annotation["text"] for row in Corpus(tmp_path / "1").index("validation")}
    assert texts == {f"number {i}" for i in range(4)}


def test_what_is_wrong_is_said(prepared):
    def refused(message, root=prepared[0], name="spoken", task="keyword_spotting", fields=""):
        with pytest.raises(RejectedRecord, match=message):
            tfds_dataset.jobs(name, root, "train", task, fields)

    refused("has no feature 'words' for 'text'; it has .*speaker/says", fields="text=words")
    refused("several features that could be the text.*label")
    refused("'=label' is not field=feature", fields="text=label,=label")
    refused("'telepathy' is none of asr", task="telepathy")
    refused("is prepared as tfrecord files; prepare it as array_record", root=prepared[1])
    refused("has prepared no 'sung' below .*`tfds build sung", name="sung")
    refused("has prepared no 'spoken:9.9.9' below", name="spoken:9.9.9")


def test_what_is_not_prepared_is_refused(tmp_path, capsys):
    arguments = ["--source=tfds", f"--root={tmp_path}", "--tasks=asr", f"--out={tmp_path / 'c'}"]
    assert build.main([*arguments, "--dataset=speech_commands"]) == 1
    assert "`tfds build speech_commands" in capsys.readouterr().err
    with pytest.raises(SystemExit):
        build.main(arguments)
    assert "needs --dataset=NAME and --tasks=TASK" in capsys.readouterr().err
