"""Small files that others may have damaged."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import yaml

from ssl_suite.core.errors import SuiteError


class YamlLoader(getattr(yaml, "CSafeLoader", yaml.SafeLoader)):  # type: ignore[misc]
    """Plain YAML, in which ``1e-4`` is a number as in YAML 1.2 and in hydra; libyaml reads it where it is there."""


YamlLoader.add_implicit_resolver(
    "tag:yaml.org,2002:float", re.compile(r"[-+]?\d+(\.\d*)?[eE][-+]?\d+$"), list("-+0123456789")
)


def read_yaml(path: Path, where: str | None = None) -> Any:
    """What a YAML file holds.

    Args:
        where: begins messages; default the path.

    Raises:
        SuiteError: no such file, not UTF-8, or not YAML.
    """
    try:
        return yaml.load(path.read_text("utf-8"), YamlLoader)
    except OSError as error:
        raise SuiteError(f"{where or path}: cannot be read ({error.strerror}).") from None
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        raise SuiteError(f"{where or path}: is not YAML ({' '.join(str(error).split())[:120]}).") from None


def read_json(path: Path, remedy: str) -> dict[str, Any]:
    """The object in a JSON file.

    Args:
        remedy: what to do about a file that cannot be read; ends the message.

    Raises:
        SuiteError: no such file, not UTF-8, not JSON, or another value than an object.
    """
    try:
        found = json.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise SuiteError(f"{path} cannot be read ({error.strerror}); {remedy}.") from None
    except (ValueError, RecursionError) as error:
        raise SuiteError(f"{path} is not JSON ({' '.join(str(error).split())[:120]}); {remedy}.") from None
    if not isinstance(found, dict):
        raise SuiteError(f"{path} holds a {type(found).__name__} in the place of a JSON object; {remedy}.")
    return found


def read_metrics(path: Path) -> tuple[list[dict[str, Any]], list[int]]:
    """The lines of a ``metrics.jsonl``: objects of numbers with a whole ``step``.

    Returns:
        The lines that are such, and the numbers (from 1) of those that are not; half a last line, which a kill leaves,
        is none of them.

    Raises:
        SuiteError: no such file.
    """
    try:
        lines = path.read_bytes().decode("utf-8", "replace").splitlines()
    except OSError as error:
        raise SuiteError(f"{path} cannot be read ({error.strerror}): name a run folder that has trained.") from None
    found, damaged = [], []
    for number, line in enumerate(lines, 1):
        try:
            entry = json.loads(line)
            good = type(entry["step"]) is int and all(isinstance(x, int | float | None) for x in entry.values())
        except (ValueError, TypeError, KeyError, AttributeError, RecursionError):
            good = False
        if good:
            found.append(entry)
        elif number < len(lines):
            damaged.append(number)
    return found, damaged
