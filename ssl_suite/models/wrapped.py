"""A ``transformers`` encoder of any kind (BERT, MPNet, ESM, …) in the place of the suite's own: wrapped, not rewritten.

The ragged batch goes in and ragged states come out; in between sequences of about one length are padded together. What
a symbol of the domain looks like to the model is decided once, when it is wrapped: its own token (a native
vocabulary), some word's embedding, or an embedding that was made afresh (``evaluation.encoders``).

Shapes: T positions of a padded group, J sequences in it; N, B, D and V as in ``core.batch``.
"""

from __future__ import annotations

import contextlib
import inspect
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, ClassVar

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from ssl_suite.core.batch import Batch
from ssl_suite.core.errors import SuiteError
from ssl_suite.core.records import Vocabulary
from ssl_suite.models.padded import attention_mask, groups, scattered
from ssl_suite.models.pooling import mean_pool

ABOVE = 1 << 20  # a table's ids begin here: to no model one of them is its own [PAD] or [MASK]


@dataclass(frozen=True)
class WrappedSpec:
    """What the rest of the suite asks of an encoder's shapes.

    Attributes:
        layers, width, vocabulary, pad: L, D, V of the domain, and its [PAD].
        mlp_width: such that ``models.flops`` counts this layer right; see ``counted_mlp``.
        features: of signals none is read.
        settings: the model's ``config.json``, of one that is trained; empty where it is only evaluated.
        native: the model's id of each of the domain's tokens, of one that is trained.
    """

    kind: ClassVar[str] = "wrapped"

    layers: int
    width: int
    mlp_width: float
    vocabulary: int
    pad: int
    features: float = 0
    grid: None = None
    settings: dict[str, Any] = field(default_factory=dict)
    native: tuple[int, ...] = ()

    @property
    def words(self) -> str:
        """The shapes for a reader."""
        return f"{self.layers} layers, {self.width} wide, {self.settings.get('model_type')} of transformers"

    @property
    def init_std(self) -> float:
        """Of the weights that an objective adds."""
        return float(self.settings.get("initializer_range", 0.02))

    @property
    def eps(self) -> float:
        """Of the norms that an objective adds."""
        return 1e-5

    @classmethod
    def of(cls, settings: dict[str, Any], pad: int, native: Sequence[int]) -> WrappedSpec:
        """Of a model that is trained; ``mlp_width`` is known once the model is built."""
        shape = settings["num_hidden_layers"], settings["hidden_size"]
        return cls(*shape, 1, len(native), pad, settings=settings, native=tuple(native))


class Table(nn.Embedding):
    """The embeddings of a domain's ids, from ``ABOVE`` on, in the place of a model's own.

    So the ids go in as ``input_ids``, and what the model does beside the look-up it still does: with ``inputs_embeds``
    ESM leaves out its positions, its first norm and its scale, without a word.
    """

    def forward(self, ids: Tensor) -> Tensor:
        return super().forward(ids - ABOVE)


def counted_mlp(model: nn.Module, layers: int, width: int) -> float:
    """The GeGLU width with as many matrix FLOPs as the model's own layers, from the matrices that are trained.

    BERT's two maps of D x M count as 2/3 M, ModernBERT's as M.
    """
    tables = {id(module.weight) for module in model.modules() if isinstance(module, nn.Embedding)}
    weights = (p for p in model.parameters() if p.requires_grad and p.dim() == 2 and id(p) not in tables)
    return (sum(p.numel() for p in weights) / layers - 4 * width**2) / (3 * width)


class WrappedEncoder(nn.Module):
    """What the suite asks of an encoder, from ``_run``: the states of a batch, of each layer or of the last."""

    spec: Any
    model: Any

    @property
    def width(self) -> int:
        """D, of the states and of the pooled vectors."""
        return self.spec.width

    def _run(self, batch: Batch, every: bool) -> list[Tensor]:
        raise NotImplementedError

    def forward(self, batch: Batch) -> Tensor:
        """(N, D): the last layer's states."""
        return self._run(batch, every=False)[-1]

    def layer_states(self, batch: Batch) -> list[Tensor]:
        """The states before the first layer and after each, L + 1 tensors of (N, D)."""
        return self._run(batch, every=True)

    def pooled(self, batch: Batch) -> Tensor:
        """(B, D): each sequence's mean state, its [CLS], [SEP] and [PAD] left out."""
        return mean_pool(self(batch), batch, self.spec.pad)


class Wrapped(WrappedEncoder):
    """Args:
    model: a bare encoder (``AutoModel``) that takes ``input_ids`` and an ``attention_mask``.
    pad: the domain's [PAD].
    native_V: (V,) the model's own id of each of the domain's; None where ``table`` is used.
    table: (V, D) embeddings of the domain's ids, in the place of the model's own.
    """

    def __init__(self, model: Any, pad: int, native_V: Tensor | None = None, table: Tensor | None = None) -> None:
        super().__init__()
        assert (native_V is None) != (table is None)
        config: Any = model.config
        self.model = model
        self.files: Path | None = None  # where the model's tokenizer files are
        self.head: nn.Module | None = None  # of masked language modelling, (K, D) -> (K, U)
        self.prefix = self.head_name = self.architecture = ""  # of the whole model, see ``with_head``
        self.fresh_head = self.identical = self.covered = False
        takes_types = "token_type_ids" in inspect.signature(model.forward).parameters
        self.takes_segments = takes_types and getattr(config, "type_vocab_size", 0) > 1
        self.origin: str | None = None  # digest of the weights before a table took the words' place
        self.native_V: Tensor | None
        self.register_buffer("native_V", native_V)
        idle = unread(model)
        for name, parameter in model.named_parameters():
            parameter.requires_grad_(name not in idle)
        if table is not None:
            self.model.set_input_embeddings(Table(table.shape[0], table.shape[1], _weight=table.clone()))
        size = len(table if table is not None else native_V)  # type: ignore[arg-type]
        layers, width = config.num_hidden_layers, config.hidden_size
        self.spec = WrappedSpec(layers, width, counted_mlp(model, layers, width), size, pad)

    @classmethod
    def with_head(cls, whole: Any, spec: WrappedSpec) -> Wrapped:
        """A masked language model of ``transformers``, its head apart from its encoder.

        Raises:
            SuiteError: its head is not one module.
        """
        prefix = whole.base_model_prefix
        heads = [(name, part) for name, part in whole.named_children() if name != prefix]
        if len(heads) != 1:
            raise SuiteError(f"{type(whole).__name__} has no head of one module; convert it to BERT's layout.")
        _untie(whole)
        found = cls(whole.base_model, spec.pad, native_V=torch.tensor(spec.native))
        found.prefix, found.architecture, (found.head_name, found.head) = prefix, type(whole).__name__, heads[0]
        found.spec = replace(spec, mlp_width=round(found.spec.mlp_width))
        seen_U = torch.zeros(whole.config.vocab_size, dtype=torch.bool)
        seen_U[list(spec.native)] = True
        first: dict[int, int] = {}
        again_V = torch.tensor([first.setdefault(i, place) != place for place, i in enumerate(spec.native)])
        found.register_buffer("again_V", again_V, persistent=False)
        found.register_buffer("seen_U", seen_U, persistent=False)
        found.identical = spec.native == tuple(range(len(seen_U)))
        found.covered = len(set(spec.native)) == len(seen_U)
        return found

    def predict(self, x_KD: Tensor) -> Tensor:
        """(K, V) logits of the domain's tokens from the model's own head.

        Where the model has further tokens, a column more holds what they have together, so that a cross-entropy is the
        model's own. Of several tokens that are one to the model, the first has its logit.
        """
        assert self.head is not None and self.native_V is not None
        logits_KU = self.head(x_KD).float()
        if self.identical:
            return logits_KU
        own_KV = logits_KU[:, self.native_V].masked_fill(self.again_V, -torch.inf)
        if self.covered:
            return own_KV
        rest_K1 = logits_KU.masked_fill(self.seen_U, -torch.inf).logsumexp(1, keepdim=True)
        return torch.cat((own_KV, rest_K1), 1)

    def hub_weights(self) -> dict[str, Tensor]:
        """The weights under the names of the whole model, tied ones left out."""
        parts = {self.prefix: self.model, self.head_name: self.head}
        found = {f"{name}.{key}": x for name, part in parts.items() if part for key, x in part.state_dict().items()}
        return {name: x.detach().float().cpu().clone() for name, x in found.items() if x.is_floating_point()}

    @property
    def layers(self) -> nn.ModuleList:
        """The model's blocks: what FSDP2 shards one by one. None where they share weights (ALBERT)."""
        lists = [m for m in self.model.modules() if isinstance(m, nn.ModuleList) and len(m) == self.spec.layers]
        return lists[0] if lists else nn.ModuleList()

    def _run(self, batch: Batch, every: bool) -> list[Tensor]:
        """States at the places of the batch; zeros at those of padding."""
        parts, places = [], []
        for place_JT, seen_JT in groups(batch):
            # Without padding, and so without a mask, attention takes the flash kernel. A GPU is not asked.
            whole = seen_JT.device.type == "cpu" and bool(seen_JT.all())
            found = self.model(
                input_ids=self._ids(torch.where(seen_JT, batch.values[place_JT], self.spec.pad)),
                attention_mask=None if whole else attention_mask(seen_JT),
                output_hidden_states=every,
                return_dict=True,
                **self._types(batch, place_JT, seen_JT),
            )
            parts.append(list(found.hidden_states) if every else [found.last_hidden_state])
            places.append((place_JT, seen_JT))
        return scattered(batch, places, parts)

    def _types(self, batch: Batch, place_JT: Tensor, seen_JT: Tensor) -> dict[str, Tensor]:
        """The segments of pairs, where the model has embeddings for them."""
        if batch.segments_N is None or not self.takes_segments:
            return {}
        return {"token_type_ids": batch.segments_N[place_JT] * seen_JT}

    def _ids(self, ids_JT: Tensor) -> Tensor:
        return ids_JT + ABOVE if self.native_V is None else self.native_V[ids_JT]


class Tied(nn.Module):
    """(K, D) -> (K, U): the table of a model's embeddings as the last map of its head, in the place of ``decoder``.

    It has no table of its own, which would be two weights to FSDP2 and to a checkpoint, and no bias where ``owner``
    has the decoder's. What it looks at is held in a tuple, and so is no part of it.
    """

    def __init__(self, embedding: nn.Module, decoder: Any, owner: nn.Module) -> None:
        super().__init__()
        shared = decoder.bias is not None and getattr(owner, "bias", None) is decoder.bias
        if decoder.bias is not None and not shared:
            self.bias = decoder.bias
        self._held: tuple[Any, Any] = (embedding, owner if shared else self)

    def forward(self, x_KD: Tensor) -> Tensor:
        embedding, holder = self._held
        return F.linear(x_KD, embedding.weight, getattr(holder, "bias", None))


def _untie(whole: Any) -> None:
    """Put ``Tied`` in the place of a decoder that shares the embeddings' table."""
    decoder, embedding = whole.get_output_embeddings(), whole.get_input_embeddings()
    if decoder is not None and decoder.weight is embedding.weight:
        places = ((part, name) for part in whole.modules() for name, child in part.named_children() if child is decoder)
        owner, name = next(places)
        setattr(owner, name, Tied(embedding, decoder, owner))


def unread(model: nn.Module) -> set[str]:
    """Names of the parameters that the last states do not depend on, as a pooler's and ESM's contact head's.

    They are never to be trained: DDP asks that all that is trained is used.
    """
    if next(model.parameters()).device.type == "meta":  # shapes alone, of which nothing is trained
        return set()
    model.eval()
    with torch.enable_grad():
        ids = torch.zeros((1, 2), dtype=torch.int64)
        states = model(input_ids=ids, attention_mask=torch.ones_like(ids), return_dict=True).last_hidden_state
    reached = {id(parameter) for parameter in leaves(states)}
    return {name for name, parameter in model.named_parameters() if id(parameter) not in reached}


def leaves(x: Tensor) -> list[Tensor]:
    """The parameters that autograd met on the way to ``x``."""
    met: set[Any] = set()
    ahead: list[Any] = [x.grad_fn]
    while ahead:
        node = ahead.pop()
        if node is None or node in met:
            continue
        met.add(node)
        ahead += [before for before, _ in node.next_functions]
    return [node.variable for node in met if hasattr(node, "variable")]


def untrained(model: nn.Module) -> bool:
    """Whether the weights look as a constructor left them: every norm's scale at 1, every bias at 0."""
    state: Mapping[str, Tensor] = model.state_dict()
    small = {name: x for name, x in state.items() if x.dim() == 1 and x.is_floating_point() and "norm" in name.lower()}
    return bool(small) and all(
        bool((x == (1.0 if name.endswith("weight") else 0.0)).all()) for name, x in small.items()
    )


def positions_of(model: Any) -> int | None:
    """How many positions a sequence may have; None where there is no end to them."""
    positions = getattr(model.config, "max_position_embeddings", None)
    if positions is None or positions < 0:  # XLNet says -1
        return None
    # RoBERTa, MPNet and the first ESM begin to count behind their padding id.
    behind = getattr(getattr(getattr(model, "embeddings", None), "position_embeddings", None), "padding_idx", None)
    return positions - (0 if behind is None else behind + 1)


@contextlib.contextmanager
def quiet() -> Iterator[None]:
    """No progress bar and no report of ``transformers``: what is missing is judged here."""
    from transformers.utils import logging

    level, bars = logging.get_verbosity(), logging.is_progress_bar_enabled()
    logging.set_verbosity_error()
    logging.disable_progress_bar()
    try:
        yield
    finally:
        logging.set_verbosity(level)
        if bars:
            logging.enable_progress_bar()


def dropouts(settings: Any) -> list[str]:
    """The keys of a ``transformers`` configuration that hold a dropout probability."""
    shares = {key: value for key, value in vars(settings).items() if "dropout" in key or key.endswith("pdrop")}
    return [key for key, value in shares.items() if isinstance(value, int | float) and not isinstance(value, bool)]


def native_ids(v: Vocabulary, tokenizer: Any, rows: int) -> tuple[list[int], list[str]]:
    """V ids: the model's own of each of the domain's tokens, spelled alike or in lower case; its [UNK] where it has
    none. And the tokens that can be predicted and have none.

    Args:
        rows: of the model's embeddings; a tokeniser may know more words.
    """
    own = {token: i for token, i in tokenizer.get_vocab().items() if i < rows}
    special, (low, high) = specials(v, tokenizer), v.targets
    found, lacking = [special[v.unk]] * len(v), []
    for i, token in enumerate(v.tokens):
        place = special.get(i, own.get(token, own.get(token.lower())))
        if place is None and token == f"[no token {i}]" and i < rows:  # a gap in the model's own vocabulary
            place = i
        if place is not None:
            found[i] = place
        elif low <= i < high:
            lacking.append(token)
    return found, lacking


def specials(v: Vocabulary, tokenizer: Any) -> dict[int, int]:
    """The domain's special ids and the model's; one that it lacks is its [UNK], or else its padding."""
    spare = tokenizer.unk_token_id if tokenizer.unk_token_id is not None else tokenizer.pad_token_id or 0
    pairs = {
        v.pad: tokenizer.pad_token_id,
        v.unk: tokenizer.unk_token_id,
        v.cls: tokenizer.cls_token_id if tokenizer.cls_token_id is not None else tokenizer.bos_token_id,
        v.sep: tokenizer.sep_token_id if tokenizer.sep_token_id is not None else tokenizer.eos_token_id,
        v.mask: tokenizer.mask_token_id,
    }
    return {own: spare if theirs is None else theirs for own, theirs in pairs.items()}
