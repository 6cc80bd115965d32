"""What each section of the configuration may hold: names, types, ranges, and what must fit together.

The values are in ``conf/``; these classes have no defaults, so that there is one place to look them up.
"""

from __future__ import annotations

import math
import types
import typing
from collections.abc import Mapping
from dataclasses import MISSING, dataclass, fields
from typing import Any, Literal

from ssl_suite.core import registry
from ssl_suite.core.errors import SuiteError, nearest
from ssl_suite.core.wording import count


def require(good: bool, key: str, value: Any, rule: str) -> None:
    """Raise ``SuiteError`` naming ``key``, its value and the rule it breaks, unless ``good``."""
    if not good:
        raise SuiteError(f"{key}={value} {rule}.")


def _at_least_one(section: str, settings: Any, *names: str) -> None:
    for name in names:
        value = getattr(settings, name)
        require(value is None or value >= 1, f"{section}.{name}", value, "must be at least 1")


@dataclass(frozen=True)
class TrainConfig:
    """``conf/train``; the meaning and unit of each key stand there."""

    steps: int
    minutes: float | None
    tokens_per_batch: int | None
    tokens_per_row: int | None
    rows_per_forward: int | None
    lr: float
    schedule: Literal["cosine", "linear", "constant", "wsd"]
    warmup: float
    final_lr: float
    weight_decay: float
    betas: list[float]
    eps: float
    clip: float | None
    precision: Literal["auto", "fp32", "bf16"]
    compile: Literal["auto"] | bool
    parallel: Literal["ddp", "fsdp"]
    eval_every: int
    eval_tokens: int
    checkpoint_every: int
    keep: int
    log_every: int
    wandb: bool
    threads: int | None
    # What runs have done from before there was a choice: their frozen configurations lack these keys.
    optimiser: Literal["adamw", "sgd", "lars"] = "adamw"
    momentum: float = 0.9
    lr_scaling: Literal["none", "linear", "sqrt"] = "none"
    decay_share: float = 0.1
    layer_decay: float = 1.0

    def __post_init__(self) -> None:
        counts = ("steps", "tokens_per_batch", "tokens_per_row", "rows_per_forward", "threads")
        _at_least_one("train", self, *counts, "eval_every", "eval_tokens", "checkpoint_every", "keep", "log_every")
        for name in ("minutes", "lr", "eps", "clip"):
            value = getattr(self, name)
            require(value is None or 0 < value < math.inf, f"train.{name}", value, "must be a number above 0")
        require(0 <= self.warmup < 1, "train.warmup", self.warmup, "must be a share of the steps: 0 <= warmup < 1")
        require(0 <= self.final_lr <= 1, "train.final_lr", self.final_lr, "must be a share of train.lr, from 0 to 1")
        require(0 <= self.weight_decay < math.inf, "train.weight_decay", self.weight_decay, "must not be negative")
        good = 0 < self.decay_share <= 1
        require(good, "train.decay_share", self.decay_share, "must be a share of the steps: 0 < decay_share <= 1")
        require(0 < self.layer_decay <= 1, "train.layer_decay", self.layer_decay, "must be 0 < layer_decay <= 1")
        good = len(self.betas) == 2 and all(0 <= beta < 1 for beta in self.betas)
        require(good, "train.betas", self.betas, "must be two numbers, each 0 <= beta < 1")
        require(0 <= self.momentum < 1, "train.momentum", self.momentum, "must be 0 <= momentum < 1")
        good = self.optimiser != "lars" or self.weight_decay > 0
        rule = "must be above 0 with train.optimiser=lars, which adapts only what decays (SimCLR: 1e-6, BYOL: 1.5e-6)"
        require(good, "train.weight_decay", self.weight_decay, rule)


@dataclass(frozen=True)
class ModelConfig:
    """``conf/model``, the suite's own transformers."""

    name: str
    layers: int
    width: int
    heads: int
    mlp_width: int
    rope_theta: float | None
    init_std: float | None
    init: str | None
    kind: Literal["transformer"] = "transformer"
    dropout: float = 0.0  # older runs' frozen configurations lack these two
    checkpointing: bool = False
    init_tokens: Literal["source", "new"] = "source"

    def __post_init__(self) -> None:
        _at_least_one("model", self, "layers", "width", "heads", "mlp_width")
        for name in ("rope_theta", "init_std"):
            value = getattr(self, name)
            require(value is None or 0 < value < math.inf, f"model.{name}", value, "must be a number above 0")
        require(0 <= self.dropout < 1, "model.dropout", self.dropout, "must be a share: 0 <= dropout < 1")
        good = self.width % (2 * self.heads) == 0  # rotary positions turn pairs of numbers
        require(good, "model.width", self.width, f"must be a multiple of 2 x model.heads={self.heads}")


@dataclass(frozen=True)
class ConvnetConfig:
    """``conf/model``, torchvision's residual networks (``models/convnet.py``)."""

    name: str
    kind: Literal["convnet"]
    layout: Literal["resnet10", "resnet18", "resnet50"]
    stem: Literal["imagenet", "cifar", "half"]
    channels: int
    init: None

    def __post_init__(self) -> None:
        _at_least_one("model", self, "channels")


@dataclass(frozen=True)
class DataConfig:
    """``conf/data``. ``source`` is there in the entries of the catalogue only."""

    name: str
    path: str | None
    root: str | None
    column: str | None
    id_column: str | None
    on_error: Literal["stop", "skip"]
    valid_fraction: float
    cache: str | None
    workers: int | None
    source: dict | None = None
    max_record_mb: int | None = None
    min_tokens: int = 8  # older runs' frozen configurations lack it

    def __post_init__(self) -> None:
        _at_least_one("data", self, "workers", "max_record_mb", "min_tokens")
        good = 0 < self.valid_fraction < 1
        require(good, "data.valid_fraction", self.valid_fraction, "must lie between 0 and 1 (0.05 holds back 5 %)")


@dataclass(frozen=True)
class LocalConfig:
    """``launch=local``."""

    name: str
    processes: int

    def __post_init__(self) -> None:
        _at_least_one("launch", self, "processes")


@dataclass(frozen=True)
class TorchrunConfig(LocalConfig):
    """``launch=torchrun``. ``nodes`` is a number, or text such as ``1:4``."""

    nodes: int | str
    node_rank: int | None
    rendezvous: str
    rendezvous_id: str
    max_restarts: int

    def __post_init__(self) -> None:
        super().__post_init__()
        low, high = node_range(self.nodes)
        require(1 <= low <= high, "launch.nodes", self.nodes, "must be a number from 1, or a range such as 1:4")
        good = self.node_rank is None or 0 <= self.node_rank < high
        require(good, "launch.node_rank", self.node_rank, f"must be from 0 to {high - 1}, or null")
        good = self.node_rank is None or low == high
        require(good, "launch.node_rank", self.node_rank, "needs a fixed launch.nodes; use null with a range")
        host, _, port = self.rendezvous.rpartition(":")
        good = bool(host) and port.isdigit() and 0 < int(port) < 65536
        require(good, "launch.rendezvous", self.rendezvous, "must be HOST:PORT, such as node0:29400")
        require(self.max_restarts >= 0, "launch.max_restarts", self.max_restarts, "must not be negative")


@dataclass(frozen=True)
class SlurmConfig(LocalConfig):
    """``launch=slurm``."""

    nodes: int
    partition: str | None
    account: str | None
    time: str
    gpus_per_node: int | None
    cpus_per_task: int
    signal_seconds: int
    extra: list[str]
    submit: bool

    def __post_init__(self) -> None:
        super().__post_init__()
        _at_least_one("launch", self, "nodes", "cpus_per_task")
        good = self.gpus_per_node is None or self.gpus_per_node >= 0
        require(good, "launch.gpus_per_node", self.gpus_per_node, "must not be negative")
        good = 1 <= self.signal_seconds <= 65535  # sbatch's own limit
        require(good, "launch.signal_seconds", self.signal_seconds, "must be from 1 to 65535")
        for line in self.extra:
            require(line.startswith("-") and "\n" not in line, "launch.extra", line, "must be #SBATCH options")


@dataclass(frozen=True)
class RunConfig:
    """The keys outside the groups, and the groups."""

    modality: dict
    objective: dict
    model: dict
    data: dict
    train: dict
    launch: dict
    seed: int
    out: str | None
    resume: bool

    def __post_init__(self) -> None:
        require(0 <= self.seed < 2**63, "seed", self.seed, "must be a whole number from 0 to 2**63 - 1")


TOKENS_PER_BATCH = 8192  # of ``train.tokens_per_batch: null``, unless an objective contrasts more sequences than fit
SECTIONS: dict[str, type] = {"data": DataConfig, "train": TrainConfig}
MODELS: dict[str, type] = {"transformer": ModelConfig, "convnet": ConvnetConfig}
REGISTRIES = {"modality": registry.MODALITIES, "objective": registry.OBJECTIVES}
LAUNCHERS: dict[str, type[LocalConfig]] = {"local": LocalConfig, "torchrun": TorchrunConfig, "slurm": SlurmConfig}


def text_keys() -> set[str]:
    """The dotted keys whose value is plain text, taken as typed: a path may hold ``=``, commas and blanks."""
    sections = [*SECTIONS.items()]
    sections += [(group, cls) for group, table in (("model", MODELS), ("launch", LAUNCHERS)) for cls in table.values()]
    keys = {f"{group}.{item.name}" for group, cls in sections for item in fields(cls) if "str" in str(item.type)}
    return {key for key in keys if key not in ("launch.nodes", "launch.extra")} | {"out"}


def node_range(nodes: int | str) -> tuple[int, int]:
    """``4`` is (4, 4), ``"1:4"`` is (1, 4), anything else (0, 0), which no rule accepts."""
    parts = str(nodes).split(":")
    if len(parts) > 2 or not all(part.isdigit() for part in parts):
        return 0, 0
    return int(parts[0]), int(parts[-1])


def fits(value: Any, hint: Any) -> bool:
    """Whether a YAML value satisfies an annotation made of plain types, ``Literal``, unions and lists of them."""
    origin, arguments = typing.get_origin(hint), typing.get_args(hint)
    if hint is Any:
        return True
    if origin is typing.Literal:
        return value in arguments
    if origin in (typing.Union, types.UnionType):
        return any(fits(value, choice) for choice in arguments)
    if origin in (list, tuple):
        return isinstance(value, (list, tuple)) and all(fits(item, arguments[0]) for item in value)
    if hint is float:
        return isinstance(value, (int, float)) and not isinstance(value, bool)
    if hint is int:
        return isinstance(value, int) and not isinstance(value, bool)
    return isinstance(value, origin or hint)


def describe(hint: Any) -> str:
    """An annotation in a user's words."""
    origin, arguments = typing.get_origin(hint), typing.get_args(hint)
    if origin is typing.Literal:
        return "one of " + ", ".join(map(str, arguments))
    if origin in (typing.Union, types.UnionType):
        return " or ".join(describe(choice) for choice in arguments)
    if origin in (list, tuple):
        return f"a list of {describe(arguments[0])}"
    words = {int: "a whole number", float: "a number", bool: "true or false", str: "text", type(None): "null"}
    return words.get(hint, getattr(hint, "__name__", str(hint)))


def check_section(cls: type, section: Mapping[str, Any], group: str) -> Any:
    """``cls(**section)``, after its names and types have been checked.

    Raises:
        SuiteError: a key too many, one too few, a wrong type, an empty text, or a value out of range.
    """
    dot = f"{group}." if group else ""
    choices, hints = [item.name for item in fields(cls)], typing.get_type_hints(cls)
    for key, value in section.items():
        if key not in choices:
            raise SuiteError(f"{dot}{key} is not a key of the configuration.{nearest(key, choices)}")
        if value == "":
            raise SuiteError(f"{dot}{key} is empty: give it a value, or leave it out.")
        if not fits(value, hints[key]):
            options = typing.get_args(hints[key]) if typing.get_origin(hints[key]) is Literal else ()
            hint = nearest(str(value), options)
            hint = hint if hint.startswith(" Did you mean") else ""  # the options are listed already
            raise SuiteError(f"{dot}{key}={value} should be {describe(hints[key])}.{hint}")
    for item in fields(cls):
        if item.name not in section and item.default is MISSING:
            raise SuiteError(f"{dot}{item.name} is missing from the configuration.")
    return cls(**section)


def section_class(cfg: Mapping[str, Any], group: str) -> Any:
    """The class that states the settings of a group as chosen.

    Raises:
        SuiteError: there is none of that name; the nearest is offered.
    """
    if group in SECTIONS:
        return SECTIONS[group]
    if group in REGISTRIES:
        return registry.load(REGISTRIES[group], group, str(cfg[group].get("name")))
    key, table = ("kind", MODELS) if group == "model" else ("name", LAUNCHERS)
    chosen = cfg[group].get(key, "transformer")
    if chosen not in table:
        raise SuiteError(f"{group}.{key}={chosen} does not exist.{nearest(str(chosen), table)}")
    return table[chosen]


def validate(cfg: Mapping[str, Any]) -> None:
    """Hold a whole configuration against these classes, the registries and each other.

    Raises:
        SuiteError: one line about the first fault.
    """
    check_section(RunConfig, cfg, "")
    for group in ("data", "train", "model", "launch"):
        check_section(section_class(cfg, group), cfg[group], group)
    for group, table in REGISTRIES.items():
        registry.check(table, group, cfg[group])


def world_size(launch: Mapping[str, Any]) -> int:
    """The processes of a run, over all nodes (the most of them, when it is elastic)."""
    return launch["processes"] * node_range(launch.get("nodes", 1))[1]


def row_length(tokens_per_batch: int, max_length: int) -> int:
    """The packing row that ``train.tokens_per_row: null`` means.

    The smallest divisor of the batch that holds four of the longest sequences, else the whole batch: proteins of 50 to
    1,000 residues fill 99 % of 2,048 positions but 93 % of 1,024. It must not depend on the number of processes.
    """
    for rows in range(max(1, tokens_per_batch // (4 * max_length)), 1, -1):
        if tokens_per_batch % rows == 0:
            return tokens_per_batch // rows
    return tokens_per_batch


def check_fit(cfg: Mapping[str, Any]) -> None:
    """What two sections must agree on: rows hold the longest sequence, and the processes share the rows evenly.

    Raises:
        SuiteError: naming both values and those that would work.
    """
    train, longest = cfg["train"], cfg["modality"]["max_length"]
    batch, row = train["tokens_per_batch"], train["tokens_per_row"]
    rows, world = max(1, round(batch / row)), world_size(cfg["launch"])
    fits = max(row, longest)  # both keys are named: with one alone, the other's default may fall on another value
    remedy = f"set train.tokens_per_batch={fits * world * max(1, round(rows / world))} train.tokens_per_row={fits}"
    if row < longest:
        key = "tokens_per_batch" if row == batch else "tokens_per_row"
        raise SuiteError(
            f"train.{key}={row} is shorter than modality.max_length={longest}: {remedy}, or a smaller max_length."
        )
    if batch % row:
        raise SuiteError(f"train.tokens_per_batch={batch} is not a multiple of train.tokens_per_row={row}: {remedy}.")
    if rows % world:
        works = ", ".join(str(n) for n in range(1, rows + 1) if rows % n == 0)
        raise SuiteError(
            f"{world} processes cannot share the {count(rows, 'row')} of a step evenly "
            f"(train.tokens_per_batch={batch} / train.tokens_per_row={row}): "
            f"use {works} {'process' if rows == 1 else 'processes'}, or {remedy}."
        )
    mine, part = rows // world, train["rows_per_forward"]
    if part is not None and part < mine and mine % part:
        works = ", ".join(str(n) for n in range(1, mine + 1) if mine % n == 0)
        raise SuiteError(
            f"train.rows_per_forward={part} does not divide the {count(mine, 'row')} of a process: use {works}."
        )
