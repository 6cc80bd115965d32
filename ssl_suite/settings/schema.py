"""What each section of the configuration may hold: names, types, ranges, help texts, and what must fit together.

The values are in ``conf/``, so that there is one place to look them up. A default here is what runs did before there
was a choice: their frozen configurations lack the key.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Any, Literal, get_type_hints

from pydantic import Field
from pydantic.dataclasses import dataclass

from ssl_suite.core import registry
from ssl_suite.core.errors import SuiteError, nearest
from ssl_suite.core.schema import STRICT, Count, Positive, Share, Text, parse
from ssl_suite.core.wording import count

Part = Annotated[float, Field(ge=0, lt=1)]
PositiveShare = Annotated[float, Field(gt=0, le=1)]


@dataclass(frozen=True, config=STRICT)
class TrainConfig:
    """``conf/train``: how long, how fast, and how often to look.

    Batch size is in tokens and does not depend on the number of processes.
    """

    steps: Count
    """Optimiser steps."""
    minutes: Positive | None
    """Sets ``steps`` so that the run takes about this long on this machine; null = ``steps``."""
    tokens_per_batch: Count | None
    """Positions of one optimiser step, over all processes; null = 8192, or 64 sequences for simclr and byol."""
    tokens_per_row: Count | None
    """Positions of a packing row: at least modality.max_length, divides ``tokens_per_batch``; null = about 4
    sequences."""
    rows_per_forward: Count | None
    """Rows of one forward pass, to fit memory (the rest accumulates); null = one on CPUs, all of the process on
    GPUs."""
    lr: Positive
    """Peak learning rate."""
    schedule: Literal["cosine", "linear", "constant", "wsd"]
    """After the warm-up; ``wsd`` is constant, then falls by the square root."""
    warmup: Part
    """Share of the steps with a linearly rising rate."""
    final_lr: Share
    """The rate at the end, as a share of ``lr``."""
    weight_decay: Annotated[float, Field(ge=0, allow_inf_nan=False)]
    """On matrices and kernels; never on norms, biases, embeddings (nor does lars adapt these)."""
    betas: Annotated[list[Part], Field(min_length=2, max_length=2)]
    """AdamW's two averages."""
    eps: Positive
    """AdamW's divisor floor."""
    clip: Positive | None
    """Largest gradient norm; null = no clipping."""
    precision: Literal["auto", "fp32", "bf16"]
    """``bf16`` is autocast; ``auto`` = bf16 where a GPU has it, else fp32."""
    compile: Literal["auto"] | bool
    """torch.compile; ``auto`` = on GPUs."""
    parallel: Literal["ddp", "fsdp"]
    """``fsdp`` is FSDP2: weights and optimiser state sharded over the processes."""
    eval_every: Count
    """Steps between evaluations on held-out data."""
    eval_tokens: Count
    """Positions of held-out data in each."""
    checkpoint_every: Count
    """Steps between checkpoints."""
    keep: Count
    """Newest checkpoints to keep; the best one is kept besides."""
    log_every: Count
    """Steps between lines of metrics.jsonl."""
    wandb: bool
    """Also log to Weights & Biases (extra ``wandb``)."""
    threads: Count | None
    """CPU threads of each process; null = $OMP_NUM_THREADS, else the cores shared out evenly."""
    optimiser: Literal["adamw", "sgd", "lars"] = "adamw"
    """``sgd`` has momentum; ``lars`` is SGD adapted layer by layer, for batches of thousands."""
    momentum: Part = 0.9
    """Of sgd and lars."""
    lr_scaling: Literal["none", "linear", "sqrt"] = "none"
    """With S = tokens_per_batch / modality.max_length: ``linear`` = lr * S / 256, ``sqrt`` = lr * sqrt(S)."""
    decay_share: PositiveShare = 0.1
    """Of schedule=wsd: share of the steps, at the end, in which the rate falls."""
    layer_decay: PositiveShare = 1.0
    """A layer's rate is this times that of the layer above; 1 = one rate (fine-tuning: 0.65 to 0.95)."""

    def __post_init__(self) -> None:
        if self.optimiser == "lars" and self.weight_decay == 0:
            raise SuiteError(
                "train.weight_decay=0 must be above 0 with train.optimiser=lars, which adapts only what decays "
                "(SimCLR: 1e-6, BYOL: 1.5e-6)."
            )


@dataclass(frozen=True, config=STRICT)
class ModelConfig:
    """``conf/model``, the suite's own transformers."""

    name: Text
    layers: Count
    """Transformer blocks."""
    width: Count
    """Numbers per position."""
    heads: Count
    """Attention heads, usually of width 64."""
    mlp_width: Count
    """Hidden width of the gated feed-forward layer, about 8/3 of ``width``."""
    rope_theta: Positive | None
    """Base of the rotary frequencies; null = modality.max_length."""
    init_std: Positive | None
    """Of the weights at the start; null = 0.02 * sqrt(768 / width)."""
    init: Text | None
    """Start from: a run (RUN or RUN@STEP), hf:FOLDER or hf:NAME of transformers."""
    kind: Literal["transformer"] = "transformer"
    """What it is made of."""
    dropout: Part = 0.0
    """Share of the embeddings and of each branch that is dropped in training; BERT: 0.1."""
    checkpointing: bool = False
    """Compute activations again when needed: less memory, a third more time."""
    init_tokens: Literal["source", "new"] = "source"
    """``source`` = the tokeniser, codebook and modality settings of ``init``; ``new`` = this run's own."""

    def __post_init__(self) -> None:
        if self.width % (2 * self.heads):  # rotary positions turn pairs of numbers
            raise SuiteError(f"model.width={self.width} must be a multiple of 2 x model.heads={self.heads}.")


@dataclass(frozen=True, config=STRICT)
class ConvnetConfig:
    """``conf/model``, torchvision's residual networks (``models/convnet.py``)."""

    name: Text
    kind: Literal["convnet"]
    """``convnet`` = torchvision's ResNets, for pictures; the other sizes are transformers."""
    layout: Literal["resnet10", "resnet18", "resnet50"]
    """Torchvision's blocks: 1 1 1 1, 2 2 2 2 or 3 4 6 3 of them."""
    stem: Literal["imagenet", "cifar", "half"]
    """``imagenet``: 7 x 7, stride 2, pooling; ``cifar``: 3 x 3, stride 1; ``half``: 3 x 3, stride 2."""
    channels: Count
    """Of the first stage, doubled by each further one; published ResNets have 64."""
    init: None
    """A convnet starts at random."""


@dataclass(frozen=True, config=STRICT)
class DataConfig:
    """``conf/data``. ``source`` is there in the entries of the catalogue only."""

    name: Text
    path: Text | None
    """A file, a folder (searched below too) or a glob in quotes; null = the sample that comes with the package."""
    root: Text | None
    """Where catalogue entries (data=yeast …) find their files; default: $SSL_DATA_DIR."""
    column: Text | None
    """Sequence column of a table; default: sequence or seq."""
    id_column: Text | None
    """Name column; default: id, name, accession or chrom; "row" numbers the rows."""
    on_error: Literal["stop", "skip"]
    """A bad record stops the command, or is skipped and counted."""
    valid_fraction: Annotated[float, Field(gt=0, lt=1)]
    """Share of the data for validation, where no split column says."""
    cache: Text | None
    """Prepared stores; default: $SSL_CACHE_DIR, then ~/.cache/ssl_suite."""
    workers: Count | None
    """Processes that tokenise; default: the number of cores, for inputs that are worth it."""
    source: dict | None = None
    """Of a catalogue entry: where it comes from, see ``data.catalogue``."""
    max_record_mb: Count | None = None
    """A larger record is a fault; null = 256 (a row of CSV or JSON: 64, a MIDI file: 16)."""
    min_tokens: Count = 8
    """Of a record, fewer are left out (lower it for titles and peptides); and what a last window adds at least."""


@dataclass(frozen=True, config=STRICT)
class LocalConfig:
    """``launch=local``."""

    name: Text
    processes: Count
    """On each machine; one per GPU; on CPU each takes its share of the cores."""


@dataclass(frozen=True, config=STRICT)
class TorchrunConfig(LocalConfig):
    """``launch=torchrun``."""

    nodes: int | str
    """Machines, or a range such as 1:4 (elastic: goes on with what is there)."""
    node_rank: Annotated[int, Field(ge=0)] | None
    """This machine's number, from 0, where the first must host rank 0; null = the rendezvous decides."""
    rendezvous: Text
    """HOST:PORT of the first machine, reachable from all."""
    rendezvous_id: Text
    """Any word, the same on each node; tells runs on one port apart."""
    max_restarts: Annotated[int, Field(ge=0)]
    """Restart all workers from the last checkpoint this often when one dies."""

    def __post_init__(self) -> None:
        low, high = node_range(self.nodes)
        if not 1 <= low <= high:
            raise SuiteError(f"launch.nodes={self.nodes} must be a number from 1, or a range such as 1:4.")
        if self.node_rank is not None and self.node_rank >= high:
            raise SuiteError(f"launch.node_rank={self.node_rank} must be from 0 to {high - 1}, or null.")
        if self.node_rank is not None and low != high:
            raise SuiteError(f"launch.node_rank={self.node_rank} needs a fixed launch.nodes; use null with a range.")
        host, _, port = self.rendezvous.rpartition(":")
        if not (host and port.isdigit() and 0 < int(port) < 65536):
            raise SuiteError(f"launch.rendezvous={self.rendezvous} must be HOST:PORT, such as node0:29400.")


@dataclass(frozen=True, config=STRICT)
class SlurmConfig(LocalConfig):
    """``launch=slurm``."""

    nodes: Count
    """Machines."""
    partition: Text | None
    """Queue; null = the cluster's default."""
    account: Text | None
    """Project to charge; null = your default."""
    time: Text
    """Limit of one job, as sbatch takes it; a longer run continues in the next job."""
    gpus_per_node: Annotated[int, Field(ge=0)] | None
    """Null = ``processes``; 0 = CPU only."""
    cpus_per_task: Count
    """CPU cores on each node, shared by its processes."""
    signal_seconds: Annotated[int, Field(ge=1, le=65535)]
    """Save this long before the time limit."""
    extra: list[str]
    """Further #SBATCH options, such as ["--mem=64G", "--qos=long"]."""
    submit: bool
    """Call sbatch."""

    def __post_init__(self) -> None:
        for line in self.extra:
            if not line.startswith("-") or "\n" in line:
                raise SuiteError(f"launch.extra={line} must be #SBATCH options, which begin with a dash.")


@dataclass(frozen=True, config=STRICT)
class RunConfig:
    """The keys outside the groups, and the groups."""

    modality: dict
    objective: dict
    model: dict
    data: dict
    train: dict
    launch: dict
    seed: Annotated[int, Field(ge=0, lt=2**63)]
    """Fixes the weights, the order of the data and every mask."""
    out: Text | None
    """The run folder; null = runs/<modality>-<objective>-<time>."""
    resume: bool
    """Go on with ``out``, or the newest matching run under runs/, with its own settings."""


TOKENS_PER_BATCH = 8192  # of ``train.tokens_per_batch: null``, unless an objective contrasts more sequences than fit
SECTIONS: dict[str, type] = {"data": DataConfig, "train": TrainConfig}
MODELS: dict[str, type] = {"transformer": ModelConfig, "convnet": ConvnetConfig}
REGISTRIES = {"modality": registry.MODALITIES, "objective": registry.OBJECTIVES}
LAUNCHERS: dict[str, type[LocalConfig]] = {"local": LocalConfig, "torchrun": TorchrunConfig, "slurm": SlurmConfig}


def text_keys() -> set[str]:
    """The dotted keys whose value is plain text, taken as typed: a path may hold ``=``, commas and blanks."""
    sections = [*SECTIONS.items()]
    sections += [(group, cls) for group, table in (("model", MODELS), ("launch", LAUNCHERS)) for cls in table.values()]
    hints = [(f"{group}.{key}", hint) for group, cls in sections for key, hint in get_type_hints(cls).items()]
    return {key for key, hint in hints if hint in (str, str | None)} | {"out"}


def node_range(nodes: int | str) -> tuple[int, int]:
    """``4`` is (4, 4), ``"1:4"`` is (1, 4), anything else (0, 0), which no rule accepts."""
    parts = str(nodes).split(":")
    if len(parts) > 2 or not all(part.isdigit() for part in parts):
        return 0, 0
    return int(parts[0]), int(parts[-1])


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
    parse(RunConfig, cfg, "")
    for group in ("data", "train", "model", "launch"):
        parse(section_class(cfg, group), cfg[group], "", f"{group}.")
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
