"""One language has one code, whatever people call it, and none is called as a control token."""

import re

import pytest

from data_pipelines.sources.common_voice import language_of
from qwen_audio_jax.rendering.language_codes import language_code
from qwen_audio_jax.rendering.languages import LANGUAGES
from qwen_audio_jax.tasks import AnnotationError, check_annotation
from qwen_audio_jax.text.control_tokens import control_tokens, is_language_tag

READ = {
    "en": "EN eN eng English english ENGLISH Englisch 英语 en-US en_us en-GB en-AU en-Latn en-DE",
    "zh": "cmn zho chi zh-CN zh_TW zh-Hans zh-Hant-TW zh-cmn cmn-Hans-CN Chinese Mandarin 中文",
    "yue": "zh-yue yue-HK yue_hant_hk Cantonese",
    "he": "iw heb Hebrew",
    "id": "in ind in-ID",
    "yi": "ji",
    "ro": "mo ron rum",
    "pt": "pt-BR pt_br por Portuguese português",
    "de": "ger deu de-AT de_de Deutsch deutsch German de-1996",
    "no": "nor no-NO Norwegian",
    "nb": "nob nb-NO nb_no",
    "sr": "sr-Latn sr-Cyrl-RS srp",
    "es": "es-419 es_mx Spanish Español",
    "fr": "fra fre fr_ca French FRANÇAIS",
    "ca": "ca-valencia cat",
    "ja": "jpn ja_jp 日本語",
    "sw": "swh swh_Latn swa",
    "fa": "pes fas Farsi",
    "unknown": "und",
    "zh_tr": "ZH_TR zh-tr",
}
SUGGESTED = {
    "jp": "'ja'",
    "cn": "'zh'",
    "cz": "'cs'",
    "Englsh": "'en'",
    "zh-HK": "'yue' or 'zh'",
    "en_de": "'de' or 'en'",
    "GA": "'ga' or 'gaa'",
}
NO_LANGUAGE = """
    0.00 caption event transcribe endoftext itn midi_pitch_60 en,fr en/fr en;fr
    eng-deu
    en-XX fr-EN en- -en en--US e 3 xyz en-x-mine multilingual auto NaN null <|en|> ｅｎ é"""

# Codes that FLEURS and Common Voice tell languages by.
FLEURS = """
    af am ar as ast az be bg bn bs ca ceb ckb cs cy da de el en es et fa ff fi fil fr ga gl gu
    ha he hi hr hu hy id ig is it ja jv ka kam kea kk km kn ko ky lb lg ln lo lt luo lv mi mk ml
    mn mr ms mt my nb ne nl nso ny oc om or pa pl ps pt ro ru sd sk sl sn so sr sv sw ta te tg
    th tr uk umb ur uz vi wo xh yo yue zh zu
"""
COMMON_VOICE = """
    ab af am ar as ast az ba bas be bg bn br ca ckb cnh cs cv cy da de dv dyu el en eo es et eu
    fa fi fr fy-NL ga-IE gl gn ha he hi hsb ht hu hy-AM ia id ig is it ja ka kab kk kmr ko ky lg
    lij lo lt ltg lv mdf mhr mk ml mn mr mrj mt myv nan-tw ne-NP nl nn-NO nso oc or os pa-IN pl
    ps pt quy rm-sursilv rm-vallader ro ru rw sah sat sc sk skr sl sq sr sv-SE sw ta te th ti
    tig tk tok tr tt tw ug uk ur uz vi vot yi yo yue zgh zh-CN zh-HK zh-TW zu zza
"""


@pytest.mark.parametrize("code", READ)
def test_what_has_one_reading_is_read(code):
    for text in [code, *READ[code].split()]:
        assert language_code(text) == code, text


@pytest.mark.parametrize("text", [*SUGGESTED, *NO_LANGUAGE.split(), "", "x" * 500, "sil", "SIL"])
def test_what_has_none_or_two_is_named(text):
    with pytest.raises(ValueError, match=r"^'.*(?<!\s)$") as refusal:
        language_code(text)
    said = str(refusal.value)
    assert len(said) < 150
    assert SUGGESTED.get(text, "") in said


def test_codes_of_corpora_stay():
    codes = {*FLEURS.split(), *map(language_of, COMMON_VOICE.split()), *LANGUAGES}
    assert {code for code in codes if language_code(code) != code} == set()


def test_every_code_may_be_a_tag_and_no_code_is_another_control_token():
    for code in [*READ, *LANGUAGES, "zh_tr", "abc"]:
        assert is_language_tag(f"<|{language_code(code)}|>")
    named_so = {name for name in control_tokens() if re.fullmatch(r"<\|[a-z]{2,3}\|>", name)}
    assert {name for name in named_so if not is_language_tag(name)} == {"<|sil|>", "<|itn|>"}
    for name in control_tokens()[:60] + control_tokens()[3000::10]:
        if not is_language_tag(name):
            with pytest.raises(ValueError, match=r"names no language|is the name of"):
                language_code(name.strip("<|>"))
            with pytest.raises(AnnotationError, match=r"^field 'language': must be a code"):
                check_annotation("asr", {"text": "x", "language": name.strip("<|>")}, 1)
