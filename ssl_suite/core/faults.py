"""What happens to a record that cannot be used: stop with its message, or count it and go on."""

from __future__ import annotations

from collections import Counter

from ssl_suite.core.errors import SuiteError

SKIP = "data.on_error=skip"
EXAMPLES = 10  # messages kept for the report; the counts are always complete


class BadRecord(SuiteError):
    """A fault of one record or one file.

    Args:
        message: one line: file, record, fault, remedy.
        reason: the kind of fault in a few words, under which it is counted.
    """

    def __init__(self, message: str, reason: str) -> None:
        super().__init__(message)
        self.reason = reason

    def __reduce__(self) -> tuple:
        return type(self), (
            str(self),
            self.reason,
        )  # exceptions cross processes; the default forgets ``reason``

    def advised(self) -> BadRecord:
        """The fault with the key that leaves such records out, once."""
        text = str(self)
        if SKIP in text:
            return self
        return BadRecord(f"{text} To leave bad records out and count them, set {SKIP}.", self.reason)


class FaultCounter:
    """The ``Fault`` callback of ``data.on_error``: ``stop`` raises the first fault, ``skip`` counts them all.

    Attributes:
        counts: how many records were skipped, by reason.
        examples: the first messages.
        paused: True while records that were counted before are read again.
    """

    def __init__(self, on_error: str = "stop") -> None:
        self.on_error = on_error
        self.counts: Counter[str] = Counter()
        self.examples: list[str] = []
        self.paused = False

    def __call__(self, error: SuiteError) -> None:
        """Raise or count ``error``."""
        if self.on_error != "skip":
            raise error.advised() if isinstance(error, BadRecord) else error
        if self.paused:
            return
        self.counts[getattr(error, "reason", "unreadable")] += 1
        if len(self.examples) < EXAMPLES:
            self.examples.append(str(error))
