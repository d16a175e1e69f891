"""Fields that were called otherwise: what a misspelt or a foreign name may have meant."""

import difflib
import functools
from collections.abc import Collection

_CALLED = {
    "audio": """audio_filepath audio_path audio_file audio_files audio_paths audios path paths wav
        wav_path wav_file file file_path file_name filename filepath recording url""",
    "task": "task_name task_type task_id",
    "text": """transcript transcription transcripts sentence utterance caption captions label labels
        answer target translation emotion gender keyword normalized_text raw_text""",
    "language": "lang lang_id lang_code language_code language_id locale source_language src_lang",
    "target_language": "target_lang tgt_lang tgt_language lang_tgt",
    "question": "query prompt instruction",
    "phrase": "text query caption",
    "words": "word_timestamps alignment alignments timestamps",
    "events": "segments sounds timestamps",
    "turns": "segments speakers diarization",
    "segments": "events timestamps times",
    "texts": "text transcripts sentences utterances speakers",
    "entities": "entity slots ner",
    "scenario": "domain",
    "action": "intent",
    "instrument": "instrument_family text label",
    "pitch": "midi_pitch note midi",
    "velocity": "midi_velocity",
    "qualities": "qualities_str",
}


@functools.lru_cache(maxsize=4096)
def may_be(name: str, field: str) -> bool:
    """Whether a field called `name` may be meant for `field`."""
    name = name.strip().lower().replace("-", "_").replace(" ", "_")
    if name == field or name in _called(field):
        return True
    # Not where it differs by a word: `text_source` is no `text`.
    return abs(len(name) - len(field)) <= 2 and bool(
        difflib.get_close_matches(name, [field], n=1, cutoff=0.75)
    )


@functools.cache
def _called(field: str) -> frozenset[str]:
    return frozenset(_CALLED.get(field, "").split())


def near(field: str, names: Collection[str]) -> str:
    """The first of the names that may be meant for a field that is not there; "" if none."""
    return next((name for name in names if may_be(name, field)), "")
