"""The registries: every path leads to a class, every class to its configuration, and values are held against types."""

from __future__ import annotations

import importlib
import inspect
from typing import Any, Literal

import pytest

from ssl_suite.core import registry, resources
from ssl_suite.core.errors import SuiteError, nearest
from ssl_suite.settings import config

ENTRIES = [
    (group, name, path)
    for group, table in (("modality", registry.MODALITIES), ("objective", registry.OBJECTIVES))
    for name, path in table.items()
]


def find(path: str) -> type:
    module, _, attribute = path.partition(":")
    return getattr(importlib.import_module(module), attribute)


@pytest.mark.parametrize(("group", "name", "path"), ENTRIES)
def test_every_entry_has_a_class_and_a_file_whose_keys_are_its_arguments(group: str, name: str, path: str) -> None:
    section = config.read(resources.folder("conf") / group / f"{name}.yaml")
    assert section.pop("name") == name
    arguments, recipes = inspect.signature(find(path)).parameters, section.pop("recipes", {})
    assert set(recipes) <= set(registry.MODALITIES)
    for recipe in recipes.values():
        registry.check_arguments(find(path), recipe, group)
    assert set(section) == set(arguments) - set(config.GIVEN[group])
    registry.check_arguments(find(path), section, group, skip=dict.fromkeys(config.GIVEN[group]))


@pytest.mark.parametrize(("group", "name", "path"), ENTRIES)
def test_file_holds_the_defaults_of_the_class(group: str, name: str, path: str) -> None:
    section = config.read(resources.folder("conf") / group / f"{name}.yaml")
    for key, parameter in inspect.signature(find(path)).parameters.items():
        if parameter.default is not inspect.Parameter.empty:
            assert section[key] == parameter.default, key


@pytest.mark.parametrize("group", ["modality", "objective"])
def test_every_file_has_an_entry(group: str) -> None:
    files = {file.stem for file in (resources.folder("conf") / group).glob("*.yaml")}
    assert files == {name for where, name, _ in ENTRIES if where == group}


def test_build() -> None:
    built = registry.build(registry.MODALITIES, "modality", {"name": "dna", "max_length": 64})
    assert (built.name, built.max_length) == ("dna", 64)


@pytest.mark.parametrize(
    ("section", "expected"),
    [
        ({"name": "dnaa"}, r"modality=dnaa does not exist\. Did you mean 'dna'\?"),
        ({"name": "dna", "max_lenght": 3}, r"modality\.max_lenght .* Did you mean 'max_length'\?"),
        ({"name": "dna", "max_length": "long"}, r"modality\.max_length=long should be a whole number"),
    ],
)
def test_build_names_the_fault(section: dict[str, Any], expected: str) -> None:
    with pytest.raises(SuiteError, match=expected):
        registry.build(registry.MODALITIES, "modality", section)


@pytest.mark.parametrize(
    ("value", "hint", "expected"),
    [
        (1, int, True),
        (True, int, False),
        (1.0, int, False),
        (1, float, True),
        (True, float, False),
        ("1", float, False),
        (None, int | None, True),
        ("a", Literal["a", "b"], True),
        ("c", Literal["a", "b"], False),
        ([1, 2], list[float], True),
        ([1, "2"], list[float], False),
        ("auto", Literal["auto"] | bool, True),
        (False, Literal["auto"] | bool, True),
        ({"a": 1}, dict, True),
        ("x", Any, True),
    ],
)
def test_fits(value: Any, hint: Any, expected: bool) -> None:
    assert registry.fits(value, hint) is expected


def test_describe() -> None:
    assert registry.describe(int | None) == "a whole number or null"
    assert registry.describe(list[float]) == "a list of a number"
    assert registry.describe(Literal["ddp", "fsdp"]) == "one of ddp, fsdp"


def test_nearest() -> None:
    assert nearest("objectve", ["objective", "model"]) == " Did you mean 'objective'?"
    assert nearest("xyz", ["b", "a"]) == " Choose one of: a, b."
    assert nearest("xyz", []) == ""
