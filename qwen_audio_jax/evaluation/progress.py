"""What is shown while a model answers: how fast, how much of the work is padding, how long yet."""

import dataclasses
import sys
import time
from collections.abc import Iterable, Iterator

from qwen_audio_jax.evaluation.answer_files import Answered
from qwen_audio_jax.monitoring.progress_bar import bar


@dataclasses.dataclass(frozen=True)
class Progress:
    """What has been done, as far as it is known: of an endpoint, what was heard.

    Attributes:
        heard: seconds of sound.
        compiled: programs, one a shape of their arrays.
        compile_seconds: that went by while they were compiled, or read from where they are kept.
        padding: what is padded, and which share of it is padding.
    """

    heard: float
    compiled: int = 0
    compile_seconds: float = 0.0
    padding: tuple[tuple[str, float], ...] = ()

    def after(self, before: "Progress") -> "Progress":
        """Together with what was done before; what is padding is that of the last."""
        return dataclasses.replace(
            self,
            heard=before.heard + self.heard,
            compiled=before.compiled + self.compiled,
            compile_seconds=before.compile_seconds + self.compile_seconds,
        )

    def rtfx(self, seconds: float) -> float:
        """Seconds of sound in a second, of so many since the beginning; compiling left out."""
        return self.heard / max(seconds - self.compile_seconds, 1e-9)


def answering(
    answers: Iterable[tuple[Progress, Answered]],
    questions: int,
    missing: int,
    *,
    quiet: bool = False,
) -> Iterator[Answered]:
    """The answers, while a bar tells of them, and a line at the end.

    Args:
        answers: as they come.
        questions: of this process.
        missing: how many of those had no answer yet.
        quiet: whether nothing is told.
    """
    began, progress, given = time.monotonic(), Progress(0.0), 0
    with bar("answering", questions, done=questions - missing, quiet=quiet) as shown:
        for progress, answered in answers:
            yield answered
            given += 1
            shown.set_postfix_str(_in_short(progress, time.monotonic() - began), refresh=False)
            shown.update()
    if not quiet:
        print(_in_full(progress, given, time.monotonic() - began), file=sys.stderr)


def _in_short(progress: Progress, seconds: float) -> str:
    padding = "".join(f", {share:.0%} of {what} padding" for what, share in progress.padding[:1])
    return f"RTFx {progress.rtfx(seconds):.1f}{padding}"


def _in_full(progress: Progress, given: int, seconds: float) -> str:
    """A sentence on all of it."""
    answered = f"answered {given:,} question{'s' * (given != 1)} in {seconds:,.1f} s"
    if progress.compiled:
        answered += (
            f", of which compiling took {progress.compile_seconds:,.1f} s "
            f"({progress.compiled} shapes)"
        )
    heard = f"{progress.heard:,.1f} s of sound, RTFx {progress.rtfx(seconds):.1f}"
    shares = " and ".join(f"{share:.0%} of {what}" for what, share in progress.padding)
    padding = f"; {shares} were padding" if shares else ""
    return f"{answered}: {heard}{padding}"
