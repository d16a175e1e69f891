"""Text for the screen: no sign of it acts on the terminal."""

import unicodedata


def visible(text: str) -> str:
    """The text with control characters as their pictures, and what is no text as "\\ufffd".

    Line breaks and tabs stay.
    """
    return "".join(map(_shown, text))


def _shown(sign: str) -> str:
    if sign in "\n\t" or sign.isprintable():
        return sign
    code = ord(sign)
    if code < 0x20:
        return chr(0x2400 + code)
    if code == 0x7F:
        return "\u2421"
    # Other controls and lone halves of a pair; signs that join letters are text.
    return "\ufffd" if unicodedata.category(sign) in ("Cc", "Cs") else sign
