"""Chinese text with its numbers written out, as speechio's normaliser has it at commit 5d81cef.

Its steps and their order, its patterns and its lists of words are those of
https://github.com/speechio/chinese_text_normalization (`python/cn_tn.py`; MIT licence, Zhiyang Zhou
and Jiayu Du), without the options that Qwen2-Audio's script leaves off; see README.md. The code is
this project's.
"""

import re
import string
from collections.abc import Callable

from qwen_audio_jax.metrics.protocols.chinese_numbers import cardinal, digit_by_digit

_CURRENCY = "(?:亿|千万|百万|万|千|百|元|块|角|毛|分)"
_QUANTIFIERS = (
    "匹张座回场尾条个首阙阵网炮顶丘棵只支袭辆挑担颗壳窠曲墙群腔砣客贯扎捆刀令打手罗坡山岭江溪钟队"
    "单双对出口头脚板跳枝件贴针线管名位身堂课本页家户层丝毫厘分钱两斤铢石钧锱忽寸尺丈里寻常铺程撮勺"
    "合升斗盘碗碟叠桶笼盆盒杯斛锅簋篮罐瓶壶卮盏箩箱煲啖袋钵年月日季刻时周天秒旬纪岁世更夜春夏秋冬代"
    "伏辈丸泡粒幢堆根道面片块"
)
_NUMBER = re.compile(r"(\d+(?:\.\d+)?)")
_PUNCTUATION = string.punctuation + (
    "！？｡。＂＃＄％＆＇（）＊＋，－／：；＜＝＞＠［＼］＾＿｀｛｜｝～｟｠｢｣､、〃《》「」『』【】〔〕〖〗〘〙〚〛〜"
    "〝〞〟〰〾〿–—‘’‛“”„‟…‧﹏·〈〉"
)
_TO_SPACES = str.maketrans(dict.fromkeys(_PUNCTUATION, " "))


def _date(text: str) -> str:
    # Of a year the digits are said, of month and day the numbers.
    year, mark, rest = text.rpartition("年")
    return digit_by_digit(year) + mark + _numbers(rest)


def _numbers(text: str) -> str:
    return _NUMBER.sub(lambda found: cardinal(found[1]), text)


def _telephone(text: str) -> str:
    return digit_by_digit(re.sub(r"[+\-\s]", "", text))


def _fraction(text: str) -> str:
    numerator, denominator = text.split("/")
    return f"{cardinal(denominator)}分之{cardinal(numerator)}"


def _percentage(text: str) -> str:
    return "百分之" + cardinal(text.removesuffix("%"))


# In this order; each takes what group 1 finds, and what it writes has no digits for the next.
_STEPS: list[tuple[re.Pattern, Callable[[str], str]]] = [
    (re.compile(r"\D+((?:(?:[089]\d|(?:19|20)\d{2})年)?(?:\d{1,2}月(?:\d{1,2}[日号])?)?)"), _date),
    (re.compile(rf"\D+(\d+(?:\.\d+)?[多余几]?{_CURRENCY}(?:\d{_CURRENCY}?)?)"), _numbers),
    (
        re.compile(r"\D((?:\+?86 ?)?1(?:[38]\d|5[0-35-9]|7[678]|9[89])\d{8})\D"),
        _telephone,
    ),
    (re.compile(r"\D((?:0(?:10|2[1-3]|[3-9]\d{2})-?)?[1-9]\d{6,7})\D"), _telephone),
    (re.compile(r"(\d+/\d+)"), _fraction),
    (re.compile(r"(\d+(?:\.\d+)?%)"), _percentage),
    (re.compile(rf"(\d+(?:\.\d+)?)[多余几]?(?:[{_QUANTIFIERS}]|千克|微克|千米|微米)"), cardinal),
    (re.compile(r"(\d{4,32})"), digit_by_digit),
    (_NUMBER, cardinal),
    # Names such as P2P, whose digit a step before has written out.
    (re.compile(r"([a-zA-Z]+二[a-zA-Z]+)"), lambda name: name.replace("二", "2")),
]


def spoken_chinese(text: str) -> str:
    """Numbers, dates, amounts and telephone numbers as they are said; a space for punctuation."""
    # Patterns that want something before and behind a number find these at the text's ends.
    text = f"^{text}$".replace("％", "%")
    for pattern, spoken in _STEPS:
        for found in pattern.findall(text):
            # The first place with these digits, not always the one that was found: as the original.
            text = text.replace(found, spoken(found), 1)
    return text.translate(_TO_SPACES)
