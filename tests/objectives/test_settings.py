"""The ranges of the objectives' settings."""

from __future__ import annotations

from typing import Any

import pytest

from ssl_suite.core import registry
from ssl_suite.core.errors import SuiteError

WRONG: dict[str, dict[str, list[Any]]] = {
    "mlm": {"mask_rate": [0.0, 1.0], "random_share": [-0.1], "span": [0, "blok"], "static": ["yes"]},
    "simclr": {"temperature": [0.0, float("nan")], "projection": [0], "hidden": [0], "dropout": [0.0, 1.0]},
    "byol": {"tau": [1.5], "half_life": [0.0, 1.1], "projection": [0]},
    "data2vec": {
        "mask_rate": [1.0],
        "span": [0],
        "beta": [-1.0],
        "tau_end": [-0.1],
        "half_life": [0],
        "tau_steps": [2],
    },
    "apc": {"shift": [0]},
    "cpc": {"steps": [0], "negatives": [0], "code_width": [0]},
    "cbow": {"window": [0], "rate": [0.0, 1.5]},
    "electra": {
        "generator_width": [0.0, 1.5],
        "generator_layers": [0],
        "discriminator_weight": [0],
        "mask_rate": [1.0],
    },
    "frames": {
        "time_rate": [0.0],
        "time_width": [0],
        "frequency_width": [1.0],
        "noise_rate": [1.5],
        "mask_ratio": [0.0, 1.0],
        "decoder_layers": [0],
        "decoder_width": [48],
    },
    "mass": {"span": [0.0, 1.1], "mask_share": [1.1], "random_share": [-0.1], "label_smoothing": [1.0, -0.1]},
    "bart": {"infill": [1.1], "rotate": [-0.1], "mean_length": [0.0], "piece": [-1], "decoder_layers": [0]},
    "t5": {"noise": [0.0, 1.0], "mean_length": [0.5]},
    "span": {"span": [0, "blocks"]},
    "nsp": {"span": ["blocks"]},
}
CASES = [(name, key, value) for name, keys in WRONG.items() for key, values in keys.items() for value in values]


@pytest.mark.parametrize(("name", "key", "value"), CASES)
def test_a_value_out_of_range_is_named(name: str, key: str, value: Any) -> None:
    with pytest.raises(SuiteError, match=rf"^objective\.{key}=.* should "):
        registry.check(registry.OBJECTIVES, "objective", {"name": name, key: value})
