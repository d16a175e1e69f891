"""Tokens of a caption as the COCO caption tools count them, without Java.

Those tools run the Penn Treebank tokenizer of Stanford CoreNLP 3.4.1 in lower case and then leave
out a list of punctuation marks. This file imitates it for captions; `tests/golden/captions` has
what the original makes of several hundred lines, and in which kinds of line the two differ.
"""

import functools
import re

PUNCTUATION = frozenset(
    ("''", "'", "``", "`", "-LRB-", "-RRB-", "-LCB-", "-RCB-", *".?!,:;-", "--", "...")
)
"""What the tools leave out (pycocoevalcap, tokenizer/ptbtokenizer.py).

Round and curly brackets stand in it in capitals, and tokens are in lower case: so they stay, as do
runs such as "?!".
"""

# Java counts a character beyond the first 65,536 as two of no kind, so it passes over them.
_ASTRAL = r"\U00010000-\U0010ffff"
_LETTER = rf"[^\W\d_²³¹¼-¾\u2070-\u2089\u2150-\u215e{_ASTRAL}]"
_WORD = rf"(?:{_LETTER}|[\u0300-\u036f])(?:{_LETTER}|[\u0300-\u036f\d])*"
_WORDS = rf"{_WORD}(?:[.!?]{_WORD})*"
_ENDING = "['’](?:[msdMSD]|re|ve|ll|RE|VE|LL)"
_NOT = "[nN]['’‘][tT]"
_ACRONYM = r"[A-Za-z]\.(?:[A-Za-z]\.)+"
_ELIDED = "(?:[dDoOlL]['’])?"

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


# Each has the token as its group; what it looks ahead at counts for its length. The longest wins,
# and of equals the first, as in every scanner that is generated; many a case depends on it.
_RULES = [
    re.compile(rule)
    for rule in (
        # One word that is two.
        "(?i:(can)not|(gon|wan)na|(got)ta|(gim|lem)me|('t)(?:is|was))",
        "(more)'n",
        rf"({_WORDS}){_ENDING}",
        rf"([A-Za-z]*(?![nN])[A-Za-z]){_NOT}",
        rf"({_WORDS})",
        # Words with an apostrophe inside or at an end.
        "(['’]n['’]?|[lLdDjJ]['’]|(?:ol|somethin)['’]|['’](?:em|till?|cause|[2-9]0s))",
        rf"({_LETTER}+[aeiouyAEIOUY]['’][aeiouA-Z]{_LETTER}*|[A-HJ-XZn]['’]{_LETTER}{{2,}})",
        "(c'est|c'mon|cont'd|d'ye|e'er|ev'ry|li'l|nat'l|nor'easter|s'mores)",
        rf"([yY]['’]){_LETTER}",
        # Addresses and markup.
        r"((?:https?://|www\.)[^\s\"<>|()]*[\w/])",
        r"((?:[^\W_][\w-]*\.)+(?:com|net|org|edu)(?:/[^\s\"<>|()]*[\w/])?)",
        r"([A-Za-z\d][^\s\"<>|()]*@[^\s\"<>|()]*[^\s\"<>|().])",
        rf"(@[a-zA-Z_]\w*|#{_LETTER}+)",
        r"(</?[A-Za-z][A-Za-z0-9:._]*(?:\s[^>]*)?/?>)",
        r"(&(?:amp|lt|gt|quot|apos|nbsp|mdash|ndash|#[0-9]+);)",
        # What remains of a word that was parted.
        rf"({_ENDING})(?:[^A-Za-z]|$)",
        rf"({_NOT})",
        # Numbers: with a sign, as a date, as a fraction, raised or lowered, of a telephone.
        r"([-+]?(?:\d+(?:[.:,]\d+)*|(?:[.:,]\d+)+))",
        r"(\d{1,2}[-/]\d{1,2}[-/]\d{2,4})",
        r"((?:\d{1,4}[- \u00a0])?\d{1,4}[/\u2044]\d{1,4})",
        r"([⁺⁻₊₋]?(?:[²³¹\u2070\u2074-\u2079]+|[\u2080-\u2089]+))",
        r"(\(\d{2,3}\)[ \u00a0]?\d{3,4}[- \u00a0]?\d{3,5})",
        r"([A-Z]*\$|#)",
        # Abbreviations keep their point, and so does a word before a comma or the like.
        rf"({_ACRONYM}|(?i:{_any(_ABBREVIATIONS)})\.)",
        rf"((?:{_any(_CAPITAL_ABBREVIATIONS)}|{_any(_CAPITAL_ABBREVIATIONS.upper())})\.)",
        rf"((?i:{_any(_BEFORE_NUMBERS)})\.)\s?\d",
        r"([A-Za-z]\.)",
        rf"([A-Za-z])\.\s+{_any(_OPENERS)}\s",
        rf"({_WORD}\.)[,;:\u3001]",
        r"(['’]\d\d)(?:\s|$)",
        # Compounds.
        "(pro-|anti-)",
        r"([A-Za-z\d]+(?:-[A-Za-z]+)*(?:/[A-Za-z\d]+(?:-[A-Za-z]+)*){1,2})",
        rf"([A-Za-z\d][A-Za-z\d.,]*(?:-(?:{_ACRONYM}|[A-Za-z\d]+))+)",
        rf"({_ELIDED}(?:{_LETTER}|\d)+(?:[-_\u2010\u2011]{_ELIDED}(?:{_LETTER}|\d)+)*)",
        r"([A-Z]+(?:[+&][A-Z]+)+|[cC]\+\+|[cCfF]#)",
        # Smileys, runs of one mark, quotes.
        r"([:;=]['-]?[()DPp]|\^_\^)(?=[^A-Za-z]|$)",
        r"(\.{3,5}|-+|@+|#+|_+|\*+|[?!]+)",
        r"(')[A-Za-z]\S",
        rf"({_ENDING}|''|[`'‘’‚‛“”„‹›«»]{{1,2}})",
        # Any other mark that it knows; it passes over the rest, as over emoji.
        r"([^\w\s\u0000-\u001f\u007f-\u009f\u0300-\u036f\u200b-\u200f\u2028-\u202f\u2060-\u206f"
        rf"\ue000-\uf8ff\ufe00-\ufe0f\ufeff\ufff0-\uffff{_ASTRAL}]|[¼-¾\u2153-\u215e])",
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
_DROPPED = re.compile(r"-{1,4}|[\u2013-\u2015]|\.+|…|[\"`'‘’‛‹›“”«»]{1,2}|&([mn]dash|quot|apos);")
_CLITIC = re.compile(rf"{_ENDING}|{_NOT}")
_SOFT_HYPHEN = "\u00ad"


def ptb_tokens(text: str) -> list[str]:
    """The tokens of a caption: in lower case, split as the Penn Treebank is, punctuation left out.

    "A dog's bark can't stop." is `a dog 's bark ca n't stop`. White space inside a token (`1 1/2`
    is one) parts it once more, as it does where the tools count n-grams.
    """
    return list(_tokens(text))


# Three scores read each caption.
@functools.lru_cache(maxsize=1 << 16)
def _tokens(text: str) -> tuple[str, ...]:
    text = text.replace(_SOFT_HYPHEN, "")
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
    return _written(best[best.lastindex]), best.end(best.lastindex)


def _written(token: str) -> str:
    """A token as the tokenizer writes it: brackets and signs of money by name, quotes in ASCII."""
    if token in _WRITTEN:
        return _WRITTEN[token]
    if _DROPPED.fullmatch(token):
        return ""
    if _CLITIC.fullmatch(token):
        return token.replace("’", "'").replace("‘", "'")
    if token.startswith((":", ";", "=", "(")):
        return token.replace("(", "-lrb-").replace(")", "-rrb-")
    return token
