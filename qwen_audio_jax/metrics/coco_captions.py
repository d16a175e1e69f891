"""The scores of the COCO caption tools that need no Java: CIDEr-D, BLEU and ROUGE-L."""

import collections
import math
from collections.abc import Sequence
from typing import Any

from rapidfuzz.distance import LCSseq

from qwen_audio_jax.metrics.answer import table_row
from qwen_audio_jax.metrics.cider import cider_d
from qwen_audio_jax.metrics.ptb_tokens import ptb_tokens

ORDER = 4
"""Tokens of the longest n-grams of BLEU."""

NOT_AVAILABLE = {
    "meteor": "METEOR 1.5 is a Java program with its own paraphrase tables",
    "spice": "SPICE is a Java program that downloads CoreNLP's models",
    "spider": "SPIDEr is the mean of CIDEr-D and SPICE, and SPICE is not available",
}
"""Scores of the papers that are not computed here, and why; nothing else goes by their names."""

# As the tools have them, so that nothing is divided by zero.
_TINY, _SMALL = 1e-15, 1e-9
_BETA = 1.2


def caption_rows(pairs: Sequence[tuple[Sequence[str], str]]) -> list[dict[str, Any]]:
    """Rows "cider", "coco_bleu_1" to "coco_bleu_4", "rouge_l"; baseline: the empty answer, 0.

    Then a row for each of NOT_AVAILABLE, with "value" None and "not_available", the reason.

    Args:
        pairs: (references, answer) of each clip, as text.
    """
    values = {"cider": cider_d(pairs)[0]}
    values |= {f"coco_bleu_{n}": value for n, value in enumerate(coco_bleu(pairs) or [None] * 4, 1)}
    values["rouge_l"] = rouge_l(pairs)
    rows = [
        table_row(metric, value, None if value is None else 0.0, len(pairs))
        for metric, value in values.items()
    ]
    return rows + [
        table_row(metric, None, None, len(pairs)) | {"not_available": reason}
        for metric, reason in NOT_AVAILABLE.items()
    ]


def coco_bleu(pairs: Sequence[tuple[Sequence[str], str]]) -> list[float] | None:
    """BLEU-1 to BLEU-4, 0 to 1, over the set, on tokens in lower case without punctuation.

    Of several references the closest in length counts for the brevity penalty, of two equally
    close the shorter. Not `metrics.bleu`, which is sacrebleu's. None for an empty set.
    """
    if not pairs:
        return None
    right, possible, said, wanted = [0] * ORDER, [0] * ORDER, 0, 0
    for references, answer in pairs:
        tokens, of_clip = ptb_tokens(answer), [ptb_tokens(text) for text in references]
        lengths = map(len, of_clip)
        said += len(tokens)
        wanted += min(lengths, key=lambda length: (abs(length - len(tokens)), length))
        for n in range(ORDER):
            most = collections.Counter()
            for reference in of_clip:
                most |= _ngrams(reference, n + 1)
            right[n] += (_ngrams(tokens, n + 1) & most).total()
            possible[n] += max(0, len(tokens) - n)
    ratio = (said + _TINY) / (wanted + _SMALL)
    brevity = math.exp(1 - 1 / ratio) if ratio < 1 else 1.0
    precisions = [(r + _TINY) / (p + _SMALL) for r, p in zip(right, possible, strict=True)]
    return [brevity * math.prod(precisions[:n]) ** (1 / n) for n in range(1, ORDER + 1)]


def _ngrams(tokens: list[str], n: int) -> collections.Counter:
    return collections.Counter(tuple(tokens[i : i + n]) for i in range(len(tokens) - n + 1))


def rouge_l(pairs: Sequence[tuple[Sequence[str], str]]) -> float | None:
    """ROUGE-L (Lin, 2004), 0 to 1, the mean over the clips; None where there are none.

    Of several references, precision and recall are the best of any, as in the tools.
    """
    scores = []
    for references, answer in pairs:
        # A text without tokens counts as one empty token there.
        tokens = ptb_tokens(answer) or [""]
        of_clip = [ptb_tokens(text) or [""] for text in references]
        common = [LCSseq.similarity(tokens, reference) for reference in of_clip]
        precision = max(common) / len(tokens)
        recall = max(c / len(reference) for c, reference in zip(common, of_clip, strict=True))
        both = recall + _BETA**2 * precision
        scores.append((1 + _BETA**2) * precision * recall / both if both else 0.0)
    return sum(scores) / len(scores) if scores else None
