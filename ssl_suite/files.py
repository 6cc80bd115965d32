"""Small files that others may have damaged."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from ssl_suite.errors import SuiteError


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
