"""key=value words of the small commands."""

from __future__ import annotations

import pytest

from ssl_suite.commands.words import Key, parse_words, split_free
from ssl_suite.core.errors import SuiteError

KEYS = {
    "encoder": Key(example="runs/first"),
    "pooling": Key("mean", choices=("mean", "cls")),
    "top": Key(5, int, least=1),
    "rate": Key(0.5, float),
}


def test_values_and_defaults() -> None:
    assert parse_words(["top=3", "encoder=a=b"], KEYS) == {"encoder": "a=b", "pooling": "mean", "top": 3, "rate": 0.5}


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["encodr=x"], "encodr= is not a setting of this command. Did you mean 'encoder'?"),
        ([], "encoder= is missing: add encoder=runs/first."),
        (["runs/first"], "'runs/first' is not a setting: write key=value, such as encoder=runs/first."),
        (["encoder=a", "encoder=b"], "encoder= is given twice: keep one."),
        (["encoder=a", "top=x"], "top=x should be a whole number."),
        (["encoder=a", "top=0"], "top=0 should be at least 1."),
        (["encoder=a", "rate=nan", "top=-1"], "top=-1 should be at least 1."),
        (["encoder=a", "pooling=men"], "pooling=men does not exist. Did you mean 'mean'?"),
        (["encoder="], "encoder= is empty: write encoder=runs/first, or leave it out."),
    ],
)
def test_faults(words: list[str], message: str) -> None:
    with pytest.raises(SuiteError) as caught:
        parse_words(words, KEYS)
    assert str(caught.value) == message


def test_free_words() -> None:
    assert split_free(["encoder=a", "ACGT[MASK]", "top=2"]) == (["encoder=a", "top=2"], ["ACGT[MASK]"])
