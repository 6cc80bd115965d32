"""Counts and durations."""

from __future__ import annotations

import pytest

from ssl_suite.core.wording import count, duration


def test_counts_agree_with_their_nouns() -> None:
    assert [count(n, "record") for n in (0, 1, 2, 12_345)] == ["0 records", "1 record", "2 records", "12,345 records"]
    assert [count(n, "try", "tries") for n in (1, 3)] == ["1 try", "3 tries"]


@pytest.mark.parametrize(
    ("seconds", "text"),
    [
        (0.4, "0 s"),
        (45, "45 s"),
        (119.4, "119 s"),
        (120, "2 min"),
        (600, "10 min"),
        (8666, "2 h 24 min"),
        (12_000, "3 h 20 min"),
        (188_000, "2 d 4 h"),
    ],
)
def test_durations(seconds: float, text: str) -> None:
    assert duration(seconds) == text
