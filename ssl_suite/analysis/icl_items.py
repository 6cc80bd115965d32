"""The examples that a causal model is asked: ``tasks/icl/prompts/*.yaml``, listed there or made by a rule."""

from __future__ import annotations

import itertools
from collections import Counter
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from pydantic import Field
from pydantic.dataclasses import dataclass

from ssl_suite.core import resources
from ssl_suite.core.errors import SuiteError, nearest
from ssl_suite.core.files import read_yaml
from ssl_suite.core.schema import STRICT, parse

Pair = tuple[str, str]
MOST = 400  # examples that a rule makes


@dataclass(config=STRICT)
class Prompts:
    """A file of prompts.

    Attributes:
        title: what is asked, in a few words.
        prompt: with {0} (and {1}, …) for what is asked; answer: with {0} for what is right, and the space before it.
        pairs: what is asked to what is right.
        rule: a key of ``RULES``, in the place of pairs; size: its digits or letters.
    """

    title: str
    prompt: str
    answer: str = " {0}"
    pairs: dict[str, str] = Field(default_factory=dict)
    rule: str | None = None
    size: int = 1
    name: str = ""


def files(own: str | None = None) -> dict[str, Path]:
    """By name the files of prompts: the user's (``BENCHMARK/prompts`` of ``tasks.path``) and the suite's."""
    folders = [resources.folder("tasks"), *([Path(own).expanduser()] if own else [])]
    return {path.stem: path for folder in folders for path in sorted(folder.glob("icl/prompts/*.yaml"))}


def load(name: str, own: str | None = None) -> Prompts:
    """One file of prompts.

    Raises:
        SuiteError: there is none of that name, or it is wrong.
    """
    known = files(own)
    if name not in known:
        raise SuiteError(f"task={name}: there are no such prompts.{nearest(name, known)}")
    found = parse(Prompts, read_yaml(known[name], "see tasks/icl/prompts/add1.yaml") | {"name": name}, str(known[name]))
    if bool(found.pairs) == bool(found.rule):
        raise SuiteError(f"{known[name]}: needs either pairs, or a rule ({', '.join(RULES)}).")
    if found.rule and found.rule not in RULES:
        raise SuiteError(f"{known[name]}: rule={found.rule} does not exist.{nearest(found.rule, RULES)}")
    return found


def pairs(task: Prompts, rng: np.random.Generator) -> list[Pair]:
    """All examples, prompt and answer, in an order that ``rng`` draws; no prompt stands there twice."""
    made = RULES[task.rule](task.size, rng) if task.rule else [((asked,), right) for asked, right in task.pairs.items()]
    found = {task.prompt.format(*asked): task.answer.format(right) for asked, right in made}
    listed = list(found.items())
    return [listed[i] for i in rng.permutation(len(listed))]


def majority(asked: Sequence[Pair]) -> float:
    """How many are right if always the commonest answer is given."""
    return Counter(answer for _, answer in asked).most_common(1)[0][1] / len(asked)


def _numbers(digits: int, rng: np.random.Generator, least: int = 0) -> list[tuple[int, int]]:
    low, high = (least if digits == 1 else 10 ** (digits - 1)), 10**digits
    if (high - low) ** 2 <= MOST:
        return list(itertools.product(range(low, high), range(low, high)))
    return [(int(a), int(b)) for a, b in rng.integers(low, high, (MOST, 2))]


def _add(digits: int, rng: np.random.Generator) -> list[tuple[tuple, Any]]:
    return [((a, b), a + b) for a, b in _numbers(digits, rng)]


def _subtract(digits: int, rng: np.random.Generator) -> list[tuple[tuple, Any]]:
    return [((max(a, b), min(a, b)), abs(a - b)) for a, b in _numbers(digits, rng)]


def _multiply(digits: int, rng: np.random.Generator) -> list[tuple[tuple, Any]]:
    return [((a, b), a * b) for a, b in _numbers(digits, rng)]


def _letters(length: int, rng: np.random.Generator) -> list[str]:
    return ["".join(row) for row in rng.choice(list("abcdefghijklmnopqrstuvwxyz"), (MOST, length))]


def _copy(length: int, rng: np.random.Generator) -> list[tuple[tuple, Any]]:
    return [((word,), word) for word in _letters(length, rng)]


def _reverse(length: int, rng: np.random.Generator) -> list[tuple[tuple, Any]]:
    return [((word,), word[::-1]) for word in _letters(length, rng)]


KINDS = {"dogs": "animals", "roses": "flowers", "oaks": "trees", "cars": "machines", "apples": "fruits"}
NAMES = ("Bo", "Kim", "Max", "Lee", "Ann", "Tom", "Sue", "Ray", "Ida", "Gus", "Eve", "Jon")


def _syllogism(_: int, rng: np.random.Generator) -> list[tuple[tuple, Any]]:
    """All A are B, or no A is B; X is an A: is X a B? Half of the answers are yes."""
    found: list[tuple[tuple, Any]] = []
    for (kind, larger), name in itertools.product(KINDS.items(), NAMES):
        found.append(((f"All {kind} are {larger}.", name, kind, larger), "yes"))
        found.append(((f"No {kind} are {larger}.", name, kind, larger), "no"))
    return found


RULES: dict[str, Callable[[int, np.random.Generator], list[tuple[tuple, Any]]]] = {
    "add": _add,
    "subtract": _subtract,
    "multiply": _multiply,
    "copy": _copy,
    "reverse": _reverse,
    "syllogism": _syllogism,
}
