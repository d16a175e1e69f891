"""An evaluation whose model is a function of the question."""

import json

from qwen_audio_jax.evaluation import options
from qwen_audio_jax.evaluation.answer_files import Answered
from qwen_audio_jax.evaluation.endpoint import Endpoint
from qwen_audio_jax.evaluation.progress import Progress

OPTIONS = options.from_mapping(
    {
        "limit": 0,
        "control_limit": 0,
        "slots": 4,
        "context": 1024,
        "max_new_tokens": 8,
        "protocols": ("plain",),
        "examples": 0,
        "draws": 100,
        "confidence": 0.95,
        "seed": 0,
    }
)
ASKER = Endpoint("http://127.0.0.1:9/v1", "scripted")


def write(path, rows):
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return path


def scripted(says, asked):
    """A model that answers what `says` makes of a question, and what it was asked."""

    def answers(questions):
        for question in questions:
            asked.append(question)
            yield Progress(0.0), Answered(question.key, says(question), "stop", 1)

    return answers
