"""Published corpora in their real layout, a few clips each: NAME(root) writes one."""

import json
import pathlib

import numpy as np
import soundfile


def tone(path: pathlib.Path, seconds: float = 0.1) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    wave = 0.1 * np.sin(np.arange(int(16000 * seconds)) * len(path.stem) / 20)
    soundfile.write(path, wave, 16000)


def text(path: pathlib.Path, *lines: str) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("\n".join(lines) + "\n", encoding="utf-8")


def librispeech(root: pathlib.Path) -> None:
    text(
        root / "SPEAKERS.TXT",
        ";ID  |SEX| SUBSET           |MINUTES| NAME",
        "103  | F | train-clean-100  | 25.03 | Karen Savage",
        "84   | M | dev-clean        | 8.02  | Christie | Nowak",
    )
    for part, chapter, lines in (
        ("train-clean-100", "103/1240", ["CHAPTER ONE MISSUS RACHEL LYNDE", "THAT HAD ITS SOURCE"]),
        ("dev-clean", "84/121123", ["GO DO YOU HEAR"]),
        ("test-clean", "61/70968", ["HE BEGAN A CONFUSED COMPLAINT"]),
    ):
        folder, stem = root / part / chapter, chapter.replace("/", "-")
        names = [f"{stem}-{i:04d}" for i in range(len(lines))]
        text(folder / f"{stem}.trans.txt", *map(" ".join, zip(names, lines, strict=True)))
        for name in names:
            tone(folder / f"{name}.flac")


def aishell1(root: pathlib.Path) -> None:
    text(
        root / "transcript" / "aishell_transcript_v0.8.txt",
        "BAC009S0002W0122 而 对 楼市 成交 抑制 作用 最 大 的 限 购",
        "BAC009S0724W0121 广州市 房地产 中介 协会 分析",
        "BAC009S0764W0121 甚至 出现 交易 几乎 停滞 的 情况",
    )
    for name in ("train/S0002/BAC009S0002W0122", "train/S0002/BAC009S0002W0999"):
        tone(root / "wav" / f"{name}.wav")
    tone(root / "wav" / "dev" / "S0724" / "BAC009S0724W0121.wav")
    tone(root / "wav" / "test" / "S0764" / "BAC009S0764W0121.wav")


def speech_commands(root: pathlib.Path) -> None:
    text(root / "validation_list.txt", "bed/026290a7_nohash_0.wav")
    text(root / "testing_list.txt", "bed/0c40e715_nohash_0.wav")
    for name in (
        "bed/00176480_nohash_0",
        "bed/026290a7_nohash_0",
        "bed/0c40e715_nohash_0",
        "cat/00176480_nohash_0",
        "_background_noise_/pink_noise",
    ):
        tone(root / f"{name}.wav")


def nsynth(root: pathlib.Path) -> None:
    for part, name, note in (
        ("train", "synth_lead_synthetic_001-082-050", (82, 50, "synth_lead", ["bright", "dark"])),
        ("valid", "bass_synthetic_068-049-025", (49, 25, "bass", [])),
        ("test", "brass_acoustic_046-076-127", (76, 127, "brass", [])),
    ):
        pitch, velocity, family, qualities = note
        listed = {
            "note_str": name,
            "pitch": pitch,
            "velocity": velocity,
            "instrument_family_str": family,
            "qualities_str": qualities,
            "sample_rate": 16000,
        }
        text(root / f"nsynth-{part}" / "examples.json", json.dumps({name: listed}))
        tone(root / f"nsynth-{part}" / "audio" / f"{name}.wav")


def vocalsound(root: pathlib.Path) -> None:
    for part, names in (
        ("tr", ["m0002_0_throatclearing.wav", "f0003_0_cough.wav"]),
        ("val", ["f0004_0_sigh.wav"]),
        ("te", ["m0005_0_sniff.wav"]),
    ):
        rows = [{"wav": f"/data/sls/vocalsound/{n}", "labels": "/m/01b_21"} for n in names]
        text(root / "datafiles" / f"{part}.json", json.dumps({"data": rows}))
        for name in names:
            tone(root / "audio_16k" / name)


def common_voice(root: pathlib.Path) -> None:
    """The columns of release 17; older ones lack sentence_id, sentence_domain and variant."""
    head = (
        "client_id\tpath\tsentence_id\tsentence\tsentence_domain\tup_votes\tdown_votes\tage\t"
        "gender\taccents\tvariant\tlocale\tsegment"
    )

    def row(number: int, sentence: str, age: str, gender: str) -> str:
        path = f"common_voice_de_{number}.mp3"
        return f"a{number}\t{path}\tf{number}\t{sentence}\t\t2\t0\t{age}\t{gender}\t\t\tde\t"

    rows = {
        "train": [
            row(1, '"Nein", sagte er.', "fourties", "male"),
            row(2, "Das war alles.", "", "female_feminine"),
        ],
        "dev": [row(3, "Guten Tag.", "twenties", "female")],
        "test": [row(4, "Nie gesehen.", "teens", "other")],
    }
    text(root / "validated.tsv", head, *rows["train"], *rows["dev"], *rows["test"])
    for part, lines in rows.items():
        text(root / f"{part}.tsv", head, *lines)
        for line in lines:
            tone(root / "clips" / line.split("\t")[1])


def covost2(root: pathlib.Path) -> None:
    head = "path\tsentence\ttranslation\tclient_id"
    text(
        root / "covost_v2.en_de.train.tsv",
        head,
        'a.mp3\tHe said \\"no\\".\tEr sagte "nein".\tx',
        "b.mp3\tGood day.\tGuten Tag.\ty",
    )
    text(root / "covost_v2.en_zh-CN.train.tsv", head, "b.mp3\tGood day.\t你好。\ty")
    text(root / "covost_v2.en_de.dev.tsv", head, "c.mp3\tThank you.\tDanke.\tz")
    text(root / "covost_v2.en_de.test.tsv", head, "d.mp3\tNever seen.\tNie gesehen.\tz")
    for name in "abcd":
        tone(root / "clips" / f"{name}.mp3")


def aishell2(root: pathlib.Path) -> None:
    for part, name, said in (
        ("data", "IC0001W0001", "厨房用品"),
        ("dev", "ID0012W0030", "打开空调"),
        ("test", "IT0011W0001", "换一首歌"),
    ):
        path = f"wav/{name[1:5]}/{name}.wav"
        text(root / part / "wav.scp", f"{name}\t{path}")
        text(root / part / "trans.txt", f"{name}\t{said}", "IC0009W0009\t没有录音")
        tone(root / part / path)


def fleurs(root: pathlib.Path) -> None:
    for part, name, said, gender in (
        ("train", "11.wav", 'It is "out\u2028there".', "FEMALE"),
        ("dev", "12.wav", "The lion is a cat.", "MALE"),
        ("test", "13.wav", "Never seen.", "MALE"),
    ):
        plain = said.lower().replace(".", "")
        text(root / f"{part}.tsv", "\t".join(["7", name, said, plain, "i t |", "1600", gender]))
        tone(root / "audio" / part / name)


def audiocaps(root: pathlib.Path) -> None:
    head = "audiocap_id,youtube_id,start_time,caption"
    text(
        root / "dataset" / "train.csv",
        head,
        '91139,r1nicOVtvkQ,130,"A woman talks, nearby"',
        "58146,-0Gj8-vB1q4,30,Rain falls",
    )
    text(root / "dataset" / "val.csv", head, "97151,vfY_TJq7n_U,130,A bell", "2,vfY_TJq7n_U,130,B")
    text(root / "dataset" / "test.csv", head, "1,aaa,0,Never seen")
    for name in ("train/r1nicOVtvkQ.wav", "train/-0Gj8-vB1q4_30.flac", "val/YvfY_TJq7n_U.wav"):
        tone(root / "audio" / name)


def clotho(root: pathlib.Path) -> None:
    head = "file_name," + ",".join(f"caption_{i}" for i in range(1, 6))
    for part, name in (
        ("development", "AM Radio.wav"),
        ("validation", "b.wav"),
        ("evaluation", "c.wav"),
    ):
        quoted = '"One, two",' + ",".join(f"{part} {i}" for i in range(2, 6))
        text(root / f"clotho_captions_{part}.csv", head, f"{name},{quoted}")
        tone(root / part / name)


def clothoaqa(root: pathlib.Path) -> None:
    head = "file_name,QuestionText,answer,confidence"
    questions = {
        "train": [
            *[f"a.wav,Is it raining?,{answer},yes" for answer in ("yes", "no", "Yes")],
            *[f"a.wav,What is heard?,{answer},yes" for answer in ("rain", "water", "a river")],
            *[f'a.wav,"How many, if any, birds?",{answer},yes' for answer in ("two", "two", "two")],
        ],
        "val": [f"b.wav,What is it?,{answer},maybe" for answer in ("bell", "bell", "gong")],
        "test": ["c.wav,Never?,seen,yes"] * 3,
    }
    for part, lines in questions.items():
        text(root / f"clotho_aqa_{part}.csv", head, *lines)
        tone(root / "audio_files" / lines[0].split(",")[0])


def meld(root: pathlib.Path) -> None:
    head = (
        "Sr No.,Utterance,Speaker,Emotion,Sentiment,Dialogue_ID,Utterance_ID,Season,Episode,"
        "StartTime,EndTime"
    )
    times = '"00:16:16,059","00:16:21,731"'
    for table, folder, said, emotion in (
        ("train", "train_splits", '"That\x92s it, then."', "neutral"),
        ("dev", "dev_splits_complete", "Oh my God!", "surprise"),
        ("test", "output_repeated_splits_test", "Never seen.", "joy"),
    ):
        text(
            root / f"{table}_sent_emo.csv",
            head,
            f"1,{said},Rachel,{emotion},neutral,0,3,8,21,{times}",
        )
        tone(root / folder / "dia0_utt3.wav")


def cochlscene(root: pathlib.Path) -> None:
    for part, scene in (
        ("Train", "SubwayStation"),
        ("Train", "Bus"),
        ("Val", "Park"),
        ("Test", "Car"),
    ):
        tone(root / part / scene / f"{scene}_user0001_14864960_001.wav")


def tut2017(root: pathlib.Path) -> None:
    setup = root / "evaluation_setup"
    text(setup / "fold1_train.txt", "audio/b1.wav\tcafe/restaurant", "audio/b2.wav\tcity_center")
    text(setup / "fold1_evaluate.txt", "audio/b3.wav\tbeach")
    text(setup / "fold1_test.txt", "audio/b3.wav")
    for number in (1, 2, 3):
        tone(root / "audio" / f"b{number}.wav")


def voxceleb1(root: pathlib.Path) -> None:
    """Speaker 0 of forty for validation, three others; one of the test set."""
    speakers = [f"id1{number:04d}" for number in range(1, 41)]
    rows = [f"{name}\tName\t{'fm'[i % 2]}\tUSA\tdev" for i, name in enumerate(speakers)]
    rows.append("id10270\tEartha\tf\tUSA\ttest")
    text(root / "vox1_meta.csv", "VoxCeleb1 ID\tVGGFace1 ID\tGender\tNationality\tSet", *rows)
    for name in ("id10001", "id10002", "id10003", "id10021", "id10270"):
        for video, count in (("aaa", 2), ("bbb", 1)):
            for number in range(1, count + 1):
                tone(root / "wav" / name / video / f"{number:05d}.wav")


def gtzan(root: pathlib.Path) -> None:
    for name in ("blues/blues.00000", "blues/blues.00009", "hiphop/hiphop.00010"):
        tone(root / "genres_original" / f"{name}.wav")


def musiccaps(root: pathlib.Path) -> None:
    head = (
        "ytid,start_s,end_s,audioset_positive_labels,aspect_list,caption,author_id,"
        "is_balanced_subset,is_audioset_eval"
    )
    text(
        root / "musiccaps-public.csv",
        head,
        '-0Gj8,30,40,"/m/01,/m/02","[\'calm\']","A slow, calm\npiece.",4,False,True',
        "xyz,0,10,/m/01,[],Fast drums.,4,False,False",
    )
    for name in ("-0Gj8.wav", "xyz.flac"):
        tone(root / "audio" / name)
