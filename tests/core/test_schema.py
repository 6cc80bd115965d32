"""The one line of an unknown key, however deep it stands, in dataclasses and in models."""

from __future__ import annotations

from typing import Any

import pytest

from ssl_suite.core.errors import SuiteError
from ssl_suite.core.schema import parse
from ssl_suite.evaluation.benchmark import Benchmark

GOOD = {"name": "x", "title": "t", "tasks": ["a"], "arms": {"A": {"encoder": "x", "protocol": "y"}}}


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"tilte": "x"}, "'tilte' is not a known key. Did you mean 'title'?"),
        ({"arms": {"A": {"protcol": "x"}}}, "'arms.A.protcol' is not a known key. Did you mean 'protocol'?"),
        ({"contrasts": [{"mian": True}]}, "'contrasts.0.mian' is not a known key. Did you mean 'main'?"),
        ({"plan": {"pge": "x"}}, "'plan.pge' is not a known key. Did you mean 'page'?"),
    ],
)
def test_the_nearest_key_is_offered_at_any_depth(change: dict[str, Any], message: str) -> None:
    with pytest.raises(SuiteError) as caught:
        parse(Benchmark, GOOD | change, "x.yaml")
    assert str(caught.value) == f"x.yaml: {message}"
