"""Sums of two numbers, written out digit by digit, and those that are kept back in several ways.

``0 7 + 4 5 = 0 5 2``: operands of two digits, the sum of three, spaces between all signs so that each is a token.
"""

from __future__ import annotations

import random
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import pyarrow as pa

BELOW = 100  # operands
SEED = 0
NUMBERS = 5  # that never stand on the left in training
SHARE = 0.1  # of the unordered pairs that are kept back, and of those of which one order is
WIDTH = 2


def written(a: int, b: int, width: int = WIDTH) -> str:
    """The sum as text; its answer has one digit more than the operands."""
    parts = (f"{a:0{width}d}", "+", f"{b:0{width}d}", "=", f"{a + b:0{width + 1}d}")
    return " ".join(" ".join(part) for part in parts)


def parts() -> dict[str, list[tuple[int, int]]]:
    """The sums of each part. Of 0 to 99 each ordered pair is in one of ``train``, ``pair`` (neither order was
    trained), ``order`` (a + b was, b + a was not) and ``number`` (the left number never stood on the left);
    ``longer`` has operands of three digits."""
    draw = random.Random(SEED)
    numbers = set(draw.sample(range(BELOW), NUMBERS))
    found: dict[str, list[tuple[int, int]]] = {"train": [], "pair": [], "order": [], "number": []}
    for a in range(BELOW):
        for b in range(a, BELOW):
            kind = draw.random()
            both = [(a, b), (b, a)] if a != b else [(a, b)]
            for i, pair in enumerate(both):
                if pair[0] in numbers:
                    found["number"].append(pair)
                elif kind < SHARE:
                    found["pair"].append(pair)
                elif kind < 2 * SHARE and i and both[0][0] not in numbers:
                    found["order"].append(pair)
                else:
                    found["train"].append(pair)
    found["longer"] = [(draw.randrange(BELOW, 10 * BELOW), draw.randrange(BELOW, 10 * BELOW)) for _ in range(500)]
    return found


def sums(paths: list[Path]) -> pa.Table:
    """The sums to train on: ``text``, and ``id``. It takes no files."""
    import pyarrow as pa

    pairs = parts()["train"]
    return pa.table({"id": [f"{a}+{b}" for a, b in pairs], "text": [written(a, b) for a, b in pairs]})


def carries(a: int, b: int) -> int:
    """How often a one is carried when the two are added digit by digit."""
    count = carry = 0
    while a or b:
        carry = int(a % 10 + b % 10 + carry > 9)
        count, a, b = count + carry, a // 10, b // 10
    return count
