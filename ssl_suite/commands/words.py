"""The words of the small commands, ``key=value``, with the nearest key named in an error."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from ssl_suite.core.errors import SuiteError, nearest

REQUIRED = object()


@dataclass(frozen=True)
class Key:
    """One setting.

    Attributes:
        default: its value when it is not given; ``REQUIRED`` when it must be.
        kind: ``str``, ``int`` or ``float``.
        choices: the only values allowed, if any.
        least: the smallest number allowed, if any.
        example: shown when the key is missing.
    """

    default: Any = REQUIRED
    kind: type = str
    choices: tuple[str, ...] = ()
    least: float | None = None
    example: str = "VALUE"


def parse_words(words: Sequence[str], keys: Mapping[str, Key]) -> dict[str, Any]:
    """Every key's value, from the words and the defaults. Raises SuiteError: a word that is not ``key=value``, an
    unknown, repeated or missing key, or a value out of place."""
    given: dict[str, Any] = {}
    for word in words:
        name, equals, text = word.partition("=")
        if not equals:
            example = next(iter(keys))
            raise SuiteError(f"'{word}' is not a setting: write key=value, such as {example}={keys[example].example}.")
        if name not in keys:
            raise SuiteError(f"{name}= is not a setting of this command.{nearest(name, keys)}")
        if name in given:
            raise SuiteError(f"{name}= is given twice: keep one.")
        given[name] = _value(name, text, keys[name])
    for name, key in keys.items():
        if name not in given and key.default is REQUIRED:
            raise SuiteError(f"{name}= is missing: add {name}={key.example}.")
    return {name: given.get(name, key.default) for name, key in keys.items()}


def _value(name: str, text: str, key: Key) -> Any:
    if not text:
        raise SuiteError(f"{name}= is empty: write {name}={key.example}, or leave it out.")
    try:
        value = key.kind(text)
    except ValueError:
        wanted = {int: "a whole number", float: "a number"}[key.kind]
        raise SuiteError(f"{name}={text} should be {wanted}.") from None
    if key.choices and value not in key.choices:
        raise SuiteError(f"{name}={text} does not exist.{nearest(text, key.choices)}")
    if key.least is not None and not value >= key.least:
        raise SuiteError(f"{name}={text} should be at least {key.least:g}.")
    return value


def split_free(words: Sequence[str]) -> tuple[list[str], list[str]]:
    """Words that set a key, and free words (sequences). A word with ``=`` counts as a setting, so a typo is found."""
    settings = [word for word in words if "=" in word]
    return settings, [word for word in words if "=" not in word]
