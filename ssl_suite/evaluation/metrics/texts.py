"""Metrics of texts: error rates of transcripts, SUPERB's two scores of slots, and SQuAD's two of answers."""

from __future__ import annotations

import re
import string
import unicodedata
from collections import Counter
from collections.abc import Callable
from typing import Any

from ssl_suite.evaluation.metrics.base import Metric, shares


def _errors(characters: bool) -> Callable[[Any, Any], tuple[float, float]]:
    """Substitutions, deletions and insertions, and the reference's length.

    White space of any kind and length is one space (jiwer alone splits at spaces only). Case and punctuation count.
    """

    def statistic(reference: str, hypothesis: str) -> tuple[float, float]:
        import jiwer

        pair = " ".join(reference.split()), " ".join(hypothesis.split())
        found = jiwer.process_characters(*pair) if characters else jiwer.process_words(*pair)
        wrong = found.substitutions + found.deletions
        return wrong + found.insertions, wrong + found.hits

    return statistic


def slots_of(text: str) -> dict[str, list[str]]:
    """The values of each slot of a text in which a slot is one mark, a capital letter or a character for private use,
    and then its value; what stands before the first mark belongs to none."""
    found: dict[str, list[str]] = {}
    mark = ""
    for letter in text:
        if unicodedata.category(letter) in ("Lu", "Co"):
            mark = letter
            found.setdefault(mark, []).append("")
        elif mark:
            found[mark][-1] += letter
    return {mark: [" ".join(value.split()) for value in values] for mark, values in found.items()}


def _slot_types(reference: str, hypothesis: str) -> tuple[float, float]:
    """F1 of an utterance's set of slots; 1 where there are none and none are given (SUPERB)."""
    right, given = set(slots_of(reference)), set(slots_of(hypothesis))
    return (2 * len(right & given) / (len(right) + len(given)) if right or given else 1.0), 1.0


def _slot_values(reference: str, hypothesis: str) -> tuple[float, float]:
    """Character errors of each value of the reference under the nearest value given for its slot, all of its letters
    where there is none, and its length (SUPERB; slots that are not in the reference count in the F1 alone)."""
    right, given = slots_of(reference), slots_of(hypothesis)
    pairs = [(value, given.get(mark, [""])) for mark, values in right.items() for value in values if value]
    errors = _errors(characters=True)
    return sum(min(errors(value, other)[0] for other in others) for value, others in pairs), sum(
        len(value) for value, _ in pairs
    )


def normal(text: str) -> str:
    """An answer as SQuAD's script compares it: lower case, without punctuation and English articles, single spaces."""
    text = "".join(letter for letter in text.lower() if letter not in string.punctuation)
    return " ".join(re.sub(r"\b(a|an|the)\b", " ", text).split())


def letters(text: str) -> list[str]:
    """The letters and digits of an answer, each by itself, as scores of Chinese count them."""
    return [letter for letter in text.lower() if unicodedata.category(letter)[0] in "LN"]


def overlap(given: list[str], accepted: list[str]) -> float:
    """F1 of two bags of words: SQuAD's, 1 where both are empty and 0 where one is."""
    if not given or not accepted:
        return float(given == accepted)
    common = sum((Counter(given) & Counter(accepted)).values())
    return 2 * common / (len(given) + len(accepted))


def _exact(accepted: list[str], given: str) -> tuple[float, float]:
    return float(any(normal(given) == normal(answer) for answer in accepted)), 1.0


def _f1(accepted: list[str], given: str) -> tuple[float, float]:
    return max((overlap(normal(given).split(), normal(answer).split()) for answer in accepted), default=0.0), 1.0


def _f1_letters(accepted: list[str], given: str) -> tuple[float, float]:
    return max((overlap(letters(given), letters(answer)) for answer in accepted), default=0.0), 1.0


METRICS = (
    Metric("wer", False, "texts", shares(_errors(characters=False))),
    Metric("cer", False, "texts", shares(_errors(characters=True))),
    Metric("per", False, "texts", shares(_errors(characters=False))),  # phones, separated by spaces
    Metric("slot_type_f1", True, "texts", shares(_slot_types)),
    Metric("slot_value_cer", False, "texts", shares(_slot_values)),
    Metric("exact_match", True, "answers", shares(_exact)),
    Metric("answer_f1", True, "answers", shares(_f1)),
    Metric("answer_f1_letters", True, "answers", shares(_f1_letters)),
)
