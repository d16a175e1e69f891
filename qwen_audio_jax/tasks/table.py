"""All rows of the table."""

from qwen_audio_jax.tasks.conversation import CONVERSATIONS
from qwen_audio_jax.tasks.music import MUSIC
from qwen_audio_jax.tasks.sound import SOUND
from qwen_audio_jax.tasks.speech import SPEECH
from qwen_audio_jax.tasks.task import Task
from qwen_audio_jax.tasks.text import TEXT

TASKS: dict[str, Task] = {**SPEECH, **SOUND, **MUSIC}
"""What a model is asked about audio, and scored in."""

TEMPLATED: dict[str, Task] = {**TASKS, **TEXT}
"""What templates render: the tasks, and text without audio."""

KINDS: dict[str, Task] = {**TEMPLATED, **CONVERSATIONS}
"""Every kind of record."""
