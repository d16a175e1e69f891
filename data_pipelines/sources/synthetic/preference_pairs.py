"""Preference pairs of the synthetic corpus: the task `preference`, its kinds in turn.

The chosen answer is what the clips hold. The rejected one is wrong in one way, which is the pair's
kind: it hears a sound that is not there or none where one is, miscounts, puts a word into a
speaker's mouth, refuses, answers to another clip, or goes on and on. What is asked and what would
be right are even within a kind, so that neither a question nor an answer alone tells which is
better, but for refusals and rambling, which are always worse.

A denial tells first what is heard, and so does half of what affirms: a small model can tell sounds
long before it can compare them with a word. It does so in words that no conversation begins with,
which would be unlearned.
"""

import dataclasses
from collections.abc import Callable, Sequence
from typing import Any

from data_pipelines.sources.synthetic.one_clip_talks import WORDINGS, analysed
from data_pipelines.sources.synthetic.phrases import ADJECTIVES, KEYWORDS, NOUNS
from data_pipelines.sources.synthetic.several_clip_talks import PLACES
from data_pipelines.sources.synthetic.several_turn_talks import first_and_second
from data_pipelines.sources.synthetic.sound_tasks import COUNTS, NAMES, PLURALS, mixture, named
from data_pipelines.sources.synthetic.speech_tasks import Made
from data_pipelines.sources.synthetic.split import choose
from data_pipelines.sources.synthetic.talk_clips import (
    Draw,
    Turn,
    counted,
    sound,
    sounds_in_turn,
    speech,
    strokes,
    turn_of,
    word,
)
from data_pipelines.sources.synthetic.talks import MAKERS, messages_of
from data_pipelines.sources.synthetic.voice_talks import asked_aloud

REFUSALS = (
    "I am sorry, I cannot hear audio.",
    "I cannot answer that.",
    "Please ask someone who was there.",
    "There is nothing that I can say about it.",
)
FILLERS = (
    "That is what I think, but let me think again.",
    "It is an interesting question, and I could say a lot about it.",
    "Sounds are all around us, every day, in many places.",
    "I hope that this helps, and if it does not, please ask me again.",
)
_SAID_AS = {"knock": ("knock",), "dog": ("dog", "bark"), "alarm": ("alarm", "beep")}
"""What strokes are called too, as `PLURALS` has them."""


@dataclasses.dataclass(frozen=True)
class Pair:
    """A question, behind what was said before, and two answers.

    Attributes:
        turns: the last one has the question and the answer that is chosen.
        rejected: the other one.
        facts: what answers are scored by: "absent" or "present", names of sounds one of which is
            asked about; "count", where it is asked for.
    """

    turns: Sequence[Turn]
    rejected: str
    facts: dict[str, Any] = dataclasses.field(default_factory=dict)


def preferred(validation: bool, ordinal: int, rng: Draw) -> Made:
    """preference: the kinds in turn; half of a round are absent and present sounds."""
    rounds, turn = divmod(ordinal, len(_ROUND))
    kind = _ROUND[turn]
    number = rounds * _ROUND.count(kind) + _ROUND[:turn].count(kind)
    pair = _MAKERS[kind](validation, number, rng)
    *asked, answer = [message for turn in pair.turns for message in messages_of(turn)]
    clips = [heard for turn in pair.turns for heard in turn.clips]
    return tuple(heard.audio for heard in clips), {
        "messages": asked,
        "chosen": answer["content"],
        "rejected": pair.rejected,
        "kind": kind,
        "asked": [turn.asks for turn in pair.turns],
        "heard": [heard.facts for heard in clips],
        **pair.facts,
    }


def _absent(validation: bool, ordinal: int, rng: Draw) -> Pair:
    """The right answer is no, and the rejected one hears it."""
    return _about_sound(False, validation, ordinal, rng)


def _present(validation: bool, ordinal: int, rng: Draw) -> Pair:
    """The same questions where the right answer is yes, and the rejected one denies it."""
    return _about_sound(True, validation, ordinal, rng)


def _about_sound(there: bool, validation: bool, ordinal: int, rng: Draw) -> Pair:
    """Whether, how often or in which clip a sound is heard, in turn."""
    form = (_is_heard, _how_many, _which_clip)[ordinal % 3]
    return form(there, validation, ordinal // 3, rng)


def _is_heard(there: bool, validation: bool, ordinal: int, rng: Draw) -> Pair:
    asked = NAMES[ordinal % len(NAMES)]
    names = _with_or_without(asked, there, 2, validation, rng)
    clip = sounds_in_turn(names, validation, rng)
    text = choose(("Is {} heard?", "Do you hear {}?"), rng).format(named(asked))
    # One sound is another in the rejected answer.
    told = list(names)
    at = names.index(asked) if there else int(rng.integers(len(names)))
    told[at] = choose([one for one in NAMES if one not in names], rng) if there else asked
    answers = _but_no(_heard(told if there else names), asked), _heard(names if there else told)
    facts = _facts(asked, there, names)
    return Pair([Turn("is_heard", (clip,), text, answers[there])], answers[not there], facts)


def _how_many(there: bool, validation: bool, ordinal: int, rng: Draw) -> Pair:
    count, asked = _count_and_name(ordinal)
    other = choose([name for name in PLURALS if name != asked], rng)
    struck = asked if there else other
    clip = strokes(struck, count, validation, rng)
    told = _another_count(count, rng) if there else count
    answers = _but_no(_there(other, told), PLURALS[asked]), _there(asked, count)
    facts = _facts(asked, there, [struck]) | ({"count": count} if there else {})
    turn = Turn("count", (clip,), _count_text(asked, rng), answers[there])
    return Pair([turn], answers[not there], facts)


def _which_clip(there: bool, validation: bool, ordinal: int, rng: Draw) -> Pair:
    asked, at = NAMES[ordinal % len(NAMES)], turn_of(ordinal, len(NAMES), len(PLACES))
    names = _with_or_without(asked, there, 3, validation, rng)
    if there:
        here = names.index(asked)
        names[here], names[at] = names[at], names[here]
    clips = tuple(sound(name, validation, rng) for name in names)
    text = choose((f"Which clip has the {asked}?", f"Where is the {asked}?"), rng)
    told = list(names)
    if there:
        told[at] = choose([one for one in NAMES if one not in names], rng)
    answers = _but_no(_heard(told), asked), f"The {asked} is in the {PLACES[at]} clip."
    facts = _facts(asked, there, names)
    return Pair([Turn("where", clips, text, answers[there])], answers[not there], facts)


def _invented_sound(validation: bool, ordinal: int, rng: Draw) -> Pair:
    """The first or the second of two sounds is another one in the rejected answer."""
    names = mixture(validation, 2, rng, (NAMES[ordinal % len(NAMES)],))
    told, at = list(names), turn_of(ordinal, len(NAMES), 2)
    told[at] = choose([name for name in NAMES if name not in names], rng)
    clip = sounds_in_turn(names, validation, rng)
    turns, wrong = (first_and_second(clip, pair)[: at + 1] for pair in (names, told))
    return Pair(turns, wrong[-1].answer)


def _wrong_count(validation: bool, ordinal: int, rng: Draw) -> Pair:
    count, name = _count_and_name(ordinal)
    clip = strokes(name, count, validation, rng)
    turn = Turn("count", (clip,), _count_text(name, rng), _there(name, count))
    return Pair([turn], _there(name, _another_count(count, rng)), {"count": count})


def _invented_word(validation: bool, ordinal: int, rng: Draw) -> Pair:
    """Another word, alone or in a sentence, than was said."""
    number = ordinal // 2
    if ordinal % 2:
        clip = word(number % len(KEYWORDS), validation, rng)
        asks, said = "word", clip.facts["word"]
        other = choose([one for one in KEYWORDS if one != said], rng)
        answer = "The word is {}."
    else:
        clip = speech("en", ("female", "male")[number % 2], validation, rng)
        asks, said = "said", clip.facts["transcript"]
        words = said.split()  # the NOUN is ADJECTIVE
        at, among = ((1, NOUNS), (3, ADJECTIVES))[number // 2 % 2]
        words[at] = choose([one for one in among["en"] if one != words[at]], rng)
        other, answer = " ".join(words), "The speaker says {}."
    turn = Turn(asks, (clip,), choose(WORDINGS[asks], rng), answer.format(said))
    return Pair([turn], answer.format(other))


def _refusal(validation: bool, ordinal: int, rng: Draw) -> Pair:
    return Pair(_any_talk(validation, ordinal, rng), choose(REFUSALS, rng))


def _other_clip(validation: bool, ordinal: int, rng: Draw) -> Pair:
    """What the same kind of question was answered of another clip."""
    turn = other = _about_one_clip(validation, ordinal, rng)
    while other.answer == turn.answer:
        ordinal += _SAME_QUESTION
        other = _about_one_clip(validation, ordinal, rng)
    return Pair([turn], other.answer)


_SAME_QUESTION = 2 * len(WORDINGS)
"""After so many ordinals a written question is of the same kind again."""


def _about_one_clip(validation: bool, ordinal: int, rng: Draw) -> Turn:
    """Aloud or in writing."""
    maker = (analysed, asked_aloud)[ordinal % 2]
    (turn,) = maker(validation, ordinal // 2, rng)
    return turn


def _rambling(validation: bool, ordinal: int, rng: Draw) -> Pair:
    """The right answer again and again, or much that was not asked behind it."""
    turns = _any_talk(validation, ordinal, rng)
    answer = turns[-1].answer
    if ordinal // len(MAKERS) % 2:
        return Pair(turns, " ".join([answer] * int(rng.integers(3, 6))))
    fillers = [FILLERS[i] for i in rng.choice(len(FILLERS), 2, replace=False)]
    return Pair(turns, " ".join([answer, *fillers]))


def _any_talk(validation: bool, ordinal: int, rng: Draw) -> list[Turn]:
    """One of those that conversations are made of, their kinds in turn."""
    maker = tuple(MAKERS.values())[ordinal % len(MAKERS)]
    return maker(validation, ordinal // len(MAKERS), rng)


def _with_or_without(
    asked: str, there: bool, members: int, validation: bool, rng: Draw
) -> list[str]:
    """Names of a set of sounds of this split, in drawn order."""
    if there:
        return rng.permutation(mixture(validation, members, rng, (asked,))).tolist()
    names = [asked]
    while asked in names:
        names = mixture(validation, members, rng)
    return names


def _facts(asked: str, there: bool, heard: list[str]) -> dict[str, list[str]]:
    """Names of the sound that is there, or of all that are not, the one that is asked for first."""
    if there:
        return {"present": list(_said_as(asked))}
    others = [name for name in NAMES if name not in (asked, *heard)]
    return {"absent": [said for name in (asked, *others) for said in _said_as(name)]}


def _said_as(name: str) -> tuple[str, ...]:
    return _SAID_AS.get(name, (name,))


def _count_and_name(ordinal: int) -> tuple[int, str]:
    """Counts in turn, and each with all that is counted."""
    return ordinal % len(COUNTS) + 1, tuple(PLURALS)[ordinal // len(COUNTS) % len(PLURALS)]


def _count_text(name: str, rng: Draw) -> str:
    return choose(WORDINGS["count"], rng).format(PLURALS[name])


def _there(name: str, count: int) -> str:
    return f"There {'is' if count == 1 else 'are'} {counted(name, count)}."


def _another_count(count: int, rng: Draw) -> int:
    return choose([n for n in range(1, len(COUNTS) + 1) if n != count], rng)


def _but_no(answer: str, name: str) -> str:
    """What is heard, and behind it that this is not."""
    return f"{answer.removesuffix('.')}, but no {name}."


def _heard(names: list[str]) -> str:
    return f"I hear {', then '.join(map(named, names))}."


_MAKERS: dict[str, Callable[[bool, int, Draw], Pair]] = {
    "absent_sound": _absent,
    "present_sound": _present,
    "invented_sound": _invented_sound,
    "wrong_count": _wrong_count,
    "invented_word": _invented_word,
    "refusal": _refusal,
    "other_clip": _other_clip,
    "rambling": _rambling,
}
KINDS = tuple(_MAKERS)
"""Of pairs: what is wrong with the rejected answer."""

_ROUND = (*2 * ("absent_sound", "present_sound"), *KINDS)
