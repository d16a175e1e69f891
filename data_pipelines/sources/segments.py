"""Fields of a manifest row that say which part of a recording is the row's clip.

`offset` and `duration` are NeMo's, `start`, `duration` and `channel` lhotse's, `segment_begin` and
`segment_end` Kaldi's; all times are seconds from the recording's beginning, channels count from 0.
Only fields of the row itself are looked at: times inside a label (`words`, `events`, ...) are the
label's own, from the beginning of the clip that is cut out. A field that seems to say such a thing
in another way is refused, since the row would mean something else without it.
"""

import dataclasses
import functools
import re
from typing import Any

from data_pipelines.records import RejectedRecord

BEGINS = ("offset", "start", "begin", "start_time", "begin_time", "segment_start", "segment_begin")
ENDS = ("end", "end_time", "segment_end")
LENGTHS = ("duration",)
CHANNELS = ("channel", "channel_selector")
_KNOWN = frozenset({*BEGINS, *ENDS, *LENGTHS, *CHANNELS})

ROUNDING = 0.02 + 1e-9
"""Seconds by which times that are said twice may differ: each is rounded somewhere, and 2.02 - 2 is
a little more than 0.02."""
SLACK = 0.1
"""Seconds by which an end may lie past the recording's: tools count an MP3's padding or do not."""

_UNIT = r"(?:_(?:time|timestamp|offset|m?s|m?secs?|(?:milli)?seconds?|samples?|frames?|index|idx))*"
_WHOSE = (
    r"(?:(?:audio|clip|chunk|segment|seg|utterance|utt|sample|frame|time|speech|voice|sentence|"
    r"speaker|turn|word|supervision|event)_)?"
)
_LOOKS = {
    "edge": rf"{_WHOSE}(?:start|begin|onset|offset|end|stop|from|to|[st]t|et|s_?time|e_?time|"
    rf"t_?(?:start|end|min|max|beg)|x_?(?:min|max)|t_?[01]|time_?[01]){_UNIT}",
    "length": rf"{_WHOSE}(?:duration|dur|length|len){_UNIT}|(?:num|n)_(?:samples|frames)",
    "pair": rf"{_WHOSE}(?:times?|timestamps?|segment|interval|span|time_?span|range|window|region|"
    r"(?:start|begin)_?end)",
    "a channel": r"(?:audio_|speaker_)?channel_(?:ids?|idx|index|number|num)|"
    r"(?:audio|speaker)_channel",
}
_HUMP = re.compile(r"(?<=[a-z0-9])(?=[A-Z])")
_MEND = "give 'start' and 'end', or 'offset' and 'duration', in seconds, or rename it"


@dataclasses.dataclass(frozen=True)
class Segment:
    """A part of a recording.

    Attributes:
        begin: where it begins, in seconds.
        end: where it ends, in seconds; None is the recording's end.
        channels: which of the recording's channels it has, from 0; none named is all of them.
        begin_field, end_field, channel_field: what the row calls these.
    """

    begin: float = 0.0
    end: float | None = None
    channels: tuple[int, ...] = ()
    begin_field: str = "offset"
    end_field: str = "duration"
    channel_field: str = "channel"


def segments_of(fields: dict[str, Any], clips: int) -> tuple[Segment | None, ...]:
    """Which part of each of a row's clips is meant: one for each, None for the whole.

    Args:
        fields: the row's, as it has them; null is as if it were not there.
        clips: how many clips the row names.

    Raises:
        RejectedRecord: a field that is not understood, out of range, or against another one.
    """
    if not clips:
        return ()
    given = {name: value for name, value in fields.items() if value is not None}
    _refuse_unknown(given)
    begins, ends, lengths = (
        {name: _each(name, given[name], clips) for name in names if name in given}
        for names in (BEGINS, ENDS, LENGTHS)
    )
    channels = {name: _channels(name, given[name], clips) for name in CHANNELS if name in given}
    if not (begins or ends or lengths or channels):
        return ()
    return tuple(
        _segment(*({name: values[i] for name, values in said.items() if values[i] is not None}
                   for said in (begins, ends, lengths, channels)))
        for i in range(clips)
    )  # fmt: skip


def _segment(
    begins: dict[str, float],
    ends: dict[str, float],
    lengths: dict[str, float],
    channels: dict[str, tuple[int, ...]],
) -> Segment | None:
    """One clip's, from what is said of it by each field."""
    begin_field, begin = _one(begins)
    end_field, end = _one(ends)
    length_field, length = _one(lengths)
    if len(set(channels.values())) > 1:
        raise RejectedRecord(f"fields {' and '.join(map(repr, channels))}: differ")
    if begin is None and end is not None:
        raise RejectedRecord(f"field {end_field!r}: says no beginning; give 'start' too")
    if begin is not None and end is None and length is None and begin_field != "offset":
        raise RejectedRecord(
            f"field {begin_field!r}: says no end; give 'end' or 'duration' too, or leave it out"
        )
    if length == 0:
        raise RejectedRecord(f"field {length_field!r}: must be above 0")
    if end is not None and end <= begin:
        raise RejectedRecord(
            f"field {end_field!r}: must be above {begin_field!r}, and {end:g} is not above "
            f"{begin:g}"
        )
    begin = begin or 0.0
    if length is not None:
        if end is not None and abs(begin + length - end) > ROUNDING:
            raise RejectedRecord(
                f"fields {length_field!r} and {end_field!r}: differ; from {begin:g} s, one says "
                f"{length:g} s and the other until {end:g} s"
            )
        end_field, end = length_field, begin + length
    chosen = next(iter(channels.values()), ())
    if not chosen and end is None and not begin:
        return None
    return Segment(
        float(begin),
        None if end is None else float(end),
        chosen,
        begin_field or Segment.begin_field,
        end_field or Segment.end_field,
        next(iter(channels), Segment.channel_field),
    )


def _one(said: dict[str, float]) -> tuple[str | None, float | None]:
    """The field and its value, of those that say the same thing."""
    if not said:
        return None, None
    if max(said.values()) - min(said.values()) > ROUNDING:
        values = " and ".join(f"{value:g} s" for value in said.values())
        raise RejectedRecord(f"fields {' and '.join(map(repr, said))}: differ ({values})")
    return next(iter(said.items()))


def _each(name: str, value: Any, clips: int) -> list[float | None]:
    """A time of each clip."""
    values = value if isinstance(value, list) else [value]
    if len(values) != clips:
        raise RejectedRecord(
            f"field {name!r}: must be a list of {clips}, one for each clip"
            if clips > 1
            else f"field {name!r}: must be a number of seconds"
        )
    for time in values:
        if time is None:
            continue
        if isinstance(time, bool) or not isinstance(time, int | float):
            raise RejectedRecord(f"field {name!r}: must be a number of seconds, not {_told(time)}")
        if not 0 <= time < 1e9:
            raise RejectedRecord(f"field {name!r}: must be 0 or more seconds, not {_told(time)}")
    return values


def _channels(name: str, value: Any, clips: int) -> list[tuple[int, ...] | None]:
    """The channels of each clip."""
    each = value if isinstance(value, list) and clips > 1 else [value] * clips
    if len(each) != clips:
        raise RejectedRecord(
            f"field {name!r}: must be one, or a list of {clips}, one for each clip"
        )
    found = []
    for chosen in each:
        numbers = chosen if isinstance(chosen, list) else [chosen]
        if chosen is None:
            found.append(None)
        elif not numbers or any(type(number) is not int or number < 0 for number in numbers):
            raise RejectedRecord(
                f"field {name!r}: must be a channel's number, from 0, or a list of them, not "
                f"{_told(chosen)}; rename it if it means something else"
            )
        elif len(set(numbers)) < len(numbers):
            raise RejectedRecord(f"field {name!r}: names a channel twice")
        else:
            found.append(tuple(numbers))
    return found


def _refuse_unknown(given: dict[str, Any]) -> None:
    """Raises RejectedRecord where a field seems to say which part, and it is not known how."""
    # Nobody needs another word for how long it is where begin and end are told.
    open_end = any(name in given for name in BEGINS) and not any(
        name in given for name in (*ENDS, *LENGTHS)
    )
    for name, value in given.items():
        looks = _looks_like(name)
        if looks in _KNOWN:
            raise RejectedRecord(f"field {name!r}: is not known; write {looks!r}, or rename it")
        if (
            (looks == "edge" and _may_be_time(value))
            or (looks == "length" and open_end)
            or (looks == "pair" and _is_pair(value))
        ):
            raise RejectedRecord(f"field {name!r}: is not known; {_MEND}")
        if looks == "a channel" and not isinstance(value, str):
            raise RejectedRecord(
                f"field {name!r}: is not known; give 'channel', a number from 0, or rename it"
            )


@functools.cache  # the rows of a manifest have the same few fields
def _looks_like(name: str) -> str:
    """What a field that is not known seems to say: one of _LOOKS, or "".

    Or the known field that it is but for capitals.
    """
    if name in _KNOWN:
        return ""
    plain = _HUMP.sub("_", name).lower().replace("-", "_")
    if plain in _KNOWN:
        return plain
    return next((what for what, form in _LOOKS.items() if re.fullmatch(form, plain)), "")


def _is_pair(value: Any) -> bool:
    """Whether a value is two numbers, or an object that has a time."""
    if isinstance(value, dict):
        return any(name in _KNOWN or _looks_like(name) in ("edge", "length") for name in value)
    return isinstance(value, list) and len(value) == 2 and all(map(_may_be_time, value))


def _may_be_time(value: Any) -> bool:
    """Whether a value may be a number of anything: "from" may also be a language."""
    return not isinstance(value, str) or any(letter.isdigit() for letter in value)


def _told(value: Any) -> str:
    """A value as a sentence shows it."""
    text = repr(value) if not isinstance(value, int) or abs(value) < 10**15 else "a huge number"
    return text if len(text) <= 40 else f"{text[:37]}..."
