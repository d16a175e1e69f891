"""Tokens of captions as the COCO caption tools count them, without Java.

The tools split captions with a Penn Treebank tokenizer, put them in lower case and drop marks of
punctuation. Written from the Treebank's published conventions (contractions, quotes, brackets), the
list of marks in coco-caption's ptbtokenizer.py, and the recorded lines in tests/golden/captions.
What no convention gives was read off those lines alone: which abbreviations keep their stop, which
apostrophes stay inside a word, that "hi!there" and "dog,cat-like" are one token but "dog,cat" two.
"""

import html
import re
import unicodedata

PUNCTUATION = frozenset(
    ["''", "'", "``", "`", "-LRB-", "-RRB-", "-LCB-", "-RCB-", *".?!,:-;", "--", "..."]
)
"""The marks that the COCO tools drop; brackets stay, since by then they are in lower case."""

_BRACKETS = str.maketrans(
    {"(": "-lrb-", ")": "-rrb-", "[": "-lsb-", "]": "-rsb-", "{": "-lcb-", "}": "-rcb-"}
)

_SIGNS = str.maketrans(
    dict.fromkeys("`“”‘«»‹›", '"')
    | dict.fromkeys("–—―…", " ")
    | {sign: f" {sign} " for sign in "¹²³⁰⁴⁵⁶⁷⁸⁹₀₁₂₃₄₅₆₇₈₉"}
    | {"¼": " 1/4 ", "½": " 1/2 ", "¾": " 3/4 ", "⅓": " 1/3 ", "⅔": " 2/3 "}
    | {"£": " # ", "€": " $ ", "¢": " cents ", "\u00ad": None}
)

# Controls, signs without a shape, emoji and all else past 16 bits: dropped there, and part words.
_UNREAD = re.compile(
    "[\0-\x1f\x7f-\x9f\u200b-\u200f\u2060-\u206f\ud800-\udfff\ufe00-\ufe0f\ufeff"
    "\U00010000-\U0010ffff]"
)

# Those in the recorded lines, and others of their kind: titles, firms, months, days, states.
_STOPPED = """
    mr|mrs|ms|messrs|dr|prof|st|rev|gen|col|lt|capt|sgt|cpl|maj|gov|sen|jr|sr|ph\\.d
    |bros|inc|ltd|co|corp|etc|vs|est|tel|ext|ft|sq
"""
_STOPPED_NAMES = """
    Jan|Feb|Mar|Apr|Jun|Jul|Aug|Sep|Sept|Oct|Nov|Dec|Mon|Tue|Tues|Wed|Thu|Thurs|Fri
    |Ala|Ariz|Ark|Calif|Colo|Conn|Del|Fla|Ill|Ind|Kan|Mass|Mich|Minn|Miss|Mont|Neb|Nev|Okla
    |Penn|Tenn|Tex|Wash|Wis|Wyo
"""
_STOPPED_BEFORE_NUMBERS = "no|nos|fig|art|op|pp|ca"
# An initial before one of these ends a sentence.
_OPENERS = "A|An|He|In|It|She|The|Then|There|They|This|We"

_LETTER = r"[^\W\d_]"
_WORD = r"[^\W_]+(?:_+[^\W_]+)*"
_HYPHEN = "[-‐‑]"
# Ten at most, so that the time of a long list does not grow with its square.
_WITH_POINTS = rf"{_WORD}(?:[.,]{_WORD}){{0,9}}"
_HYPHENED = rf"{_WORD}(?:{_HYPHEN}{_WORD})*"

# The first that fits counts, so what is longer or rarer comes first.
_TOKEN = re.compile(
    rf"""
    # Addresses, tags, faces, a telephone number, a number with a fraction ("1 1/2").
    (?:https?://|{_LETTER}\w*(?:\.{_WORD})+/)\S*[\w/]
    | [^\s@"'(),;:]{{1,64}}@[^\s@"'(),;:.]+(?:\.\w+)*
    | </?[A-Za-z]+/?>
    | (?<!\S)[:;=]-?[()PD](?!\w) | \^_\^
    | \(\d\d\d\)[ ]\d\d\d-\d\d\d\d
    | \d+[ ]\d+/\d+(?![\w/])
    # Marks in a row; four hyphens are a dash still, more are not.
    | '' | -{{5,}} | [?!]{{2,}} | \*{{2,}} | _{{2,}} | \#{{2,}}
    # The ends of contractions: dog 's, is n't, 't is.
    | (?P<contraction> (?i:['’](?:s|m|d|re|ve|ll)|n['’]t)(?!\w) | (?i:['’]t(?=(?:is|was)\b)) )
    # An apostrophe that stays: 'em, rock 'n' roll, '90s; ol', y' all; o'clock, l'amour, ma'am.
    | (?i:['’](?:em|til|cause)\b | ['’]n(?:['’]|\b) | (?<!\w)['’]\d\ds?\b)
    | (?i:(?:ol|somethin)['’] | [jy]['’](?={_LETTER}))
    | (?i:(?:[cdlno]|qu)['’]{_LETTER}{{2,}})
    | (?i:(?:ma['’]am|n?e['’]er|ev['’]ry|li['’]l|s['’]mores|xi['’]an)\b)
    # The beginnings of contractions.
    | (?i:[a-z]+?(?=n['’]t) | can(?=not\b))
    | (?i:(?:gon|wan)(?=na\b) | got(?=ta\b) | (?:gim|lem)(?=me\b))
    # Signs that belong to letters: US$, C++, F#, AT&T.
    | (?:US|HK|[AC])\$ | C\+\+ | [CF]\# | [A-Z]+(?:[&+][A-Z]+)+(?!\w)
    # Stops that stay: Dr., Wash., no. 5; p.m., U.S.-based; an initial.
    | (?i:{_STOPPED})\.(?!{_LETTER})
    | (?:{_STOPPED_NAMES})\.(?!{_LETTER})
    | (?i:{_STOPPED_BEFORE_NUMBERS})\.(?=\s*\d|,)
    | (?:[^\W_]+{_HYPHEN})*{_LETTER}(?:\.{_LETTER})+\.?(?:{_HYPHEN}{_WITH_POINTS})*(?![.!?]?\w)
    | {_LETTER}\.(?!{_LETTER}|\s+(?:{_OPENERS})\s)
    # Words with strokes (three at most, without accents) and hyphens.
    | (?a:{_HYPHENED}(?:/{_HYPHENED}){{1,2}})(?!\w)
    | (?i:anti|pro)-(?!\w)
    | {_WITH_POINTS}(?:{_HYPHEN}{_WITH_POINTS})+
    # Numbers, which letters after a point or colon do not join: 5:30 pm; then words, one sign.
    | (?<!-)[-+]\d+(?:[.,:]\d+)* | \d+(?:[.,:]\d+)+ | (?<![\w.])\.\d+
    | {_LETTER}\w*(?:[.!?]{_WORD})+
    | {_WORD}
    | \#{_LETTER}+ | @\w+
    | \S
    """,
    re.VERBOSE,
)


def ptb_tokens(text: str) -> list[str]:
    """The tokens of a caption, in lower case and without PUNCTUATION; any text has some or none."""
    text = unicodedata.normalize("NFC", text)  # An accent is no token of its own.
    text = re.sub("&(?:lt|gt|amp|quot|nbsp);", lambda entity: html.unescape(entity[0]), text)
    text = _UNREAD.sub(" ", text.translate(_SIGNS))
    tokens = []
    for found in _TOKEN.finditer(text):
        token = found[0].replace("’", "'") if found["contraction"] else found[0]
        tokens += token.lower().translate(_BRACKETS).split()
    return [token for token in tokens if token not in PUNCTUATION | {'"', "’"}]
