"""Settings of all modalities: out of range they are one line that names the key; defaults and store keys stay."""

from __future__ import annotations

import hashlib
import json
from typing import Any

import pytest

from ssl_suite.core import registry, resources
from ssl_suite.core.errors import SuiteError
from ssl_suite.core.schema import settings_of
from ssl_suite.settings import config

WRONG: dict[str, list[dict[str, Any]]] = {
    "text": [
        {"tokenizer": "char"}, {"vocab_size": 10}, {"max_ambiguous": 2.0}, {"crop": 0.0}, {"drop": 1.0}, {"swap": -0.1},
        {"lower_case": True, "tokenizer": "hf:x"}, {"documents": "page"},
    ],
    "dna": [{"k": 9}, {"stride": 2}, {"vocab_size": 10}, {"max_ambiguous": 2.0}, {"crop": 0.0}, {"mutation": -1.0}],
    "protein": [{"vocab_size": 33}, {"max_ambiguous": 2.0}, {"crop": 0.0}, {"substitution": -1.0}],
    "music": [
        {"resolution": 10}, {"velocities": 128}, {"tempos": 1}, {"transpose_up": -1}, {"transpose_down": 61},
        {"tempo": 2.0}, {"velocity": -0.1}, {"crop": 0.0}, {"vocab_size": 500},
        {"vocab_size": 2000, "tokenizer": "pitch"},
    ],
    "image": [
        {"size": 30}, {"size": 8}, {"size": 2048}, {"patch": 0}, {"max_length": 512}, {"min_side": 0},
        {"max_pixels": 10**9}, {"crop": 0.0}, {"strength": 3.0}, {"blur": 1.5}, {"solarise": -0.1}, {"codes": 1},
        {"units": "mfcc"},
    ],
    "speech": [
        {"crop": 0.0}, {"gain": 61.0}, {"noise_rate": 2.0}, {"snr_low": -40.0}, {"snr_high": 1.0}, {"snr_high": 101.0},
        {"time_masks": 21}, {"time_width": 1.5}, {"frequency_masks": -1}, {"frequency_width": 81}, {"codes": 1},
        {"units": "run:x"}, {"peak": "loud"},
    ],
}  # fmt: skip

# What stores made before are found by: SHA-256 over the JSON of the fingerprint, its first 16 digits.
KEYS: list[tuple[str, dict[str, Any]]] = [
    ("0a319d636d26941a", {"name": "text"}),
    (
        "eb467b4d1def63b3",
        {"name": "text", "tokenizer": "wordpiece", "vocab_size": 500, "lower_case": True, "documents": "line",
         "language": "en"},
    ),
    ("048b0fafb00c24b3", {"name": "dna"}),
    ("e83a7dbe5f644f87", {"name": "dna", "tokenizer": "kmer", "k": 4, "stride": 4}),
    ("01594217b012335f", {"name": "dna", "tokenizer": "bpe"}),
    ("ac4d1b53d7f9b3f6", {"name": "protein"}),
    ("ef8adefba5e8afac", {"name": "protein", "tokenizer": "bpe", "gaps": "keep", "stops": "cut"}),
    ("e59d317f4aa9354a", {"name": "music"}),
    (
        "c114588e0d8a9765",
        {"name": "music", "tokenizer": "tsd", "resolution": 8, "programs": "note", "vocab_size": 2000},
    ),
    ("7f0618c074a8e8ca", {"name": "music", "tokenizer": "pitch"}),
    ("a1f89bee6de32119", {"name": "image"}),
    ("e9005df868c01476", {"name": "image", "size": 64, "patch": 8, "min_side": 4}),
    ("298447ce1bc639fa", {"name": "speech"}),
    ("49150167ed1c612e", {"name": "speech", "peak": "normalise", "max_hours": 8}),
    ("4e6f86d6d0824e2b", {"name": "speech", "max_hours": 0.5}),
]  # fmt: skip


def build(section: dict[str, Any]) -> Any:
    return registry.build(registry.MODALITIES, "modality", section)


@pytest.mark.parametrize(("name", "wrong"), [(name, one) for name, some in WRONG.items() for one in some], ids=str)
def test_settings_out_of_range(name: str, wrong: dict[str, Any]) -> None:
    key, value = next(iter(wrong.items()))
    with pytest.raises(SuiteError, match=rf"^modality\.{key}={value} (should be|is for) ") as caught:
        build({"name": name, **wrong})
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("name", WRONG)
def test_the_configuration_holds_the_defaults(name: str) -> None:
    section = config.read(resources.folder("conf") / "modality" / f"{name}.yaml")
    cls = registry.load(registry.MODALITIES, "modality", name)
    assert {key: value for key, value in section.items() if key != "name"} == vars(settings_of(cls)())


@pytest.mark.parametrize(("digest", "section"), KEYS, ids=str)
def test_what_a_store_is_found_by_stays(digest: str, section: dict[str, Any]) -> None:
    text = json.dumps(build(section).fingerprint(), sort_keys=True)
    assert hashlib.sha256(text.encode()).hexdigest()[:16] == digest
    views = {"crop": 0.75}  # changes views, not the store
    assert build(section | views).fingerprint() == build(section).fingerprint()
