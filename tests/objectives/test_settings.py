"""The ranges of the objectives' settings."""

from __future__ import annotations

from typing import Any

import pytest

from ssl_suite.core import registry
from ssl_suite.core.errors import SuiteError

WRONG: dict[str, dict[str, list[Any]]] = {
    "mlm": {"mask_rate": [0.0, 1.0], "random_share": [-0.1], "span": [0, "blok"], "static": ["yes"]},
    "simclr": {"temperature": [0.0, float("nan")], "projection": [0], "hidden": [0], "dropout": [0.0, 1.0]},
    "mass": {"span": [0.0, 1.1], "mask_share": [1.1], "random_share": [-0.1], "label_smoothing": [1.0, -0.1]},
}
CASES = [(name, key, value) for name, keys in WRONG.items() for key, values in keys.items() for value in values]


@pytest.mark.parametrize(("name", "key", "value"), CASES)
def test_a_value_out_of_range_is_named(name: str, key: str, value: Any) -> None:
    with pytest.raises(SuiteError, match=rf"^objective\.{key}=.* should "):
        registry.check(registry.OBJECTIVES, "objective", {"name": name, key: value})
