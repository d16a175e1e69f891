"""What the synthetic speakers say: one sentence frame in eight languages, and ten keywords.

"the NOUN is ADJECTIVE", with the agreement that each language asks for: gender in Spanish, French
and Italian (German predicate adjectives do not inflect), the topic particle after a vowel or a
consonant in Korean, adjective or colour noun in Chinese. No noun begins with a vowel in French or
Italian, so no article elides and every word stays a word. Japanese is in kana because eSpeak NG
reads no kanji. No Korean word begins with a nasal: eSpeak NG reports no word event for those.
"""

LANGUAGES = {
    "en": "English",
    "zh": "Chinese",
    "de": "German",
    "es": "Spanish",
    "ko": "Korean",
    "fr": "French",
    "ja": "Japanese",
    "it": "Italian",
}

KEYWORDS = ("yes", "no", "up", "down", "left", "right", "on", "off", "stop", "go")

# One column a meaning: every row below has the same order. The article tells the gender.
_NOUN_ROWS = {
    "en": "dog, cat, pig, rabbit, cow, mouse, house, car, book, box, bag, flower",
    "zh": "狗, 猫, 猪, 兔子, 牛, 老鼠, 房子, 汽车, 书, 箱子, 包, 花",
    "de": (
        "der hund, die katze, das schwein, der hase, die kuh, die maus, das haus, "
        "das auto, das buch, die kiste, die tasche, die blume"
    ),
    "es": (
        "el perro, el gato, el cerdo, el conejo, la vaca, el ratón, la casa, el coche, "
        "el libro, la caja, el bolso, la flor"
    ),
    "ko": "개, 고양이, 돼지, 토끼, 소, 쥐, 집, 자동차, 책, 상자, 가방, 꽃",
    "fr": (
        "le chien, le chat, le cochon, le lapin, la vache, la souris, la maison, "
        "la voiture, le livre, la boîte, le sac, la fleur"
    ),
    "ja": "いぬ, ねこ, ぶた, うさぎ, うし, ねずみ, いえ, くるま, ほん, はこ, かばん, はな",
    "it": (
        "il cane, il gatto, il maiale, il coniglio, la mucca, il topo, la casa, "
        "la macchina, il libro, la scatola, la borsa, il fiore"
    ),
}

# Where the form depends on gender: "masculine/feminine".
_ADJECTIVE_ROWS = {
    "en": "big, small, white, black, red, blue, beautiful, good, clean, expensive",
    "zh": "很大, 很小, 是白色的, 是黑色的, 是红色的, 是蓝色的, 很漂亮, 很好, 很干净, 很贵",
    "de": "groß, klein, weiß, schwarz, rot, blau, schön, gut, sauber, teuer",
    "es": (
        "es grande, es pequeño/es pequeña, es blanco/es blanca, es negro/es negra, "
        "es rojo/es roja, es azul, es bonito/es bonita, es bueno/es buena, "
        "está limpio/está limpia, es caro/es cara"
    ),
    "ko": "크다, 작다, 하얗다, 까맣다, 빨갛다, 파랗다, 예쁘다, 좋다, 깨끗하다, 비싸다",
    "fr": (
        "grand/grande, petit/petite, blanc/blanche, noir/noire, rouge, bleu/bleue, "
        "beau/belle, bon/bonne, propre, cher/chère"
    ),
    "ja": (
        "おおきい, ちいさい, しろい, くろい, あかい, あおい, うつくしい, いい, きれいだ, たかい"
    ),
    "it": (
        "grande, piccolo/piccola, bianco/bianca, nero/nera, rosso/rossa, blu, "
        "bello/bella, buono/buona, pulito/pulita, caro/cara"
    ),
}

NOUNS = {language: tuple(row.split(", ")) for language, row in _NOUN_ROWS.items()}
ADJECTIVES = {language: tuple(row.split(", ")) for language, row in _ADJECTIVE_ROWS.items()}

_FEMININE_ARTICLES = ("la ", "die ")
_COPULA = {"en": "is", "de": "ist", "fr": "est", "it": "è"}
# Written without spaces; spoken with spaces where eSpeak NG marks words by them.
_UNSPACED = ("zh", "ja")


def spoken(language: str, noun: int, adjective: int) -> str:
    """The sentence as eSpeak NG gets it: Japanese with spaces, so that it reports word times.

    Args:
        language: a key of LANGUAGES.
        noun: index into NOUNS.
        adjective: index into ADJECTIVES.
    """
    subject, predicate = NOUNS[language][noun], ADJECTIVES[language][adjective]
    if "/" in predicate:
        forms = predicate.split("/")
        predicate = forms[subject.startswith(_FEMININE_ARTICLES)]
    if language == "zh":
        return subject + predicate
    if language == "ja":
        return f"{subject} は {predicate}"
    if language == "ko":
        # A Hangul syllable block ends in a vowel when its index is a multiple of 28.
        ends_in_vowel = (ord(subject[-1]) - 0xAC00) % 28 == 0
        return f"{subject}{'는' if ends_in_vowel else '은'} {predicate}"
    if language == "en":
        subject = f"the {subject}"
    copula = _COPULA.get(language)
    return f"{subject} {copula} {predicate}" if copula else f"{subject} {predicate}"


def written(language: str, noun: int, adjective: int) -> str:
    """The sentence as the label has it: Chinese and Japanese without spaces."""
    sentence = spoken(language, noun, adjective)
    return sentence.replace(" ", "") if language in _UNSPACED else sentence
