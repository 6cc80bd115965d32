"""Fine-tuning's training step beside the pre-training step of the same shape: is anything lost on the way?

    python benchmarks/finetune.py                       # DNA windows of 512, model=mini
    python benchmarks/finetune.py modality=protein model=tiny

Masked language modelling and a classification head take turns on the same encoder shape and the same batches, a step
each a round; medians over the rounds. A head reads one vector a sequence where masked prediction reads 15 % of the
positions, so it should be a little faster. The last line is one JSON object: tokens/s of both, and their ratio.
"""

from __future__ import annotations

import json
import statistics
import sys
from typing import Any

import numpy as np
from objectives import ROUNDS, USUAL, WARM, Contestant

from ssl_suite.evaluation.heads import Classification
from ssl_suite.training.distributed import processes
from ssl_suite.training.learner import Learner
from ssl_suite.training.optimiser import adamw

DEFAULT = ["modality=dna", "model=mini", "modality.max_length=512"]


class Tuned(Contestant):
    """A classification head in the place of the objective."""

    def __init__(self, words: list[str], group: Any) -> None:
        super().__init__("mlm", words, group)
        self.name = "finetune"
        encoder, count = self.learner.encoder, int(1e6)  # labels of as many windows as the store may have
        head = Classification(encoder, np.arange(count) % 2, np.arange(count), 2)
        self.learner = Learner(encoder, head)
        self.optimiser = adamw(self.learner, self.cfg["train"])
        self.parameters = [p for p in self.learner.parameters() if p.requires_grad]


def main(words: list[str]) -> None:
    words = [*DEFAULT, *words]
    with processes({"threads": None, "precision": "fp32"}) as group:
        both = [Contestant("mlm", words, group), Tuned(words, group)]
        for _ in range(ROUNDS + WARM):
            for one in both:
                one.step()
    rates = {one.name: one.tokens / statistics.median(one.seconds[WARM:]) for one in both}
    print(f"{' '.join([*USUAL, *words])}")
    print(json.dumps({**{k: round(v) for k, v in rates.items()}, "ratio": round(rates["finetune"] / rates["mlm"], 3)}))


if __name__ == "__main__":
    main(sys.argv[1:])
