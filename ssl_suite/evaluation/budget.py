"""What a trial may spend: ``conf/budget/NAME.yaml`` or a file of one's own, with overrides ``budget.KEY=VALUE``."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any, Literal

import yaml
from pydantic import Field
from pydantic.dataclasses import dataclass

from ssl_suite.core.files import YamlLoader, read_yaml
from ssl_suite.core.schema import STRICT, parse
from ssl_suite.settings import config

Share = Annotated[float, Field(ge=0, le=1)]
Count = Annotated[int, Field(ge=1)]


@dataclass(frozen=True, config=STRICT)
class Budget:
    """The settings of all trials of a measurement; every encoder gets the same."""

    name: str
    """Its name in rows and on pages."""
    limits: dict[str, Count | None]
    """Items of each split that are used; null is all."""
    length: Count | None
    """Most tokens of a sequence, its [CLS] and [SEP] included; null is as the task has it."""
    chunks: Count | None
    """Most pieces of an item that is cut into pieces, evenly over it; null is all."""
    epochs: Annotated[float, Field(gt=0)]
    """Passes over the training items …"""
    tokens: Count | None
    """… but at most this many positions of a trial."""
    batch: Count
    """Items of an optimiser step."""
    lr: Annotated[list[Annotated[float, Field(gt=0)]], Field(min_length=1)]
    """Peak rates to choose from on dev; every encoder gets as many trials."""
    seeds: Annotated[list[Annotated[int, Field(ge=0)]], Field(min_length=1)]
    """Of weights, order and mapping; the rate is chosen with the first, see ``rate_seeds``."""
    evaluations: Count
    """On dev during a trial."""
    schedule: Literal["linear", "cosine", "constant", "wsd"]
    """Of the learning rate after the warm-up."""
    warmup: Share
    """Share of the steps."""
    weight_decay: Annotated[float, Field(ge=0)]
    """On matrices and kernels."""
    dropout: Share | None
    """In a transformers encoder; null is its own."""
    pooling: Literal["mean", "cls", "pooler"]
    """A sequence's vector: the mean of its states, that of [CLS], or [CLS] through BERT's pooler."""
    probe_steps: Count
    """Optimiser steps of a probe's head, on features that are computed once."""
    layer_decay: Annotated[float, Field(gt=0, le=1)] = 1.0
    """Each layer's rate is this share of the one above it (ELECTRA, arXiv:2003.10555); 1 gives all the same."""
    head: Literal["random", "linear"] = "random"
    """Where a head starts: at random, or at a linear model of the features (LP-FT, arXiv:2202.10054)."""
    choose: Literal["best", "last"] = "best"
    """Which step of a trial is tested: the best on dev, or the last."""
    freeze: Literal["nothing", "embeddings"] = "nothing"
    """What of an encoder is not tuned: ``embeddings`` keeps its tables of words and positions, which in an encoder of
    many languages are most of the weights. Random ones too."""
    pretrain_steps: Count = 1500
    """Steps of the encoders that ``pretrain=true`` makes."""
    rate_seeds: Count = 1
    """Of the seeds, how many choose the rate: by their mean on dev."""
    tasks: dict[str, dict[str, Any]] = Field(default_factory=dict)
    """By task, its base without the split, the keys that differ for it."""
    arms: dict[str, dict[str, Any]] = Field(default_factory=dict)
    """By arm the keys that differ for it, such as a rate that a plan has frozen; they come after those of the task."""
    overrides: dict[str, Any] = Field(default_factory=dict)
    """What ``budget.KEY=VALUE`` changed; set by the suite."""

    def facts(self) -> dict[str, Any]:
        """What determines the numbers of a cell: all but the name and how it came about."""
        told = {"name", "overrides", "tasks", "arms", "pretrain_steps"}
        told |= {"freeze"} if self.freeze == "nothing" else set()  # it came later than rows of today
        return {key: value for key, value in dataclasses.asdict(self).items() if key not in told}

    def of_cell(self, task: str, arm: str) -> Budget:
        """What one arm may spend on one task (its base). What the command line changed stays as it says."""
        changes = {**self.tasks.get(task, {}), **self.arms.get(arm, {})}
        kept = {key: value for key, value in changes.items() if key not in self.overrides}
        where = f"budget={self.name}: of {task} and {arm}"
        return parse(Budget, {**dataclasses.asdict(self), **kept, "tasks": {}, "arms": {}}, where)


def load(name: str, overrides: Mapping[str, str] | None = None) -> Budget:
    """A budget by its name in ``conf/budget/``, or by the path of a YAML file.

    Args:
        overrides: values as the command line has them, by key; they are recorded.

    Raises SuiteError: no such budget, a key that does not exist (with the nearest), or a value of the wrong kind.
    """
    if name.endswith((".yaml", ".yml")):
        path = Path(name).expanduser()
        content = read_yaml(path, f"budget={name}")
        content = {"name": path.stem, **content} if isinstance(content, dict) else content
    else:
        content = config.option("budget", name)
    changed = {key: yaml.load(value, YamlLoader) for key, value in (overrides or {}).items()}
    whole = {**content, **changed, **({"overrides": changed} if changed else {})}
    return parse(Budget, whole, f"budget={name}", "budget.")
