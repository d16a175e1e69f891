"""The table of tasks: one row a task, with everything about it that differs from the others.

Tag layouts follow the released Qwen-Audio evaluation scripts where those fix one (rows marked
`original`); the rest keep the same order of tags -- start, audio language, task, text language,
timestamps, sub-task -- and are this project's own. docs/tasks.md shows an example of each.
"""

from qwen_audio_jax.tasks.check import check_annotation, check_times
from qwen_audio_jax.tasks.conversation import CHAT, CONVERSATIONS, PAIR_FIELDS, PREFERENCE
from qwen_audio_jax.tasks.fields import AnnotationError
from qwen_audio_jax.tasks.table import KINDS, TASKS, TEMPLATED
from qwen_audio_jax.tasks.task import CONDITIONINGS, Annotation, Task

__all__ = [
    "CHAT",
    "CONDITIONINGS",
    "CONVERSATIONS",
    "KINDS",
    "PAIR_FIELDS",
    "PREFERENCE",
    "TASKS",
    "TEMPLATED",
    "Annotation",
    "AnnotationError",
    "Task",
    "check_annotation",
    "check_times",
]
