"""An annotation that has the fields of every task."""

ANNOTATION = {
    "text": "yes it is",
    "question": "Is it?",
    "language": "en",
    "target_language": "de",
    "words": [
        {"word": "yes", "start": 0.1, "end": 0.5},
        {"word": "it", "start": 0.5, "end": 0.9},
    ],
    "events": [{"event": "bell", "start": 0.1, "end": 0.5}],
    "pitch": 60,
    "velocity": 80,
    "instrument": "flute",
    "texts": ["good morning", "how are you"],
    "turns": [
        {"speaker": "A", "start": 0.0, "end": 1.3},
        {"speaker": "B", "start": 1.1, "end": 2.4},
    ],
    "entities": [{"type": "person", "value": "Anna"}, {"type": "city", "value": 'the "Big" one'}],
    "scenario": "alarm",
    "action": "set",
    "phrase": "a dog barks",
    "messages": [{"role": "user", "content": "Is it?"}, {"role": "assistant", "content": "Yes."}],
    "chosen": "Yes.",
    "rejected": "No.",
    "absent": ["dog"],
    "present": ["bell"],
    "count": 3,
    "segments": [{"start": 0.5, "end": 1.2}, {"start": 3.0, "end": 3.4}],
}
