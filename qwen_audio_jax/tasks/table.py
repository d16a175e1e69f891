"""All rows of the table."""

from qwen_audio_jax.tasks.music import MUSIC
from qwen_audio_jax.tasks.sound import SOUND
from qwen_audio_jax.tasks.speech import SPEECH
from qwen_audio_jax.tasks.task import Task
from qwen_audio_jax.tasks.text import TEXT

TASKS: dict[str, Task] = {**SPEECH, **SOUND, **MUSIC}
"""What a model is asked about audio, and scored in."""

KINDS: dict[str, Task] = {**TASKS, **TEXT}
"""Every kind of record: the tasks, and text without audio."""
