"""Numbers in digits as Chinese says them."""

_DIGITS = "零一二三四五六七八九"
# Ten to which power each is; from 万 on each is a myriad of the one before.
_UNITS = dict(zip((1, 2, 3, *range(4, 48, 4)), "十百千万亿兆京垓秭穰沟涧正载", strict=True))


def digit_by_digit(digits: str) -> str:
    """`10086` is 一零零八六. Any Unicode decimal digit is one."""
    return "".join(_DIGITS[int(digit)] for digit in digits)


def cardinal(number: str) -> str:
    """`1050` is 一千零五十, `2.5` 二点五, `0` 零, `00` nothing.

    Args:
        number: Unicode decimal digits, with one `.` among them or none.
    """
    whole, _, fraction = number.partition(".")
    said = _with_units(whole) if len(whole) > 1 else digit_by_digit(whole)
    said = _with_liang(said)
    if fraction:
        said = (said or "零") + "点" + digit_by_digit(fraction)
    return said.removeprefix("一") if said.startswith("一十") else said


def _with_units(digits: str) -> str:
    """Digits with the units between them; of a row of zeros before a last digit one is said."""
    tail = ""
    while len(rest := digits.lstrip("0")) > 1:
        power = max(power for power in _UNITS if power < len(rest))
        tail = _UNITS[power] + _with_units(digits[-power:]) + tail
        digits = digits[:-power]
    if not rest:
        return tail
    return ("零" if len(digits) > 1 else "") + digit_by_digit(rest) + tail


def _with_liang(said: str) -> str:
    """两 for a 二 that a unit above ten follows and none or another above ten precedes."""
    out = ""
    for place, name in enumerate(said):
        before, after = said[place - 1 : place], said[place + 1 : place + 2]
        if name == "二" and _is_large(after) and (not before or _is_large(before)):
            name = "两"
        out += name
    return out


def _is_large(name: str) -> bool:
    return name not in ("", "十", *_DIGITS)
