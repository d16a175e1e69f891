"""Tasks on everyday sounds."""

from qwen_audio_jax.tasks import fields, labels, parse
from qwen_audio_jax.tasks.task import Task

SOUND: dict[str, Task] = {
    "audio_captioning": Task(
        group="sound",
        fields={"text": fields.LABEL},
        example={"text": "a dog barks while rain falls"},
        tags="<|startofanalysis|><|unknown|><|caption|><|en|><|notimestamps|><|caption_plain|>",
        label="{text}",
        prompts=(
            "Generate the caption in English:",
            "Describe the sounds in English:",
            "用英语描述这段声音：",
            "Beschreibe die Geräusche auf Englisch:",
        ),
        metric="caption",
        parse=parse.text,
        original=True,
        survives=("gain",),
    ),
    "sound_event_classification": Task(
        group="sound",
        fields={"text": fields.LABEL},
        example={"text": "dog bark"},
        tags="<|startofanalysis|><|unknown|><|keyword|><|en|><|notimestamps|><|event|>",
        label="{text}",
        prompts=(
            "Classify the sound event:",
            "Which sound is this?",
            "这是什么声音？用英语回答：",
            "Welches Geräusch ist das? Antworte auf Englisch:",
        ),
        metric="accuracy",
        parse=parse.text,
        survives=("gain",),
    ),
    "acoustic_scene_classification": Task(
        group="sound",
        fields={"text": fields.LABEL},
        example={"text": "metro station"},
        tags="<|startofanalysis|><|unknown|><|keyword|><|en|><|notimestamps|><|scene|>",
        label="{text}",
        prompts=(
            "Classify the acoustic scene:",
            "Where was this recorded?",
            "这段录音是在哪里录的？用英语回答：",
            "Wo wurde das aufgenommen? Antworte auf Englisch:",
        ),
        metric="accuracy",
        parse=parse.text,
        original=True,
        survives=("gain",),
    ),
    "sound_event_detection": Task(
        group="sound",
        fields={"events": fields.EVENTS},
        example={
            "events": [
                {"event": "siren", "start": 0.1, "end": 1.5},
                {"event": "bell", "start": 0.7, "end": 1.0},
            ]
        },
        tags="<|startofanalysis|><|unknown|><|keyword|><|en|><|timestamps|><|event|>",
        label=labels.timed_events,
        prompts=(
            "Detect the sound events with their start and end times:",
            "Which sounds are heard, from when until when?",
            "检测声音事件，用英语写出并给出起止时间：",
            "Welche Geräusche hört man, von wann bis wann? Nenne sie auf Englisch:",
        ),
        metric="events",
        parse=parse.timed_events,
        survives=("gain",),
    ),
    "audio_question_answering": Task(
        group="sound",
        fields={"question": fields.QUESTION, "text": fields.LABEL},
        example={"question": "How many knocks are heard?", "text": "three"},
        tags="<|startofanalysis|><|en|><|question|>{question}<|answer|>",
        label="{text}",
        prompts=(
            "{question}",
            "Listen and answer: {question}",
            "听录音，用英语回答：{question}",
            "Höre zu und antworte auf Englisch: {question}",
        ),
        metric="accuracy",
        parse=parse.text,
        original=True,
        survives=("gain",),
    ),
    "audio_grounding": Task(
        group="sound",
        fields={"phrase": fields.QUESTION, "segments": fields.SEGMENTS},
        example={
            "phrase": "a dog barks",
            "segments": [{"start": 0.5, "end": 1.2}, {"start": 3.0, "end": 3.4}],
        },
        tags="<|startofanalysis|><|unknown|><|keyword|><|en|><|timestamps|><|audio_grounding|>"
        "<|startofword|>{phrase}<|endofword|>",
        label=labels.segments,
        prompts=(
            "When is this heard, from when until when: {phrase}?",
            "Find every time at which one hears {phrase}:",
            "什么时候能听到“{phrase}”？给出起止时间：",
            "Von wann bis wann hört man „{phrase}“?",
        ),
        metric="grounding",
        parse=parse.segments,
        survives=("gain",),
    ),
}
