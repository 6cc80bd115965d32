"""The registries: every path leads to a class, every class to its configuration, and values are held against types."""

from __future__ import annotations

import dataclasses
from typing import Annotated, Any, Literal

import pytest
from pydantic import Field

from ssl_suite.core import registry, resources
from ssl_suite.core.errors import SuiteError, nearest
from ssl_suite.core.schema import Count, Share, help_text, settings_of
from ssl_suite.settings import config

TABLES = {"modality": registry.MODALITIES, "objective": registry.OBJECTIVES}
ENTRIES = [(group, name, path) for group, table in TABLES.items() for name, path in table.items()]


@pytest.mark.parametrize(("group", "name", "path"), ENTRIES)
def test_file_holds_the_settings_of_the_class_and_their_defaults(group: str, name: str, path: str) -> None:
    section = config.read(resources.folder("conf") / group / f"{name}.yaml")
    recipes = section.pop("recipes", {})
    cls, settings = registry.check(TABLES[group], group, section)
    assert section.pop("name") == name
    stated = {field.name: field.default for field in dataclasses.fields(settings_of(cls))}
    assert section == settings == stated
    assert set(recipes) <= set(registry.MODALITIES)
    for recipe in recipes.values():
        registry.check(TABLES[group], group, {"name": name, **recipe})


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
        ({"name": "dna", "max_lenght": 3}, r"'modality\.max_lenght' .* Did you mean 'max_length'\?"),
        ({"name": "dna", "max_length": "long"}, r"modality\.max_length=long should be a valid integer"),
    ],
)
def test_build_names_the_fault(section: dict[str, Any], expected: str) -> None:
    with pytest.raises(SuiteError, match=expected):
        registry.build(registry.MODALITIES, "modality", section)


class Planted:
    """A class that states its settings as keywords of its constructor."""

    def __init__(
        self,
        modality: Any,
        rate: Annotated[Share, Field(description="A share.")] = 0.5,
        span: Annotated[Count | Literal["all"], Field(description="How many.")] = 1,
        widths: list[float] | None = None,
        compile: Literal["auto"] | bool = "auto",
    ) -> None:
        self.given = (modality, rate, span, widths, compile)


@pytest.mark.parametrize(
    ("settings", "fault"),
    [
        ({}, ""),
        ({"rate": 1, "span": "all", "widths": [1, 2.5], "compile": False}, ""),
        ({"widths": None, "compile": "auto"}, ""),
        ({"rate": "1"}, "objective.rate=1 should be a valid number."),
        ({"rate": True}, "objective.rate=True should be a valid number."),
        ({"rate": 1.5}, "objective.rate=1.5 should be less than or equal to 1."),
        ({"span": 1.0}, "objective.span=1.0 should be a valid integer or be 'all'."),
        ({"span": 0}, "objective.span=0 should be greater than or equal to 1 or be 'all'."),
        ({"widths": [1, "2"]}, "objective.widths.1=2 should be a valid number."),
        ({"compile": "maybe"}, "objective.compile=maybe should be 'auto' or be a valid boolean."),
        ({"modality": 1}, "'objective.modality' is not a known key. Choose one of: compile, rate, span, widths."),
        ({"rte": 1}, "'objective.rte' is not a known key. Did you mean 'rate'?"),
    ],
)
def test_keywords_of_a_constructor_are_checked(settings: dict[str, Any], fault: str) -> None:
    section = {"name": "planted", **settings}
    if not fault:
        built = registry.build(PLANTED, "objective", section, modality="given")
        expected = {"rate": 0.5, "span": 1, "widths": None, "compile": "auto"} | settings
        assert built.given == ("given", *expected.values())
        return
    with pytest.raises(SuiteError) as caught:
        registry.build(PLANTED, "objective", section, modality="given")
    assert str(caught.value) == fault


PLANTED = {"planted": f"{__name__}:Planted"}


def test_help_comes_from_fields_and_keywords() -> None:
    assert help_text(Planted) == {"rate": "A share.", "span": "How many.", "widths": "", "compile": ""}
    assert help_text(registry.load(registry.MODALITIES, "modality", "dna"))["k"] == "Bases of a k-mer."


def test_nearest() -> None:
    assert nearest("objectve", ["objective", "model"]) == " Did you mean 'objective'?"
    assert nearest("xyz", ["b", "a"]) == " Choose one of: a, b."
    assert nearest("xyz", []) == ""
