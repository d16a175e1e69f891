"""All rows of the table."""

from qwen_audio_jax.tasks.music import MUSIC
from qwen_audio_jax.tasks.sound import SOUND
from qwen_audio_jax.tasks.speech import SPEECH
from qwen_audio_jax.tasks.task import Task

TASKS: dict[str, Task] = {**SPEECH, **SOUND, **MUSIC}
