"""The words of the command line, ``key=value``: checked against the configuration before hydra sees them.

Hydra's own messages for a wrong key run over several lines and its grammar refuses paths that hold ``=`` or commas.
Here every word is split at its first ``=``, held against the keys that exist, and quoted where its value is plain text.
"""

from __future__ import annotations

import difflib
import itertools
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from ssl_suite.core.errors import SuiteError, nearest
from ssl_suite.settings import schema as settings

PATTERN = re.compile(r"(?P<sign>\+\+|\+|~)?(?P<key>[A-Za-z_][\w./-]*)(?:=(?P<value>.*))?", re.DOTALL)
Groups = Mapping[str, Mapping[str, Path]]


@dataclass(frozen=True)
class Word:
    """``sign key = value``: ``+`` adds a key, ``++`` adds or sets, ``~`` removes."""

    sign: str
    key: str
    value: str | None

    def __str__(self) -> str:
        return f"{self.sign}{self.key}" + ("" if self.value is None else f"={self.value}")


def parse(text: str, groups: Groups) -> Word:
    """Split one word.

    Raises:
        SuiteError: it is not ``key=value``; when it is the name of an option, the line says of which group.
    """
    match = PATTERN.fullmatch(text)
    if match and (match["value"] is not None or match["sign"] == "~"):
        return Word(match["sign"] or "", match["key"], match["value"])
    homes = [group for group, options in groups.items() if text in options]
    hint = f" Did you mean '{homes[0]}={text}'?" if homes else " Write settings as in train.steps=100."
    raise SuiteError(f"'{text}' is not of the form key=value.{hint}")


def find_groups(folders: Iterable[Path]) -> dict[str, dict[str, Path]]:
    """Group to option to file, over all folders; a file in an earlier folder hides one in a later."""
    groups: dict[str, dict[str, Path]] = {}
    for folder in folders:
        for file in sorted(folder.rglob("*.yaml")):
            group = file.parent.relative_to(folder).as_posix()
            if group != ".":
                groups.setdefault(group, {}).setdefault(file.stem, file)
    return groups


def check_option(word: Word, groups: Groups) -> None:
    """Raises ``SuiteError`` when a word picks an option that its group does not have."""
    options = groups[word.key]
    if word.sign != "~" and word.value not in options:
        raise SuiteError(f"{word.key}={word.value} does not exist.{nearest(str(word.value), options)}")


def check_key(word: Word, known: set[str], groups: Groups) -> None:
    """Raises ``SuiteError`` for a key that the configuration does not have, with the nearest that it has.

    Args:
        known: every dotted key, sections included, of the configuration with the groups' options as chosen.
    """
    if word.key in known or word.sign.startswith("+"):
        return  # an added key is checked with its section
    section, _, leaf = word.key.rpartition(".")
    elsewhere = [name for name, file in groups.get(section, {}).items() if leaf in _keys(file)]
    if elsewhere:
        raise SuiteError(f"{word.key} is not a key of {section} as chosen, but of {section}={elsewhere[0]}.")
    raise SuiteError(f"{word.key} is not a key of the configuration.{_nearest_key(word.key, known)}")


def _nearest_key(key: str, known: set[str]) -> str:
    """As ``errors.nearest``, for a dotted key: by its last part within its section, or in all of them without one."""
    section, _, leaf = key.rpartition(".")
    siblings = {name for name in known if name.rpartition(".")[0] == section}
    if section and not siblings:
        return nearest(key, {name for name in known if "." in name} or known)
    # Sorted so that of two keys with one last part the outermost wins: `seed`, not `x.seed`.
    candidates = sorted(siblings if section else known, key=lambda name: -name.count("."))
    pool = {name.rpartition(".")[2]: name for name in candidates}
    close = difflib.get_close_matches(leaf, pool, n=1, cutoff=0.6)
    return f" Did you mean '{pool[close[0]]}'?" if close else nearest(leaf, {n.rpartition(".")[2] for n in siblings})


def _keys(file: Path) -> set[str]:
    content = yaml.safe_load(file.read_text(encoding="utf-8"))
    return set(content) - {"defaults"} if isinstance(content, dict) else set()


def flatten(tree: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    """Dotted key to value, for the leaves of nested dicts. An empty dict is a leaf."""
    flat: dict[str, Any] = {}
    for key, value in tree.items():
        if isinstance(value, Mapping) and value:
            flat.update(flatten(value, f"{prefix}{key}."))
        else:
            flat[f"{prefix}{key}"] = value
    return flat


def with_sections(flat: Iterable[str]) -> set[str]:
    """The dotted keys and every section on the way to them."""
    return {".".join(key.split(".")[:depth]) for key in flat for depth in range(1, key.count(".") + 2)}


def _is_plain_text(word: Word) -> bool:
    if not word.value or word.value == "null" or word.value[0] in "'\"[{":
        return False
    return word.key in settings.text_keys()


def for_hydra(word: Word) -> str:
    """The word as hydra's grammar takes it.

    Raises:
        SuiteError: a value that the grammar cannot read, or several values outside a sweep.
    """
    if _is_plain_text(word):
        # Inside quotes hydra takes everything but the quote itself, and the backslashes just before one.
        body = re.sub(r"(\\*)('|$)", lambda m: m[1] * 2 + (m[2] and "\\'"), str(word.value))
        return f"{word.sign}{word.key}='{body}'"
    if _parsed(word).is_sweep_override():
        raise SuiteError(f"{word} gives several values: add -m to run each of them, or quote the value.")
    return str(word)


def _parsed(word: Word) -> Any:
    from hydra.core.override_parser.overrides_parser import OverridesParser
    from hydra.errors import HydraException

    try:
        return OverridesParser.create().parse_override(str(word))
    except HydraException as error:
        raise SuiteError(f"The value of {word} cannot be read: put it in quotes, as in {word.key}=\"'…'\".") from error


def expand(words: Iterable[Word]) -> list[list[Word]]:
    """The jobs of a sweep: the product of the words' values; ``a=1,2``, ``a=range(1,4)``, ``a=choice(x,y)`` all work.

    Returns:
        One list of words a job; the last word varies fastest.
    """
    choices = []
    for word in words:
        values: list[str | None]
        if _is_plain_text(word):
            values = [value.strip() for value in str(word.value).split(",")]
        elif word.value is not None and (parsed := _parsed(word)).is_sweep_override():
            values = list(parsed.sweep_string_iterator())
        else:
            values = [word.value]
        choices.append([Word(word.sign, word.key, value) for value in values])
    return [list(job) for job in itertools.product(*choices)]
