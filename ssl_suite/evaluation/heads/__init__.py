"""The registry of heads: what a task may name as its ``head``.

A head is one file: a class derived from ``heads.base.Head``, a line in ``HEADS`` and one in ``KINDS``. Another package
adds its own by an entry point ``ssl_suite.heads`` (see ``core.registry``).
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from ssl_suite.core import registry

if TYPE_CHECKING:
    from ssl_suite.evaluation.heads.base import Head

HERE = "ssl_suite.evaluation.heads"
HEADS = registry.Registry(
    "heads",
    {
        "classification": f"{HERE}.classification:Classification",
        "regression": f"{HERE}.regression:Regression",
        "multi_slot": f"{HERE}.multi_slot:MultiSlot",
        "tagging": f"{HERE}.tagging:Tagging",
        "span": f"{HERE}.span:Span",
        "ctc": f"{HERE}.ctc:Ctc",
        "frame_multilabel": f"{HERE}.frame_multilabel:FrameMultilabel",
        "verification": f"{HERE}.verification:Verification",
        "retrieval": f"{HERE}.retrieval:Retrieval",
        "choice": f"{HERE}.choice:Choice",
    },
)
KINDS = {
    "classification": "classes",
    "regression": "values",
    "multi_slot": "slots",
    "tagging": "tags",
    "span": "answers",
    "ctc": "texts",
    "frame_multilabel": "activity",
    "verification": "scores",
    "retrieval": "rankings",
    "choice": "rankings",
}
"""What each predicts, known without importing torch."""


def head_class(name: str) -> type[Head]:
    """The class of a task's ``head``. Raises SuiteError: an unknown name; the nearest is offered."""
    return registry.load(HEADS, "head", name)


def kind_of(name: str) -> str:
    """What a head predicts, a key of ``predictions.KINDS``; it decides which metrics fit (``metrics.Metric.takes``)."""
    return KINDS.get(name) or head_class(name).predicts
