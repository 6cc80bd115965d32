"""The one exception a user is meant to see, and the help it offers."""

from __future__ import annotations

import difflib
from collections.abc import Iterable


class SuiteError(Exception):
    """A fault of the input, printed as one line; the command exits with code 2.

    The text names the file, the record, what is wrong and what to do. Anything that is not a
    ``SuiteError`` is a defect of this package and keeps its traceback.
    """


class Diverged(SuiteError):
    """A training whose loss or gradient is no longer a number: of this learning rate, not of the data alone."""


def nearest(word: str, choices: Iterable[str]) -> str:
    """A sentence to append to an error: the choice closest to ``word``, else all of them.

    Returns the empty string when there is nothing to choose from.
    """
    options = sorted(set(choices))
    close = difflib.get_close_matches(word, options, n=1, cutoff=0.6)
    if close:
        return f" Did you mean '{close[0]}'?"
    return f" Choose one of: {', '.join(options)}." if options else ""
