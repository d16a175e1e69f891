"""Tasks on music."""

from qwen_audio_jax.tasks import fields, labels, parse
from qwen_audio_jax.tasks.task import Task

MUSIC: dict[str, Task] = {
    "singer_identification": Task(
        group="music",
        fields={"text": fields.LABEL},
        example={"text": "Singer 12"},
        tags="<|startofanalysis|><|unknown|><|keyword|><|en|><|notimestamps|>"
        "<|song_meta|><|question|>singer<|answer|>",
        label="{text}",
        prompts=(
            "Recognize the singer:",
            "Who is singing?",
            "谁在唱歌？",
            "Wer singt da?",
        ),
        metric="accuracy",
        parse=parse.text,
    ),
    "music_emotion": Task(
        group="music",
        fields={"text": fields.LABEL},
        example={"text": "calm"},
        tags="<|startofanalysis|><|unknown|><|keyword|><|en|><|notimestamps|>"
        "<|song_meta|><|emotion_recognition|>",
        label="{text}",
        prompts=(
            "Recognize the emotion of the music:",
            "Which mood does the music have?",
            "这段音乐表达什么情绪？用英语回答：",
            "Welche Stimmung hat die Musik? Antworte auf Englisch:",
        ),
        metric="accuracy",
        parse=parse.text,
    ),
    "music_captioning": Task(
        group="music",
        fields={"text": fields.LABEL},
        example={"text": "a slow piano piece in a minor key"},
        tags="<|startofanalysis|><|unknown|><|caption|><|en|><|notimestamps|><|music_description|>",
        label="{text}",
        prompts=(
            "Describe the music in English:",
            "Generate a caption of the music:",
            "用英语描述这段音乐：",
            "Beschreibe die Musik auf Englisch:",
        ),
        metric="caption",
        parse=parse.text,
        survives=("gain",),
    ),
    "instrument_classification": Task(
        group="music",
        fields={"text": fields.LABEL},
        example={"text": "flute"},
        tags="<|startofanalysis|><|unknown|><|keyword|><|en|><|notimestamps|><|instrument|>",
        label="{text}",
        prompts=(
            "Recognize the instrument:",
            "Which instrument is playing?",
            "这是什么乐器？用英语回答：",
            "Welches Instrument spielt? Antworte auf Englisch:",
        ),
        metric="accuracy",
        parse=parse.text,
    ),
    "note_analysis": Task(
        group="music",
        fields={"pitch": fields.MIDI, "velocity": fields.MIDI, "instrument": fields.INSTRUMENT},
        optional={"qualities": fields.NAMES},
        example={
            "pitch": 60,
            "velocity": 100,
            "qualities": ["bright", "long_release"],
            "instrument": "flute",
        },
        tags="<|startofanalysis|><|unknown|><|keyword|><|en|><|notimestamps|><|note_analysis|>",
        label=labels.note,
        prompts=(
            "Give the pitch, the velocity and the instrument of the note:",
            "Analyse the note, pitch, velocity and instrument:",
            "给出这个音的音高、力度和乐器，用英语回答：",
            "Gib Tonhöhe, Anschlagstärke und Instrument des Tons auf Englisch an:",
        ),
        answer=labels.quoted_note,
        metric="note",
        parse=parse.note,
        original=True,
        survives=("noise",),
    ),
    "genre_classification": Task(
        group="music",
        fields={"text": fields.LABEL},
        example={"text": "jazz"},
        tags="<|startofanalysis|><|unknown|><|keyword|><|en|><|notimestamps|>"
        "<|song_meta|><|question|>genre<|answer|>",
        label="{text}",
        prompts=(
            "Recognize the genre of the music:",
            "Which genre is this music?",
            "这是什么风格的音乐？用英语回答：",
            "Welcher Gattung gehört die Musik an? Antworte auf Englisch:",
        ),
        metric="accuracy",
        parse=parse.text,
    ),
    "music_recognition": Task(
        group="music",
        fields={"text": fields.LABEL},
        example={"text": "Ode to Joy"},
        tags="<|startofanalysis|><|unknown|><|keyword|><|en|><|notimestamps|>"
        "<|song_meta|><|question|>title<|answer|>",
        label="{text}",
        prompts=(
            "Recognize the piece of music:",
            "Which piece is being played?",
            "演奏的是哪首曲子？",
            "Welches Stück wird gespielt?",
        ),
        metric="accuracy",
        parse=parse.text,
    ),
    "music_question_answering": Task(
        group="music",
        fields={"question": fields.QUESTION, "text": fields.LABEL},
        example={"question": "Does the tempo rise or fall?", "text": "rise"},
        tags="<|startofanalysis|><|en|><|question|>{question}<|answer|>",
        label="{text}",
        prompts=(
            "{question}",
            "Listen to the music and answer: {question}",
            "听音乐，用英语回答：{question}",
            "Höre die Musik und antworte auf Englisch: {question}",
        ),
        metric="accuracy",
        parse=parse.text,
        survives=("gain",),
    ),
}
