"""The entry of a metric in a row: made here when a row is written, and again by ``board verify``."""

from __future__ import annotations

from typing import Any

import numpy as np

from ssl_suite.evaluation import metrics, significance
from ssl_suite.evaluation.predictions import Predictions


def score(metric_name: str, predictions: Predictions) -> dict[str, Any]:
    """The mean over seeds, its interval, each seed's value, and their deviation (n - 1). Raises SuiteError: no such
    metric, or one without a value on these predictions."""
    metric = metrics.find(metric_name).of(predictions.clusters_I)
    labels_I, predictions_SI = predictions.labels_I, predictions.stacked()
    per_seed = [float(value) for value in metric.per_seed(labels_I, predictions_SI)]
    low, high = significance.interval(metric_name, labels_I, predictions_SI, predictions.clusters_I)
    return {
        "name": metric_name,
        "value": float(np.mean(per_seed)),
        "higher_is_better": metric.higher_is_better,
        "ci95": [float(low), float(high)],
        "per_seed": per_seed,
        "sd": float(np.std(per_seed, ddof=1)) if len(per_seed) > 1 else None,
    }
