"""The registry of heads: what a task may name as its ``head``.

A head is one file: a class derived from ``heads.base.Head``, and one line here, with what its predictions are. That
decides which metrics fit (``metrics.Metric.takes``), and is known without importing torch.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, NamedTuple

from ssl_suite.core.errors import SuiteError, nearest

if TYPE_CHECKING:
    from ssl_suite.evaluation.heads.base import Head


class Entry(NamedTuple):
    """A head's predictions (a key of ``predictions.KINDS``) and the dotted path of its class."""

    kind: str
    path: str


HEADS: dict[str, Entry] = {
    "classification": Entry("classes", "ssl_suite.evaluation.heads.classification:Classification"),
    "regression": Entry("values", "ssl_suite.evaluation.heads.regression:Regression"),
    "multi_slot": Entry("slots", "ssl_suite.evaluation.heads.multi_slot:MultiSlot"),
    "tagging": Entry("tags", "ssl_suite.evaluation.heads.tagging:Tagging"),
    "span": Entry("answers", "ssl_suite.evaluation.heads.span:Span"),
    "ctc": Entry("texts", "ssl_suite.evaluation.heads.ctc:Ctc"),
    "frame_multilabel": Entry("activity", "ssl_suite.evaluation.heads.frame_multilabel:FrameMultilabel"),
    "verification": Entry("scores", "ssl_suite.evaluation.heads.verification:Verification"),
    "retrieval": Entry("rankings", "ssl_suite.evaluation.heads.retrieval:Retrieval"),
    "choice": Entry("rankings", "ssl_suite.evaluation.heads.choice:Choice"),
}


def head_class(name: str) -> type[Head]:
    """The class of a task's ``head``.

    Raises:
        SuiteError: an unknown name; the nearest is offered.
    """
    if name not in HEADS:
        raise SuiteError(f"head={name} does not exist.{nearest(name, HEADS)}")
    module, _, attribute = HEADS[name].path.partition(":")
    return getattr(importlib.import_module(module), attribute)
