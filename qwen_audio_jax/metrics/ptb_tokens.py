"""Tokens of a caption as the COCO caption tools count them, without Java.

Those tools run the Penn Treebank tokenizer of Stanford CoreNLP 3.4.1 in lower case and then leave
out a list of punctuation marks. This file imitates it for captions; `tests/golden/captions` has
what the original makes of several hundred lines, and in which kinds of line the two differ.
"""

import functools
import re

PUNCTUATION = frozenset(
    ["''", "'", "``", "`", "-LRB-", "-RRB-", "-LCB-", "-RCB-"]
    + [".", "?", "!", ",", ":", "-", "--", "...", ";"]
)
"""What the tools leave out (pycocoevalcap, tokenizer/ptbtokenizer.py).

Round and curly brackets stand in it in capitals, and tokens are in lower case: so they stay, as do
runs such as "?!".
"""

# Java counts a character beyond the first 65,536 as two of no kind, so it passes over them.
_ASTRAL = r"\U00010000-\U0010ffff"
_LETTER = rf"[^\W\d_\u00b2\u00b3\u00b9\u00bc-\u00be\u2070-\u2089\u2150-\u215e{_ASTRAL}]"
_WORD = rf"(?:{_LETTER}|[\u00ad\u0300-\u036f])(?:{_LETTER}|[\u00ad\u0300-\u036f\d])*"
_WORDS = rf"{_WORD}(?:[.!?]{_WORD})*"
_APOSTROPHE = "['’\u0092]"
_ENDING = rf"{_APOSTROPHE}(?:[msdMSD]|re|ve|ll|RE|VE|LL)"
_NOT = "[nN]['’\u0092‘‛\u0091][tT]"
_NOT_LETTER = r"(?=[^A-Za-z]|$)"

_ABBREVIATIONS = (
    # Months, days, states.
    "jan feb mar apr jun jul aug sep sept oct nov dec mon tue tues wed thu thurs fri ala ariz "
    "calif colo conn dak fla ga ind kan kans ky md mich minn mo mont neb nev okla penn tenn va vt "
    "wis wisc wyo "
    # Titles, streets, companies, and the rest.
    "mr mrs ms dr drs prof profs sen sens rep reps atty attys lt col gen messrs gov govs adm rev "
    "maj sgt cpl pvt mt capt st ste ave pres lieut hon brig comdr cmdr pfc spc supt supts det jr "
    "sr bros blvd rd esq inc co cos corp pty ltd plc bancorp dept bhd assn univ intl sys invt elec "
    "natl mfg mtg ph tel est ext sq ft etc al seq vs alex wm jos cie treas cf bldg ct ed.d ph.d"
)
_CAPITAL_ABBREVIATIONS = "Ark Del Ill La Mass Miss Ore Pa Tex Wash"
_BEFORE_NUMBERS = "nos no prop figs fig art pp op ca"
# A single letter and a point, or an acronym, end a sentence before these words.
_OPENERS = (
    "About According Additionally After An A As At But Earlier He Her Here However If In It Last "
    "Many More Mr. Ms. Now Once One Other Our She Since So Some Such That The Then There These "
    "They This We When While What Yet You"
)


def _any(words: str) -> str:
    """A pattern of any of the words, the longest first."""
    return "(?:" + "|".join(map(re.escape, sorted(words.split(), key=len, reverse=True))) + ")"


# Each has the token as its group; what it looks ahead at counts for its length, and the longest of
# all wins, of equals the first. That is how such scanners are written, and it decides many a case.
_RULES = [
    re.compile(rule)
    for rule in (
        r"((?i:can)(?=(?i:not))|(?i:g[io]m|lem)(?=(?i:me))|(?i:gon|wan)(?=(?i:na))|(?i:got)(?=(?i:ta)))"
        r"(?:(?i:not|me|na|ta))",
        r"('[tT])(?:(?i:is|was))",
        r"(more)'n",
        r"(</?[A-Za-z][A-Za-z0-9:._]*(?:\s[^>]*)?/?>)",
        "([\u2013-\u2015\u0096\u0097]|&(?:mdash|ndash|MD);)",
        r"(&(?:amp|lt|gt|quot|apos|nbsp|#[0-9]+);)",
        rf"({_WORDS}){_ENDING}",
        rf"([A-Za-z\u00ad]*[A-MO-Za-mo-z]\u00ad*){_NOT}",
        rf"({_WORDS})",
        # Words with an apostrophe inside or at an end.
        rf"({_APOSTROPHE}n{_APOSTROPHE}?|[lLdDjJ]{_APOSTROPHE}|(?:Dunkin|somethin|ol){_APOSTROPHE})",
        rf"({_APOSTROPHE}(?:em|till?|cause|[2-9]0s))",
        rf"([A-HJ-XZn]{_APOSTROPHE}{_LETTER}{{2,}}|{_LETTER}+[aeiouyAEIOUY]{_APOSTROPHE}[aeiouA-Z]{_LETTER}*)",
        r"(nor'easter|c'mon|e'er|s'mores|ev'ry|li'l|nat'l|cont'd|Cap'n|c'est|d'ye)",
        rf"([yY]{_APOSTROPHE}){_LETTER}",
        # Addresses.
        r"(https?://[^\s\"<>|()]+[^\s\"<>|.!?(){},-])",
        r"((?:www\.(?:[^\s\"<>|.!?(){},]+\.)+[a-zA-Z]{2,4}|(?:[^\s\"`'<>|.!?(){},\-_$]+\.)+(?:com|net|org|edu))"
        r"(?:/[^\s\"<>|()]+[^\s\"<>|.!?(){},-])?)",
        r"(<?[a-zA-Z0-9][^\s\"<>|()]*@(?:[^\s\"<>|().]+\.)*[^\s\"<>|().]+>?)",
        rf"(@[a-zA-Z_][a-zA-Z_0-9]*|#{_LETTER}+)",
        rf"({_ENDING})(?:[^A-Za-z]|$)",
        rf"({_NOT})",
        # Numbers: with a sign, as a date, as a fraction; and what stands before them.
        r"([-+]?(?:\d+(?:[.:,]\d+)*|(?:[.:,]\d+)+))",
        r"(\d{1,2}[-/]\d{1,2}[-/]\d{2,4})",
        r"((?:\d{1,4}[- \u00a0])?\d{1,4}[/\u2044]\d{1,4})",
        r"([\u207a\u207b\u208a\u208b]?(?:[\u2070\u00b9\u00b2\u00b3\u2074-\u2079]+|[\u2080-\u2089]+))",
        r"(pro-|anti-)",
        r"([A-Za-z0-9]+(?:-[A-Za-z]+){0,2}(?:/[A-Za-z0-9]+(?:-[A-Za-z]+){0,2}){1,2})",
        r"([A-Z]*\$|#)",
        r"(\([0-9]{2,3}\)[ \u00a0]?[0-9]{3,4}[- \u00a0]?[0-9]{3,5})",
        # Abbreviations keep their point, and so does a word before a comma or the like.
        rf"((?:[A-Za-z]\.)+[A-Za-z]\.|(?i:{_any(_ABBREVIATIONS)})\.)",
        rf"((?:{_any(_CAPITAL_ABBREVIATIONS)}|{_any(_CAPITAL_ABBREVIATIONS.upper())})\.)",
        rf"((?i:{_any(_BEFORE_NUMBERS)})\.)\s?\d",
        r"([A-Za-z]\.)",
        rf"([A-Za-z])\.\s+{_any(_OPENERS)}\s",
        rf"({_APOSTROPHE}[0-9][0-9])(?=\s|$)",
        rf"({_WORD}\.)[,;:\u3001]",
        # Compounds.
        r"([A-Za-z0-9][A-Za-z0-9.,\u00ad]*(?:-(?:(?:[A-Za-z]\.)+[A-Za-z]\.|[A-Za-z0-9\u00ad]+))+)",
        rf"((?:[dDoOlL]{_APOSTROPHE})?(?:{_LETTER}|\d)+(?:[-_\u2010\u2011](?:[dDoOlL]{_APOSTROPHE})?(?:{_LETTER}|\d)+)*)",
        r"([A-Z]+(?:[+&][A-Z]+)+|[cC]\+\+|[cCfF]#)",
        # Runs of one mark, smileys.
        rf"([:;=]['-]?[()DPp]|\^_\^){_NOT_LETTER}",
        r"(\.{3,5}|-+|@+|#+|_+|\*+|[?!]+)",
        r"(')[A-Za-z]\S",
        rf"({_ENDING}|''|[`'‘’‚‛“”„‹›«»\u0091-\u0094]{{1,2}})",
        # Any other mark that it knows; it passes over the rest, as over emoji.
        r"([^\w\s\u0000-\u001f\u007f-\u009f\u00ad\u0300-\u036f\u200b-\u200f\u2028-\u202f"
        rf"\u2060-\u206f\ue000-\uf8ff\ufe00-\ufe0f\ufeff\ufff0-\uffff{_ASTRAL}]"
        r"|[\u00bc-\u00be\u2153-\u215e])",
    )
]

# Most words are of this kind, and need no other rule.
_PLAIN = re.compile(r"(?!(?i:cannot|gonna|wanna|gotta|gimme|lemme)\b)[A-Za-z]+(?=,? |$)")

_WRITTEN = {
    "(": "-lrb-", ")": "-rrb-", "[": "-lsb-", "]": "-rsb-", "{": "-lcb-", "}": "-rcb-",
    "¼": "1/4", "½": "1/2", "¾": "3/4", "⅓": "1/3", "⅔": "2/3",
    "¢": "cents", "£": "#", "€": "$", "¤": "$", "\u20a0": "$",
    "&amp;": "&", "&lt;": "<", "&gt;": ">", "&nbsp;": " ",
}  # fmt: skip
# Dashes, dots and quotes in all their forms are written as marks that are left out.
_DROPPED = re.compile(
    r"-{1,4}|[\u2013-\u2015\u0096\u0097]|&(?:mdash|ndash|MD|quot|apos);|\.+|…"
    r"|[\"`'‘’‛‹›“”«»\u0091-\u0094]{1,2}"
)
_CLITIC = re.compile(rf"{_ENDING}|{_NOT}")
_STRAIGHT = str.maketrans(dict.fromkeys("’‘‛\u0091\u0092", "'"))


def ptb_tokens(text: str) -> list[str]:
    """The tokens of a caption: in lower case, split as the Penn Treebank is, punctuation left out.

    "A dog's bark can't stop." is `a dog 's bark ca n't stop`. White space inside a token (`1 1/2`
    is one) parts it once more, as it does where the tools count n-grams.
    """
    return list(_tokens(text))


# Three scores read each caption.
@functools.lru_cache(maxsize=1 << 16)
def _tokens(text: str) -> tuple[str, ...]:
    tokens, at = [], 0
    while at < len(text):
        plain = _PLAIN.match(text, at)
        token, at = (plain[0], plain.end()) if plain else _next(text, at)
        tokens += [part for part in token.lower().split() if part not in PUNCTUATION]
    return tuple(tokens)


def _next(text: str, at: int) -> tuple[str, int]:
    """(the token that begins there, where it ends); "" for what is passed over."""
    found = [match for rule in _RULES if (match := rule.match(text, at))]
    if not found:
        return "", at + 1
    best = max(found, key=lambda match: match.end())
    return _written(best[1]), max(best.end(1), at + 1)


def _written(token: str) -> str:
    """A token as the tokenizer writes it: brackets and signs of money by name, quotes in ASCII."""
    if token in _WRITTEN:
        return _WRITTEN[token]
    if _DROPPED.fullmatch(token):
        return ""
    token = token.replace("\u00ad", "")
    if _CLITIC.fullmatch(token):
        return token.translate(_STRAIGHT)
    if token.startswith((":", ";", "=", "(")):
        return token.replace("(", "-lrb-").replace(")", "-rrb-")
    return token
