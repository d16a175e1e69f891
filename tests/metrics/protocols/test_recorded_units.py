"""v2 against what the originals' own code made of the same texts (tests/golden/README.md)."""

import json
import pathlib

import pytest

from qwen_audio_jax.metrics.protocols import PROTOCOLS
from qwen_audio_jax.metrics.protocols.chinese_numbers import cardinal, digit_by_digit
from qwen_audio_jax.metrics.protocols.whisper import basic_text, english_text

GOLDEN = pathlib.Path(__file__).parents[2] / "golden/protocols"


def units_as_written(text, language):
    joint = "" if language in ("zh", "yue") else " "
    return joint.join(PROTOCOLS["v2"].units(text, language))


@pytest.mark.parametrize(
    ("file", "at_least"),
    [("english.json", 200), ("chinese.json", 200), ("other.json", 50), ("cantonese.json", 10)],
)
def test_units_are_the_originals(file, at_least):
    if file == "cantonese.json":
        pytest.importorskip("zhconv", reason="GPL, so no extra brings it: pip install zhconv")
    recorded = json.loads((GOLDEN / file).read_text(encoding="utf-8"))
    assert len(recorded) >= at_least
    wrong = [
        (text, expected, made)
        for language, text, expected in recorded
        if (made := units_as_written(text, language)) != expected
    ]
    assert wrong == []


@pytest.mark.parametrize(
    ("text", "english", "both"),
    [
        (
            "It's $3.50, Mr. Smith's 21st colour.",
            "it is $3.50 mister smith is 21st color",
            "it is 3 50 mister smith is 21st color",
        ),
        ("twenty twenty-four 1,000,000 50%", "2024 1000000 50%", "2024 1000000 50"),
        ("ten o'clock, thirty six", "100 clock 36", None),
        ("two thousand and ten", "2010", None),
        ("one oh one", "101", None),
        ("double seven", "77", None),
        ("uh-huh okay O.K. U.S.A.", "huh okay 0 k u s a", None),
        ("10:00 AM at St. Louis", "10 0 am at saint louis", None),
        ("He said (softly) hello [noise] there", "he said hello there", None),
        ("the dog's bone can't", "the dog is bone can not", None),
        ("um um", "", None),
        ("mm mm", "", None),
        (
            "I kinda like it 'cause of the cause",
            "i kinda like it cause of the cause",
            None,
        ),
        ("'cause of the cause", "cause of the cause", None),
        ("21st", "21st", None),
        ("thirty six", "36", None),
        ("can't", "can not", None),
    ],
)
def test_english_is_openais(text, english, both):
    assert english_text(text).strip() == english
    assert units_as_written(text, "en") == (english if both is None else both)


def test_basic_is_openais():
    assert basic_text("L'été, c'est 25 %.").strip() == "l été c est 25"


def test_a_number_that_python_does_not_read_passes():
    digits = "7" * 5000
    assert PROTOCOLS["v2"].units(f"It's {digits}", "en") == ["it", "s", digits]


@pytest.mark.parametrize(
    ("text", "units"),
    [
        ("今天是2024年3月5日，气温25.5度。", "今天是二零二四年三月五日气温二十五点五度"),
        ("我有3个苹果和100元", "我有三个苹果和一百元"),
        ("拨打10086", "拨打一零零八六"),
        ("占50%，1/2", "占百分之五十二分之一"),
        ("iPhone 15 很好", "iphone十五很好"),
        ("P2P和B2C", "p2p和b2c"),
        ("他说hello world", "他说helloworld"),
    ],
)
def test_chinese_is_speechios(text, units):
    assert units_as_written(text, "zh") == units


@pytest.mark.parametrize(
    ("number", "said"),
    [
        ("0", "零"), ("00", ""), ("05", "零五"), ("10", "十"), ("12", "十二"), ("20", "二十"),
        ("110", "一百一十"), ("200", "两百"), ("1002", "一千零二"), ("10200", "一万零二百"),
        ("120000", "十二万"), ("22222", "两万两千两百二十二"), ("100000000", "一亿"),
        ("2.02", "二点零二"), ("00.5", "零点五"), ("2" + 44 * "0", "两载"),
    ],
)  # fmt: skip
def test_a_cardinal_is_said_with_units(number, said):
    assert cardinal(number) == said


def test_a_long_number_is_said_whatever_its_length():
    assert cardinal("1" * 100_000).startswith("一")
    assert digit_by_digit("１0٣") == "一零三"
