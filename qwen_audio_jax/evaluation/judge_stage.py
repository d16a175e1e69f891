"""The stage between answers and scores: a judge behind OpenAI's API is asked about free answers."""

import contextlib
import dataclasses
import pathlib
import threading
from collections.abc import Mapping

from qwen_audio_jax.evaluation.answer_files import Answered, AnswerFile, read_answers, read_files
from qwen_audio_jax.evaluation.benchmarks import JUDGED
from qwen_audio_jax.evaluation.judge_calls import SETTINGS, Call, calls_of, log_of
from qwen_audio_jax.evaluation.openai_server import ILL_REPLY, Server, each_at_once, in_words
from qwen_audio_jax.evaluation.plan import Plan, read_plan
from qwen_audio_jax.inference.answers import FAILED
from qwen_audio_jax.metrics.judged import two_scores
from qwen_audio_jax.monitoring.progress_bar import bar

KEY_VARIABLE = "QWEN_AUDIO_JUDGE_API_KEY"
_PATIENCE = 120.0
_HOPELESS = 10
"""Calls that fail one after another, until the stage stops."""


@dataclasses.dataclass(frozen=True)
class Judge:
    """A model that judges.

    Attributes:
        server: where it is.
        model: its name there, which its scores are called by.
    """

    server: Server
    model: str

    @classmethod
    def of(cls, address: str, model: str = "", *, may_be_remote: bool = False) -> "Judge":
        """Asks the server what it serves; takes the first model if none is named.

        Args:
            address: as "http://127.0.0.1:8000/v1".
            model: its name.
            may_be_remote: whether answers may leave this machine.

        Raises:
            ValueError: it may not be asked, or there is no such server or model; one sentence.
        """
        if not address.startswith(("http://", "https://")):
            raise ValueError(
                f"--judge: {address!r} is no address; one is such as http://127.0.0.1:8000/v1"
            )
        server = Server(address.rstrip("/"), "--judge", KEY_VARIABLE, _PATIENCE)
        if not (server.is_loopback or may_be_remote):
            raise ValueError(
                f"--judge: {address} is not on this machine, and questions, references and answers "
                "would be sent there; give --judge_may_be_remote too if they may"
            )
        return cls(server, server.chosen(model, "--judge_model")[0])

    def reply(self, call: Call) -> Answered:
        """What it says, or why that failed.

        Raises:
            ConnectionError: the server does not answer any more; one sentence.
        """
        messages = [{"role": "user", "content": call.prompt}]
        try:
            said = self.server.completion({"model": self.model, "messages": messages, **SETTINGS})
        except ILL_REPLY as error:
            if isinstance(error, ConnectionError) and not self._is_there():
                raise
            return Answered(call.key, "", FAILED, error=in_words(error))
        return Answered(call.key, *said)

    def _is_there(self) -> bool:
        """Whether it was this call alone that the server hung up on."""
        try:
            return bool(self.server.models())
        except ILL_REPLY:
            return False


@dataclasses.dataclass(frozen=True)
class Held:
    """What has come of judging an evaluation, counted in calls.

    Attributes:
        model: the judge.
        calls: all that there are; an answer has two.
        asked: those that were made now.
        unreadable: those whose reply is not two scores.
        failed: those without a reply.
        why: of one of these, one sentence.
    """

    model: str
    calls: int
    asked: int
    unreadable: int
    failed: int
    why: str

    @property
    def sentence(self) -> str:
        """For the terminal."""
        told = f"{self.model}: {self.calls:,} calls, {self.asked:,} of them now; "
        told += f"{self.unreadable:,} replies are not two scores, {self.failed:,} calls failed"
        if self.failed:
            told += f" ({self.why}); the same command tries those again"
        return told


def judge(folder: pathlib.Path, by: Judge, at_once: int) -> Held:
    """Has a judge asked whatever of an evaluation it was not asked yet.

    Each reply is on the disk before the next call of its thread. Calls that failed before come
    last, so that they do not keep others from being made.

    Args:
        folder: of the evaluation; its answers may still grow.
        by: the judge.
        at_once: calls at once.

    Raises:
        ConnectionError: the server has gone, or nothing of what it is asked comes back.
        ValueError, OSError: there is no evaluation, or nothing in it for a judge.
    """
    calls = _calls(by.model, read_plan(folder), read_answers(folder))
    if not calls:
        raise ValueError(f"{folder}: has no answer for a judge; those to AIR-Bench chat are such")
    path = log_of(folder, by.model)
    file = AnswerFile(path)
    try:
        known = read_files([path])
        missing = [
            call for key, call in calls.items() if key not in known or known[key].finish == FAILED
        ]
        missing.sort(key=lambda call: call.key in known)
        _ask(by, missing, file, at_once, len(calls))
    finally:
        file.close()
    known = read_files([path])
    replies = [known[key] for key in calls]
    failed = [one for one in replies if one.finish == FAILED]
    return Held(
        model=by.model,
        calls=len(calls),
        asked=len(missing),
        unreadable=sum(one.finish != FAILED and two_scores(one.text) is None for one in replies),
        failed=len(failed),
        why=failed[0].error if failed else "",
    )


def _calls(model: str, plan: Plan, answered: Mapping[str, Answered]) -> dict[str, Call]:
    found: dict[str, Call] = {}
    for item in plan.items:
        one = answered.get(item.key)
        if item.rule == JUDGED and one is not None and one.finish != FAILED:
            found |= {call.key: call for call in calls_of(model, item, one.text)}
    return found


def _ask(by: Judge, missing: list[Call], file: AnswerFile, at_once: int, total: int) -> None:
    lock = threading.Lock()

    def kept(call: Call) -> Answered:
        reply = by.reply(call)
        # Here, not where replies are counted: what others have in hand when one raises is kept too.
        with lock:
            file.put(reply)
            file.sync()
        return reply

    in_a_row = 0
    with (
        bar("judging", total, total - len(missing)) as shown,
        # Closed here, whatever is raised, since its threads write to the file.
        contextlib.closing(each_at_once(kept, missing, at_once)) as replies,
    ):
        for reply in replies:
            in_a_row = in_a_row + 1 if reply.finish == FAILED else 0
            if in_a_row == _HOPELESS:
                raise ConnectionError(
                    f"--judge: {_HOPELESS} calls failed one after another, the last one with: "
                    f"{reply.error}; see to the server, and give the same command again, which "
                    "goes on"
                )
            shown.update()
