"""The makers' lists in miniature, in their real layout with tiny clips: NAME(root) writes one."""

import json
import pathlib
from collections.abc import Sequence
from typing import Any

import numpy as np
import soundfile

Row = dict[str, Any]


def clip(path: pathlib.Path) -> bytes:
    """Writes a tenth of a second whose pitch is of its name; gives the file's bytes."""
    path.parent.mkdir(parents=True, exist_ok=True)
    pitch = 1 + sum(path.name.encode()) % 97
    soundfile.write(path, 0.1 * np.sin(np.arange(1600) * pitch / 100), 16000)
    return path.read_bytes()


def write(path: pathlib.Path, rows: Sequence[Row], mark: bytes = b"") -> pathlib.Path:
    """Writes rows, a `.json` file as one list and a `.jsonl` file a row a line."""
    path.parent.mkdir(parents=True, exist_ok=True)
    text = json.dumps(rows, ensure_ascii=False, indent=2)
    if path.suffix == ".jsonl":
        text = "".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows)
    path.write_bytes(mark + text.encode())
    return path


def foundation_row(number: int, task: str, dataset: str, name: str, **fields: Any) -> Row:
    row = {"path": name, "question": "What is heard?", "choice_a": "man", "choice_b": "woman"}
    told = {"answer_gt": "woman", "task_name": task, "dataset_name": dataset, "uniq_id": number}
    return row | told | fields


FOUNDATION = [
    foundation_row(0, "Speaker_Gender_Recognition", "meld", "a.wav"),
    foundation_row(1, "Speaker_Emotion_Recontion", "iemocap", "b.wav", choice_c="child"),
    foundation_row(2, "Audio_Grounding", "AudioGrounding", "c.wav", choice_c="cat",
                   choice_d="dog", answer_gt="dog"),
    foundation_row(3, "Sound_AQA", "avqa", "gone.mp3"),
    foundation_row(1, "Sound_AQA", "avqa", "d.wav"),
    foundation_row(4, "Sound_AQA", "avqa", "d.wav", answer_gt="robot"),
    foundation_row(5, "Sound_AQA", "avqa", "d.wav", choice_c=None, choice_d=None),
]  # fmt: skip


def air_foundation(root: pathlib.Path) -> pathlib.Path:
    folder = root / "Foundation"
    clip(folder / "Speaker_Gender_Recognition_meld" / "a.wav")
    clip(folder / "Speaker_Emotion_Recontion_iemocap" / "b.wav")
    clip(folder / "Audio_Grounding_AudioGrounding" / "c.flac")
    clip(folder / "Sound_AQA_avqa" / "d.wav")
    return write(folder / "Foundation_meta.json", FOUNDATION)


CHAT = [
    {
        "meta_info": "A man says good morning. 一个男人",
        "question": "What might he do next?",
        "answer_gt": "He might have breakfast.",
        "path": f"{name}.wav",
        "task_name": "speech_dialogue_QA",
        "dataset_name": "fisher",
        "uniq_id": number,
    }
    for number, name in enumerate(("a", "gone", "b"))
]


def air_chat(root: pathlib.Path) -> pathlib.Path:
    for name in ("a.wav", "b.wav"):
        clip(root / "Chat" / "speech_dialogue_QA_fisher" / name)
    return write(root / "Chat" / "Chat_meta.json", CHAT)


def mmau_row(number: int, **fields: Any) -> Row:
    return {
        "id": f"3fe6-{number}",
        "audio_id": f"./test-mini-audios/3fe6-{number}.wav",
        "question": "Based on the given audio, identify the source of the speaking voice.",
        "choices": ["Man", "Woman", "Child", "Robot"],
        "answer": "Man",
        "dataset": "AudioSet",
        "task": "sound",
        "split": "test-mini",
        "category": "Reasoning",
        "sub-category": "Acoustic Source Inference",
        "difficulty": "medium",
    } | fields


MMAU = [mmau_row(0), mmau_row(1, answer="Child "), mmau_row(2, answer="Dog"), mmau_row(3)]


def mmau(root: pathlib.Path) -> pathlib.Path:
    for number in range(3):
        clip(root / "test-mini-audios" / f"3fe6-{number}.wav")
    return write(root / "mmau-test-mini.json", MMAU)


MMAR = [
    {
        "id": name,
        "audio_path": f"./audio/{name}.wav",
        "question": "Who arrives first?",
        "choices": ["The dog", "The cat"],
        "answer": "The cat",
        "modality": "mix-sound-speech",
        "category": "Semantic Layer",
        "sub-category": "Content Analysis",
        "language": "zh",
        "source": "youtube",
        "url": "https://www.youtube.com/watch?v=x",
        "timestamp": "00:00,00:10",
    }
    for name in ("one", "two")
]


def mmar(root: pathlib.Path) -> pathlib.Path:
    for name in ("one.wav", "two.wav"):
        clip(root / "audio" / name)
    return write(root / "MMAR-meta.jsonl", MMAR)


MMSU = [
    {
        "task_name": "intonation_perception",
        "id": f"intonation_{number}",
        "audio_path": f"audio/{number}.wav",
        "question": "Which word is stressed?",
        "choice_a": "I",
        "choice_b": "never",
        "answer_gt": "never",
        "category": "Perception",
        "sub-category": "Linguistics",
        "sub-sub-category": "Phonology",
        "linguistics_sub_discipline": "Phonetics",
    }
    | more
    for number, more in enumerate(({"choice_c": "said", "choice_d": "it"}, {}))
]


def mmsu(root: pathlib.Path) -> pathlib.Path:
    for number in range(2):
        clip(root / "audio" / f"{number}.wav")
    return write(root / "mmsu.jsonl", MMSU, mark=b"\xef\xbb\xbf")


_SPOKEN = "Which is a metal?\nA. air\nB. iron\nC. rain\nD. wood\nWhich one is it?"
VOICE_BENCH = {
    "openbookqa": [
        {"audio": "a.wav", "prompt": _SPOKEN, "reference": "B"},
        {"audio": "b.wav", "prompt": _SPOKEN, "reference": "E"},
    ],
    "mmsu": [{"audio": "a.wav", "prompt": _SPOKEN, "reference": "B", "question_id": 70,
              "category": "physics", "src": "ori_mmlu-physics"}],
    "bbh": [
        {"audio": "a.wav", "prompt": "Do you return?", "reference": "No", "id": "bbh_navigate_1"},
        {"audio": "b.wav", "prompt": "Which order?", "reference": "(B)", "id": "bbh_hyperbaton_2"},
    ],
    "ifeval": [{"audio": "a.wav", "key": 1001, "prompt": "Write without commas.",
                "instruction_id_list": ["punctuation:no_comma"], "kwargs": [{}]}],
    "advbench": [{"audio": "a.wav", "prompt": "Say how to pick a lock."}],
}  # fmt: skip


def voice_bench(root: pathlib.Path, name: str = "bbh") -> pathlib.Path:
    for file in ("a.wav", "b.wav"):
        clip(root / file)
    return write(root / f"{name}-test.jsonl", VOICE_BENCH[name])


QWEN_AUDIO = [
    {"audio": "data/asr/clips/1089.flac", "gt": "<|en|>hello there", "source": "test_clean"},
    {"audio": "data/asr/clips/1221.flac", "gt": "good morning", "source": "test_other"},
]


def qwen_audio(root: pathlib.Path) -> pathlib.Path:
    """Paths begin where the scripts were started: above the list's folder."""
    for row in QWEN_AUDIO:
        clip(root / row["audio"])
    return write(root / "data" / "asr" / "librispeech_eval.jsonl", QWEN_AUDIO)


QWEN2_AUDIO = [
    {
        "audio": "cv.wav",
        "prompt": "Detect the language and recognize the speech: <|fr|>",
        "gt": "bonjour",
        "source": "cv15_fr",
    }
]


def qwen2_audio(root: pathlib.Path) -> pathlib.Path:
    clip(root / "cv.wav")
    return write(root / "cv15_asr_fr_eval.jsonl", QWEN2_AUDIO)


NEMO = [
    {"audio_filepath": "a.wav", "duration": 0.1, "text": "hello", "lang": "de"},
    {"audio_filepath": "a.wav", "offset": 0.05, "duration": 0.05, "text": "there"},
    {"audio_filepath": "gone.wav", "duration": 0.1, "text": "nothing"},
]


def nemo(root: pathlib.Path) -> pathlib.Path:
    clip(root / "a.wav")
    return write(root / "test.jsonl", NEMO)


def manifest(root: pathlib.Path) -> pathlib.Path:
    clip(root / "a.wav")
    asr = {"audio": "a.wav", "task": "asr", "text": "hello", "language": "en", "speaker": "7"}
    return write(
        root / "mine.jsonl", [asr, {"task": "text", "text": "No clip."}, {"audio": "a.wav"}]
    )


LISTS = {
    "manifest": manifest,
    "nemo": nemo,
    "originals": qwen_audio,
    "air_foundation": air_foundation,
    "air_chat": air_chat,
    "mmau": mmau,
    "mmar": mmar,
    "mmsu": mmsu,
    "voice_bench": voice_bench,
}
"""By form."""
