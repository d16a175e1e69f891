"""Speech tasks."""

from qwen_audio_jax.tasks import labels, parse
from qwen_audio_jax.tasks.task import Task

SPEECH: dict[str, Task] = {
    "asr": Task(
        group="speech",
        fields=("text", "language"),
        example={"text": "good morning", "language": "en"},
        tags="<|startoftranscript|><|{language}|><|transcribe|><|{language}|>"
        "<|notimestamps|><|wo_itn|>",
        label="{text}",
        prompts=(
            "Detect the language and recognize the speech: ",
            "Recognize the speech in its own language: ",
            "Write down what is said: ",
        ),
        answer="<|{language}|>{text}",
        metric="wer",
        parse=parse.text_with_language,
        original=True,
    ),
    "speech_translation": Task(
        group="speech",
        fields=("text", "language", "target_language"),
        example={"text": "guten Morgen", "language": "en", "target_language": "de"},
        tags="<|startoftranscript|><|{language}|><|translate|><|{target_language}|>"
        "<|notimestamps|><|itn|>",
        label="{text}",
        prompts=(
            "Translate the {language_name} speech into {target_language_name}:",
            "Say in {target_language_name} what is said in {language_name}:",
        ),
        metric="bleu",
        parse=parse.text,
        original=True,
    ),
    "overlapped_speech_recognition": Task(
        group="speech",
        fields=("texts", "language"),
        example={"texts": ["good morning", "how are you"], "language": "en"},
        tags="<|startoftranscript|><|{language}|><|transcribe|><|{language}|>"
        "<|notimestamps|><|wo_itn|><|delim|>",
        label=labels.utterances,
        prompts=(
            "Several people speak at once. Write down what each of them says:",
            "Recognize the overlapping speech, speaker by speaker:",
        ),
        answer=labels.quoted_utterances,
        metric="utterances",
        parse=parse.utterances,
    ),
    "dialect_speech_recognition": Task(
        group="speech",
        fields=("text", "language"),
        example={"text": "你今天吃饭了吗", "language": "zh"},
        tags="<|startoftranscript|><|unknown|><|transcribe|><|{language}|>"
        "<|notimestamps|><|wo_itn|>",
        label="{text}",
        prompts=(
            "Recognize the dialect speech and write it in standard {language_name}:",
            "What is said in dialect, in standard {language_name}?",
        ),
        metric="wer",
        parse=parse.text,
    ),
    "word_timestamps": Task(
        group="speech",
        fields=("words", "language"),
        example={
            "words": [
                {"word": "good", "start": 0.54, "end": 0.8},
                {"word": "morning", "start": 0.8, "end": 1.17},
            ],
            "language": "en",
        },
        tags="<|startoftranscript|><|{language}|><|transcribe|><|{language}|>"
        "<|timestamps|><|0.00|>",
        label=labels.timed_words,
        prompts=(
            "Recognize the speech with word timestamps: <|{language}|><|0.00|>",
            "Write each word with the time at which it ends: <|{language}|><|0.00|>",
        ),
        metric="timestamps",
        parse=parse.timed_words,
        original=True,
    ),
    "dialect_identification": Task(
        group="speech",
        fields=("text", "language"),
        example={"text": "Sichuan", "language": "zh"},
        tags="<|startofanalysis|><|{language}|><|keyword|><|en|><|notimestamps|>"
        "<|speaker_meta|><|question|>dialect<|answer|>",
        label="{text}",
        prompts=("Identify the dialect of the speech:", "Which dialect is spoken?"),
        metric="accuracy",
        parse=parse.text,
    ),
    "language_identification": Task(
        group="speech",
        fields=("text",),
        example={"text": "German"},
        tags="<|startofanalysis|><|unknown|><|keyword|><|en|><|notimestamps|>",
        label="{text}",
        prompts=("Identify the language of the speech:", "Which language is spoken?"),
        metric="accuracy",
        parse=parse.text,
    ),
    "speaker_gender": Task(
        group="speech",
        fields=("text",),
        example={"text": "female", "language": "en"},
        tags="<|startofanalysis|><|{language}|><|keyword|><|en|><|notimestamps|>"
        "<|speaker_meta|><|question|>gender<|answer|>",
        label="{text}",
        prompts=("Recognize the gender of the speaker:", "Is the speaker female or male?"),
        metric="accuracy",
        parse=parse.text,
    ),
    "emotion_recognition": Task(
        group="speech",
        fields=("text", "language"),
        example={"text": "joy", "language": "en"},
        tags="<|startofanalysis|><|{language}|><|keyword|><|en|><|notimestamps|>"
        "<|emotion_recognition|>",
        label="{text}",
        prompts=(
            "Recognize the emotion with keywords in English:",
            "In which emotion does the speaker speak?",
        ),
        metric="accuracy",
        parse=parse.text,
        original=True,
    ),
    "speaker_verification": Task(
        group="speech",
        fields=("text",),
        example={"text": "same"},
        tags="<|startofanalysis|><|unknown|><|keyword|><|en|><|notimestamps|>"
        "<|speaker_meta|><|choice|>",
        label="{text}",
        prompts=(
            "Is the speaker of the two recordings the same or different?",
            "Compare the two speakers, same or different:",
        ),
        metric="accuracy",
        parse=parse.text,
        clips=2,
    ),
    "speaker_diarization": Task(
        group="speech",
        fields=("turns",),
        example={
            "turns": [
                {"speaker": "A", "start": 0.0, "end": 1.3},
                {"speaker": "B", "start": 1.1, "end": 2.4},
            ],
            "language": "en",
        },
        tags="<|startofanalysis|><|{language}|><|keyword|><|en|><|timestamps|><|speaker_meta|>",
        label=labels.timed_turns,
        prompts=(
            "Tell who speaks when, with start and end times:",
            "Which speaker is heard from when until when?",
        ),
        metric="diarization",
        parse=parse.timed_turns,
    ),
    "entity_recognition": Task(
        group="speech",
        fields=("entities", "language"),
        example={
            "entities": [{"type": "person", "value": "Anna"}, {"type": "city", "value": "Berlin"}],
            "language": "en",
        },
        tags="<|startofanalysis|><|{language}|><|keyword|><|{language}|><|notimestamps|>"
        "<|named_entity_recognition|>",
        label=labels.marked_entities,
        prompts=(
            "Recognize the named entities in the speech, each with its type:",
            "Which persons, places and other entities does the speaker name?",
        ),
        answer=labels.quoted_entities,
        metric="entities",
        parse=parse.entities,
    ),
    "keyword_spotting": Task(
        group="speech",
        fields=("text", "language"),
        example={"text": "stop", "language": "en"},
        tags="<|startofanalysis|><|{language}|><|keyword|><|{language}|><|notimestamps|>",
        label="{text}",
        prompts=("Spot the keyword in the speech:", "Which keyword is spoken?"),
        metric="accuracy",
        parse=parse.text,
    ),
    "intent_classification": Task(
        group="speech",
        fields=("scenario", "action", "language"),
        example={"scenario": "alarm", "action": "set", "language": "en"},
        tags="<|startofanalysis|><|{language}|><|keyword|><|en|><|notimestamps|>"
        "<|speech_understanding|>",
        label="<|scenario|>{scenario}<|action|>{action}",
        prompts=(
            "Classify the intent of the command, scenario and action:",
            "What does the speaker want done?",
        ),
        answer="scenario {scenario}, action {action}",
        metric="intent",
        parse=parse.intent,
    ),
    "slot_filling": Task(
        group="speech",
        fields=("entities", "language"),
        example={
            "entities": [{"type": "time", "value": "seven"}, {"type": "day", "value": "tomorrow"}],
            "language": "en",
        },
        tags="<|startofanalysis|><|{language}|><|keyword|><|{language}|><|notimestamps|>"
        "<|speech_understanding|><|entities|>",
        label=labels.marked_entities,
        prompts=(
            "Fill the slots of the command:",
            "Which values does the command name, and for which slots?",
        ),
        answer=labels.quoted_entities,
        metric="entities",
        parse=parse.entities,
    ),
    "speaker_age": Task(
        group="speech",
        fields=("text",),
        example={"text": "twenties", "language": "en"},
        tags="<|startofanalysis|><|{language}|><|keyword|><|en|><|notimestamps|>"
        "<|speaker_meta|><|question|>age<|answer|>",
        label="{text}",
        prompts=("Estimate the age of the speaker:", "How old is the speaker?"),
        metric="accuracy",
        parse=parse.text,
    ),
    "vocal_sound_classification": Task(
        group="speech",
        fields=("text",),
        example={"text": "Cough"},
        tags="<|startofanalysis|><|en|><|keyword|><|en|><|notimestamps|><|vocal_classification|>",
        label="{text}",
        prompts=(
            "Classify the human vocal sound to VocalSound in English:",
            "Which sound does the person make?",
        ),
        metric="accuracy",
        parse=parse.text,
        original=True,
    ),
}
