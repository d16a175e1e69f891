"""`convert import --languages`: which tags a text model's vocabulary gets."""

import originals
import pytest
from byte_vocabulary import byte_vocabulary
from converting import read_tables, run

from qwen_audio_jax.rendering.language_codes import tagged_languages
from qwen_audio_jax.text.tokenizer import load_tokenizer

EIGHT = {"de", "en", "es", "fr", "it", "ja", "ko", "zh", "zh_tr"}


@pytest.fixture(scope="module")
def source(tmp_path_factory):
    folder = originals.qwen2(tmp_path_factory.mktemp("text") / "source", vocab_size=258)
    byte_vocabulary(folder / "tokenizer.json", ["<|endoftext|>", "<|pad|>"])
    return folder


def test_languages_get_tags_of_their_own(source, tmp_path, capsys):
    out = tmp_path / "out"
    # As a corpus may call them: by code, BCP 47, ISO 639-3, and name.
    listed = "--languages=cs, nl-BE,ron,Russian,en"
    assert run("import", f"--source={source}", f"--out={out}", listed) == 0
    tokenizer = load_tokenizer(out / "tokenizer")
    languages = EIGHT | {"cs", "nl", "ro", "ru"}
    assert set(tagged_languages(tokenizer)) == languages
    assert f"languages with a tag: {', '.join(sorted(languages))}\n" in capsys.readouterr().out
    ids = {tokenizer.tag(f"<|{code}|>", language=True) for code in languages}
    assert len(ids) == len(languages)
    assert tokenizer.special("<|unknown|>") not in ids
    assert len(read_tables(out)["embedding"]) > max(ids)


def test_without_a_list_there_are_the_families_languages(source, tmp_path, capsys):
    assert run("import", f"--source={source}", f"--out={tmp_path / 'out'}") == 0
    assert set(tagged_languages(load_tokenizer(tmp_path / "out" / "tokenizer"))) == EIGHT
    assert (
        "languages with a tag: de, en, es, fr, it, ja, ko, zh, zh_tr\n" in capsys.readouterr().out
    )


@pytest.mark.parametrize(
    ("languages", "told"),
    [
        ("xx", "'xx' names no language of ISO 639; write one code"),
        ("cs,cz", "'cz' names no language of ISO 639; did you mean 'cs'?"),
        ("Czec", "'Czec' names no language of ISO 639; did you mean 'cs'?"),
        ("", "'' names no language"),
        ("cs,,nl", "'' names no language"),
        ("cs nl", "'cs nl' names no language"),
        ("cs,nl,cs", "'cs' and 'cs' are the same language, 'cs'; list it once"),
        ("cs,Czech", "'Czech' and 'cs' are the same language, 'cs'; list it once"),
        ("sil", "'sil' is the name of a control token here"),
        ("zh-HK", "'zh-HK' may be 'yue' or 'zh'; write one of them"),
    ],
)
def test_what_is_no_list_of_languages_is_refused(source, tmp_path, capsys, languages, told):
    out = tmp_path / "out"
    assert run("import", f"--source={source}", f"--out={out}", f"--languages={languages}") == 1
    said = capsys.readouterr().err
    assert said.startswith(f"error: --languages: {told}")
    assert said.count("\n") == 1
    assert not out.exists()


@pytest.mark.parametrize(
    ("make", "told"),
    [
        (originals.qwen2_audio, "is a whole model, whose vocabulary stays as it is"),
        (originals.qwen2, "has no vocabulary that could get tags; put its tokenizer.json or"),
        (originals.whisper, "has no decoder, and so no vocabulary; name a language model as a"),
    ],
)
def test_what_cannot_get_tags_is_refused(tmp_path, capsys, make, told):
    folder, out = make(tmp_path / "source"), tmp_path / "out"
    assert run("import", f"--source={folder}", f"--out={out}", "--languages=cs") == 1
    assert capsys.readouterr().err.startswith(f"error: --languages: {folder} {told}")
    assert not out.exists()
