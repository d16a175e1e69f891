"""Tags around the sound: ID3v2 in front of it, ID3v1, APE and Lyrics3 behind it."""

import re

_BEHIND = re.compile(rb"TAG(?!\+).{125}|TAG\+.{224}TAG.{125}", re.DOTALL)


def end_of_id3(data: bytes, at: int = 0) -> int:
    """Where an ID3v2 tag that begins at `at` ends, by its own count; `at` if none begins there."""
    head = data[at : at + 10]
    if len(head) < 10 or head[:3] != b"ID3" or head[3] > 4 or max(head[6:]) > 127:
        return at
    size = head[6] << 21 | head[7] << 14 | head[8] << 7 | head[9]
    return at + 10 + size + (10 if head[5] & 0x10 else 0)


def end_of_tags(data: bytes, at: int) -> int:
    """Where tags and zeros that begin at `at` end; `at` if there are none."""
    while at < len(data):
        end = max(end_of_id3(data, at), _end_of_ape(data, at), _end_of_lyrics(data, at))
        if found := _BEHIND.match(data, at):
            end = max(end, found.end())
        if end == at:
            end = at + re.compile(b"\0*").match(data, at).end() - at
        if end == at:
            break
        at = min(end, len(data))
    return at


def _end_of_ape(data: bytes, at: int) -> int:
    """Of an APE tag's header, items and footer, or of the footer alone."""
    if data[at : at + 8] != b"APETAGEX" or len(data) < at + 32:
        return at
    is_header = data[at + 23] & 0x20
    size = int.from_bytes(data[at + 12 : at + 16], "little")
    return at + 32 + (size if is_header else 0)


def _end_of_lyrics(data: bytes, at: int) -> int:
    if data[at : at + 11] != b"LYRICSBEGIN":
        return at
    end = re.compile(b"LYRICS200|LYRICSEND").search(data, at, at + (1 << 20))
    return end.end() if end else at
