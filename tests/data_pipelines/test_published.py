"""Published corpora: miniatures in their real layout become the records they should."""

import pathlib

import miniatures
import pytest

from data_pipelines import build
from data_pipelines.records import Corpus, RejectedRecord
from data_pipelines.sources import published
from qwen_audio_jax.tasks import TASKS, check_annotation

MINIATURES = {name: getattr(miniatures, name) for name in published.PUBLISHED}
# Of each split: the file's stem and what is said of it.
EXPECTED = {
    ("librispeech", "asr"): (
        [
            ("103-1240-0000", "chapter one missus rachel lynde"),
            ("103-1240-0001", "that had its source"),
        ],
        [("84-121123-0000", "go do you hear")],
    ),
    ("librispeech", "speaker_gender"): (
        [("103-1240-0000", "female"), ("103-1240-0001", "female")],
        [("84-121123-0000", "male")],
    ),
    ("aishell1", "asr"): (
        [("BAC009S0002W0122", "而对楼市成交抑制作用最大的限购")],
        [("BAC009S0724W0121", "广州市房地产中介协会分析")],
    ),
    ("speech_commands", "keyword_spotting"): (
        [("00176480_nohash_0", "bed"), ("00176480_nohash_0", "cat")],
        [("026290a7_nohash_0", "bed")],
    ),
    ("nsynth", "instrument_classification"): (
        [("synth_lead_synthetic_001-082-050", "synth lead")],
        [("bass_synthetic_068-049-025", "bass")],
    ),
    ("common_voice", "asr"): (
        [("common_voice_de_1", '"Nein", sagte er.'), ("common_voice_de_2", "Das war alles.")],
        [("common_voice_de_3", "Guten Tag.")],
    ),
    ("common_voice", "language_identification"): (
        [("common_voice_de_1", "German"), ("common_voice_de_2", "German")],
        [("common_voice_de_3", "German")],
    ),
    ("common_voice", "speaker_gender"): (
        [("common_voice_de_1", "male"), ("common_voice_de_2", "female")],
        [("common_voice_de_3", "female")],
    ),
    ("common_voice", "speaker_age"): (
        [("common_voice_de_1", "forties")],
        [("common_voice_de_3", "twenties")],
    ),
    ("covost2", "speech_translation"): (
        [("a", 'Er sagte "nein".'), ("b", "Guten Tag."), ("b", "你好。")],
        [("c", "Danke.")],
    ),
    ("covost2", "asr"): ([("a", 'He said "no".'), ("b", "Good day.")], [("c", "Thank you.")]),
    ("aishell2", "asr"): ([("IC0001W0001", "厨房用品")], [("ID0012W0030", "打开空调")]),
    ("fleurs", "asr"): ([("11", 'It is "out\u2028there".')], [("12", "The lion is a cat.")]),
    ("fleurs", "language_identification"): ([("11", "English")], [("12", "English")]),
    ("fleurs", "speaker_gender"): ([("11", "female")], [("12", "male")]),
    ("audiocaps", "audio_captioning"): (
        [("r1nicOVtvkQ", "A woman talks, nearby"), ("-0Gj8-vB1q4_30", "Rain falls")],
        [("YvfY_TJq7n_U", "A bell"), ("YvfY_TJq7n_U", "B")],
    ),
    ("clotho", "audio_captioning"): (
        [("AM Radio", "One, two"), *(("AM Radio", f"development {i}") for i in range(2, 6))],
        [("b", "One, two"), *(("b", f"validation {i}") for i in range(2, 6))],
    ),
    ("clothoaqa", "audio_question_answering"): ([("a", "two"), ("a", "yes")], [("b", "bell")]),
    ("meld", "emotion_recognition"): ([("dia0_utt3", "neutral")], [("dia0_utt3", "surprise")]),
    ("meld", "asr"): ([("dia0_utt3", "That’s it, then.")], [("dia0_utt3", "Oh my God!")]),
    ("cochlscene", "acoustic_scene_classification"): (
        [
            ("Bus_user0001_14864960_001", "bus"),
            ("SubwayStation_user0001_14864960_001", "subway station"),
        ],
        [("Park_user0001_14864960_001", "park")],
    ),
    ("tut2017", "acoustic_scene_classification"): (
        [("b1", "cafe or restaurant"), ("b2", "city center")],
        [("b3", "beach")],
    ),
    ("gtzan", "genre_classification"): (
        [("blues.00000", "blues"), ("hiphop.00010", "hiphop")],
        [("blues.00009", "blues")],
    ),
    ("musiccaps", "music_captioning"): (
        [("xyz", "Fast drums.")],
        [("-0Gj8", "A slow, calm piece.")],
    ),
    ("vocalsound", "vocal_sound_classification"): (
        [("f0003_0_cough", "Cough"), ("m0002_0_throatclearing", "Throat clearing")],
        [("f0004_0_sigh", "Sigh")],
    ),
    ("vocalsound", "speaker_gender"): (
        [("f0003_0_cough", "female"), ("m0002_0_throatclearing", "male")],
        [("f0004_0_sigh", "female")],
    ),
}


@pytest.fixture(params=MINIATURES)
def miniature(request, tmp_path):
    """(name, folder) of every corpus."""
    # FLEURS says the language in the folder's name.
    folder = tmp_path / "en_us"
    MINIATURES[request.param](folder)
    return request.param, folder


def test_every_corpus_has_a_miniature_and_a_true_row_in_the_docs():
    assert MINIATURES.keys() == published.PUBLISHED.keys()
    page = (pathlib.Path(__file__).parents[2] / "docs" / "data.md").read_text(encoding="utf-8")
    section = page.partition("## Published corpora\n")[2].partition("\n## ")[0]
    rows = [[cell.strip() for cell in line.split("|")] for line in section.splitlines()]
    told = {row[1].strip("`"): (row[3], row[4]) for row in rows if row[1:2] and "`" in row[1][:1]}
    told.pop("--source", None)
    assert told == {
        name: (source.LICENSE, ", ".join(source.TASKS))
        for name, source in published.PUBLISHED.items()
    }


@pytest.mark.parametrize(("name", "task"), EXPECTED)
def test_clips_and_their_labels(name, task, tmp_path):
    tmp_path = tmp_path / "en_us"
    MINIATURES[name](tmp_path)
    for split, expected in zip(("train", "validation"), EXPECTED[name, task], strict=True):
        rows = published.jobs(name, tmp_path, split, [task])
        assert [(row.paths[0].stem, row.annotation["text"]) for row in rows] == expected
        assert all(row.task == task for row in rows)


def test_notes(tmp_path):
    miniatures.nsynth(tmp_path)
    (row,) = published.jobs("nsynth", tmp_path, "train")
    assert row.annotation == {
        "pitch": 82,
        "velocity": 50,
        "instrument": "synth lead",
        "qualities": ["bright", "dark"],
        "source": "nsynth",
        "license": "CC-BY-4.0",
    }


def test_pairs_of_speakers(tmp_path):
    miniatures.voxceleb1(tmp_path)
    pairs = published.jobs("voxceleb1", tmp_path, "train", ["speaker_verification"])
    told = [
        ("+".join(str(p.relative_to(tmp_path / "wav")) for p in row.paths), row) for row in pairs
    ]
    assert [(name, row.annotation["text"]) for name, row in told[:4]] == [
        ("id10002/aaa/00001.wav+id10002/bbb/00001.wav", "same"),
        ("id10002/aaa/00001.wav+id10003/aaa/00001.wav", "different"),
        ("id10002/aaa/00002.wav+id10002/bbb/00001.wav", "same"),
        ("id10002/aaa/00002.wav+id10003/aaa/00002.wav", "different"),
    ]
    assert len(pairs) == 12  # three clips of two speakers, twice each
    heard = {path.parts[-3] for row in pairs for path in row.paths}
    assert heard == {"id10002", "id10003"}
    held_out = published.jobs("voxceleb1", tmp_path, "validation", ["speaker_verification"])
    assert {p.parts[-3] for row in held_out for p in row.paths} == {"id10001", "id10021"}
    genders = published.jobs("voxceleb1", tmp_path, "train", ["speaker_gender"])
    assert [row.annotation["text"] for row in genders] == ["male"] * 3 + ["female"] * 3


def test_ids_tell_questions_of_one_clip_apart(tmp_path):
    miniatures.clothoaqa(tmp_path)
    rows = published.jobs("clothoaqa", tmp_path, "train")
    first = "clothoaqa-audio_files/a-audio_question_answering"
    assert [row.id for row in rows] == [first, f"{first}-2"]
    assert [row.annotation["question"] for row in rows] == [
        "How many, if any, birds?",
        "Is it raining?",
    ]


def test_a_table_that_is_not_as_published_is_named(tmp_path):
    miniatures.common_voice(tmp_path)
    (tmp_path / "train.tsv").write_text("client_id\tpath\n")
    with pytest.raises(
        RejectedRecord, match=r"train\.tsv: has no column 'sentence'; it has client"
    ):
        published.jobs("common_voice", tmp_path, "train")
    (tmp_path / "train.tsv").unlink()
    with pytest.raises(RejectedRecord, match=r"train\.tsv: is not there"):
        published.jobs("common_voice", tmp_path, "train")
    miniatures.fleurs(tmp_path / "en_us")
    (tmp_path / "en_us" / "dev.tsv").write_text("1\t2.wav\n")
    with pytest.raises(RejectedRecord, match=r"dev\.tsv, line 1: has 2 columns"):
        published.jobs("fleurs", tmp_path / "en_us", "validation")


def test_a_list_that_was_cut_off_is_told_in_a_sentence(tmp_path, capsys):
    miniatures.nsynth(tmp_path / "nsynth")
    listed = tmp_path / "nsynth" / "nsynth-train" / "examples.json"
    listed.write_text(listed.read_text()[:40])
    flags = [f"--root={tmp_path / 'nsynth'}", f"--out={tmp_path / 'corpus'}"]
    assert build.main(["--source=nsynth", *flags]) == 1
    said = capsys.readouterr().err
    assert "a list of clips in it is not as nsynth was published (Unterminated string" in said
    assert said.count("\n") == 1


def test_archives_of_meld_may_lie_in_folders_of_their_own(tmp_path):
    miniatures.meld(tmp_path)
    for part, names in (
        ("train", ("train_sent_emo.csv", "train_splits")),
        ("dev", ("dev_splits_complete",)),
    ):
        (tmp_path / part).mkdir()
        for name in names:
            (tmp_path / name).rename(tmp_path / part / name)
    for split, folder in (
        ("train", "train/train_splits"),
        ("validation", "dev/dev_splits_complete"),
    ):
        (row,) = published.jobs("meld", tmp_path, split)
        assert row.paths[0] == tmp_path / folder / "dia0_utt3.wav"
        assert row.paths[0].is_file()


def test_all_tasks_build_and_read_back(miniature, tmp_path, capsys):
    name, root = miniature
    out = tmp_path / "corpus"
    tasks = published.PUBLISHED[name].TASKS
    flags = [f"--source={name}", f"--root={root}", f"--out={out}", f"--tasks={','.join(tasks)}"]
    assert build.main([*flags, "--workers=1"]) == 0, capsys.readouterr().err
    corpus = Corpus(out)
    assert (out / "rejected.jsonl").read_text() == ""
    for split in ("train", "validation"):
        index = corpus.index(split)
        assert {row.task for row in index} == set(tasks)
        for number, row in enumerate(index):
            assert row.samples == (1600,) * TASKS[row.task].clips
            check_annotation(row.task, row.annotation, TASKS[row.task].clips)
            assert corpus.record(split, number).id == row.id


def test_another_folder_and_another_task_are_refused(miniature, tmp_path):
    name, root = miniature
    (tmp_path / "empty").mkdir()
    with pytest.raises(RejectedRecord, match=f"is not {name} as published, which has "):
        published.jobs(name, tmp_path / "empty", "train")
    with pytest.raises(RejectedRecord, match="has no labels for 'speaker_diarization'; it has "):
        published.jobs(name, root, "train", ["speaker_diarization"])


def test_flags_that_do_not_go_together(tmp_path, capsys):
    for flags, message in (
        (["--source=librispeech"], "--source=librispeech needs --root=DIR"),
        (["--source=nsynth", f"--root={tmp_path}", "--seed=1"], "--seed does not go with"),
        (["--source=synthetic", f"--root={tmp_path}"], "--root does not go with"),
        (["--source=manifest", "--manifest=m", "--tasks=asr"], "--tasks does not go with"),
    ):
        with pytest.raises(SystemExit):
            build.main([*flags, f"--out={tmp_path / 'out'}"])
        assert message in capsys.readouterr().err


def test_a_missing_clip_is_rejected_and_the_rest_is_built(tmp_path, capsys):
    root, out = tmp_path / "unpacked", tmp_path / "corpus"
    miniatures.librispeech(root)
    gone = root / "train-clean-100" / "103" / "1240" / "103-1240-0001.flac"
    gone.unlink()
    assert build.main(["--source=librispeech", f"--root={root}", f"--out={out}"]) == 0
    assert f"field 'audio': {gone} cannot be read" in (out / "rejected.jsonl").read_text()
    assert "1 rows rejected" in capsys.readouterr().err
    assert len(Corpus(out).index("train")) == 1
