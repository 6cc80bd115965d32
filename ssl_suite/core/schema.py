"""The one checker of everything that people write or files hold: pydantic models, whose faults become one line.

A setting is stated once: a field of a checked dataclass (``@dataclass(config=STRICT)``; the docstring under it is its
help text), or a keyword of a constructor, ``key: Annotated[type, Field(gt=0, description="…")] = default``.
"""

from __future__ import annotations

import dataclasses
import inspect
import re
import types
from collections.abc import Iterable, Mapping
from functools import cache
from typing import Annotated, Any, TypeVar, Union, get_args, get_origin, get_type_hints

from pydantic import ConfigDict, Field, TypeAdapter, ValidationError
from pydantic.dataclasses import dataclass

from ssl_suite.core.errors import SuiteError, nearest

STRICT = ConfigDict(strict=True, extra="forbid", arbitrary_types_allowed=True, use_attribute_docstrings=True)
"""Of every checked dataclass: no text becomes a number, no unknown key passes."""

Count = Annotated[int, Field(ge=1)]
Share = Annotated[float, Field(ge=0, le=1)]
Positive = Annotated[float, Field(gt=0, allow_inf_nan=False)]
Text = Annotated[str, Field(min_length=1)]

GIVEN = ("modality", "spec", "encoder")
"""Keywords of constructors that the suite supplies; every other one is a setting."""

T = TypeVar("T")
UNKNOWN, MISSING = ("unexpected_keyword_argument", "extra_forbidden"), ("missing", "missing_argument")
SHOWN = 60  # letters of a wrong value


@cache
def _adapter(kind: Any) -> TypeAdapter:
    return TypeAdapter(kind)


def parse(kind: type[T], content: Any, where: str, prefix: str = "") -> T:
    """An object of ``kind`` from plain values.

    Args:
        kind: a pydantic dataclass or model, or any type that pydantic checks.
        content: what was read, as YAML and JSON have it.
        where: the file or section, which begins the message; empty where ``prefix`` says enough.
        prefix: before the keys of the message, such as ``train.``.

    Raises:
        SuiteError: the first fault in one line: an unknown key with the nearest known one, what is missing, or what a
            value should be.
    """
    start = f"{where}: " if where else ""
    if not isinstance(content, Mapping) and hasattr(kind, "__dataclass_fields__"):
        raise SuiteError(f"{start or prefix + ' '}should hold keys and values: {', '.join(keys(kind))}.")
    try:
        if hasattr(kind, "__dataclass_fields__"):  # in strict mode an adapter takes instances alone, no dict
            return kind(**{str(key): value for key, value in content.items()})
        found: T = _adapter(kind).validate_python(content)  # type: ignore[arg-type]
        return found
    except ValidationError as error:
        raise SuiteError(f"{start}{_fault(kind, error, prefix)}") from None


def _fault(kind: Any, error: ValidationError, prefix: str) -> str:
    faults = error.errors(include_url=False)
    for fault in faults:
        if fault["type"] in UNKNOWN:
            *above, key = map(str, fault["loc"])
            hint = nearest(key, keys(_at(kind, above)))
            return f"'{prefix}{'.'.join([*above, key])}' is not a known key.{hint}"
    missing = [prefix + ".".join(map(str, fault["loc"])) for fault in faults if fault["type"] in MISSING]
    if missing:
        return f"{', '.join(missing)} missing."
    # Of the alternatives of a union every one is listed; a key has one line.
    first = [fault for fault in faults if _key(fault["loc"]) == _key(faults[0]["loc"])]
    expected = " or ".join(dict.fromkeys(_expected(fault) for fault in first))
    value = str(faults[0]["input"])
    return f"{prefix}{_key(faults[0]['loc'])}={value[:SHOWN]}{'…' * (len(value) > SHOWN)} should {expected}."


def _key(place: Iterable[Any]) -> str:
    """The dotted key of a place, without the names that pydantic gives to the alternatives of a union."""
    words = [str(part) for part in place]
    kept = [word for i, word in enumerate(words) if i == 0 or not ("[" in word or word in TYPES)]
    return ".".join(kept)


TYPES = frozenset({"str", "int", "float", "bool", "none", "dict", "list", "tuple", "literal", "constrained-int"})


def _expected(fault: Mapping[str, Any]) -> str:
    """What comes behind "should": "be a valid integer", "have at most 2 items"."""
    text = re.sub(r" after validation, not \d+$", "", str(fault["msg"]).removeprefix("Value error, "))
    _, found, tail = text.partition("should ")
    return tail.replace("be None", "be null") if found else f"be right: {text}"


def keys(kind: Any) -> list[str]:
    """The keys that a checked class or model takes."""
    items = getattr(kind, "__dataclass_fields__", None)
    return list(getattr(kind, "model_fields", ())) if items is None else [k for k, item in items.items() if item.init]


def _at(kind: Any, above: Iterable[str]) -> Any:
    """The class that stands at the keys ``above`` of another; below a list or a dict the place of one of its items."""
    for key in above:
        fields = getattr(kind, "__pydantic_fields__", {})
        kind = fields[key].annotation if key in fields else (None, *get_args(kind))[-1]
        while get_origin(kind) in (types.UnionType, Union, Annotated):
            kind = next(choice for choice in get_args(kind) if choice is not type(None))
    return kind


@cache
def settings_of(cls: type) -> Any:
    """The settings of a class as a checked dataclass: its own fields, or a constructor's keywords but ``GIVEN``.

    Making it makes nothing else: no tokeniser is opened, no module is built.
    """
    hints = get_type_hints(cls if dataclasses.is_dataclass(cls) else cls.__init__, include_extras=True)  # type: ignore[misc]
    items: list[Any] = []
    for name, parameter in inspect.signature(cls).parameters.items():
        if name not in GIVEN:
            default = dataclasses.MISSING if parameter.default is parameter.empty else parameter.default
            items.append((name, hints.get(name, Any), dataclasses.field(default=default)))
    return dataclass(config=STRICT)(dataclasses.make_dataclass(cls.__name__, items, kw_only=True))


def help_text(cls: type) -> dict[str, str]:
    """By key what it means: the docstring under a field, or the description of a constructor's keyword."""
    kind: Any = cls if hasattr(cls, "__pydantic_fields__") else settings_of(cls)
    texts = dict.fromkeys(kind.__pydantic_fields__, "")
    for base in reversed(kind.__mro__):  # a field that is inherited has its text in the base alone
        fields = vars(base).get("__pydantic_fields__", {})
        texts |= {name: field.description for name, field in fields.items() if field.description}
    return texts
