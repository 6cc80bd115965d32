"""The one exception a user is meant to see, and the help it offers."""

from __future__ import annotations

import contextlib
import difflib
import errno
import re
from collections.abc import Iterable, Iterator


class SuiteError(Exception):
    """A fault of the input, printed as one line; the command exits with code 2.

    The text names the file, the record, what is wrong and what to do. Anything that is not a
    ``SuiteError`` is a defect of this package and keeps its traceback.
    """


class Diverged(SuiteError):
    """A training whose loss or gradient is no longer a number: of this learning rate, not of the data alone."""


@contextlib.contextmanager
def one_line_when_memory_is_full() -> Iterator[None]:
    """Raise ``SuiteError`` with what needs less memory instead of what the libraries raise when it is full."""
    try:
        yield
    except Exception as error:
        line = None if isinstance(error, SuiteError) else out_of_memory(error)
        if line is None:
            raise
        raise SuiteError(line) from None


def out_of_memory(error: BaseException) -> str | None:
    """The line for an error that means that memory is full; None for every other.

    It looks at names and texts, so that no library need be imported: torch raises a plain ``RuntimeError`` on a CPU,
    CUDA, pyarrow and numpy kinds of their own.
    """
    kinds, text = {kind.__name__ for kind in type(error).__mro__}, str(error)
    on_gpu = "OutOfMemoryError" in kinds or "CUDA out of memory" in text
    full = kinds & {"MemoryError", "ArrowMemoryError"} or getattr(error, "errno", None) == errno.ENOMEM
    if not on_gpu and not full and not re.search("can't allocate memory|not enough memory", text):
        return None
    asked = re.search(r"allocate ([\d.]+ ?(?:[KMGT]i?B|bytes))", text, re.I)
    size = f" ({asked[1]} more were asked for)" if asked else ""
    return (
        f"{'The memory of the GPU' if on_gpu else 'The memory of this machine'} is full{size}. Less is needed by a "
        "smaller model=, train.tokens_per_batch, train.rows_per_forward or modality.max_length, by "
        "model.checkpointing=true, and for preparing data by data.workers=1."
    )


def nearest(word: str, choices: Iterable[str]) -> str:
    """A sentence to append to an error: the choice closest to ``word``, else all of them.

    Returns the empty string when there is nothing to choose from.
    """
    options = sorted(set(choices))
    close = difflib.get_close_matches(word, options, n=1, cutoff=0.6)
    if close:
        return f" Did you mean '{close[0]}'?"
    return f" Choose one of: {', '.join(options)}." if options else ""
