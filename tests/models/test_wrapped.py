"""Wrapped encoders against the ``transformers`` model itself, one sequence at a time and without padding."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from torch.utils.flop_counter import FlopCounterMode
from transformers import AutoModel

from ssl_suite.core.records import SPECIAL_TOKENS, Vocabulary
from ssl_suite.models import wrapped as wrapped_module
from ssl_suite.models.flops import encoder_flops
from ssl_suite.models.padded import one_group
from ssl_suite.models.wrapped import Wrapped, unread, untrained
from tests.evaluation import text_models
from tests.evaluation.text_models import KINDS, LAYERS, POSITIONS, WIDTH, alone, spans, with_rows

# [UNK] occurs in sequences: as an id of the domain it is 1, as RoBERTa's padding is.
V = Vocabulary((*SPECIAL_TOKENS, *"ABCDEFGHIJKLMNOP"), (5, 21))
LENGTHS = [3, 17, POSITIONS, 40, 2, 9, 66, 40]  # [CLS] [SEP] alone, the most positions there are, two buckets


@pytest.fixture(scope="module")
def folders(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    return {kind: text_models.save(tmp_path_factory.mktemp(kind), kind) for kind in KINDS}


def opened(folder: Path) -> Any:
    return AutoModel.from_pretrained(folder, dtype=torch.float32)


def table() -> torch.Tensor:
    return torch.randn(len(V), WIDTH, generator=torch.Generator().manual_seed(3))


def tabled(folder: Path) -> Wrapped:
    return Wrapped(opened(folder), V.pad, table=table()).eval()


def native(folder: Path, words: torch.Tensor) -> Wrapped:
    return Wrapped(opened(folder), V.pad, native_V=words).eval()


def words() -> torch.Tensor:
    return torch.randperm(1200, generator=torch.Generator().manual_seed(4))[: len(V)] + 40


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("mode", ["table", "native"])
def test_states_are_the_models_own(folders: dict[str, Path], kind: str, mode: str) -> None:
    given = text_models.batch(LENGTHS, V, n=sum(LENGTHS) + 150, slots=2)
    if mode == "table":
        wrapped, model = tabled(folders[kind]), with_rows(opened(folders[kind]), table(), first=500)
        own_V = torch.arange(len(V)) + 500
    else:
        wrapped, model, own_V = native(folders[kind], words()), opened(folders[kind]), words()
    with torch.no_grad():
        states, last, vectors = wrapped.layer_states(given), wrapped(given), wrapped.pooled(given)
    assert len(states) == LAYERS + 1
    seen = torch.zeros(len(given.values), dtype=torch.bool)
    for i, span in enumerate(spans(given)):
        seen[span] = True
        expected = alone(model, own_V[given.values[span]])
        for state, reference in zip(states, expected, strict=True):
            torch.testing.assert_close(state[span], reference, atol=1e-5, rtol=0)
        torch.testing.assert_close(last[span], expected[-1], atol=1e-5, rtol=0)
        inside = expected[-1][1:-1]
        mean = inside.mean(0) if len(inside) else torch.zeros(WIDTH)
        torch.testing.assert_close(vectors[i], mean, atol=1e-5, rtol=0)
    assert int((~seen).sum()) > 0 and not any(bool(state[~seen].any()) for state in (*states, last))


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("mode", ["table", "native"])
def test_what_is_trained_has_a_gradient(folders: dict[str, Path], kind: str, mode: str) -> None:
    """DDP asks for it in every step, also of a process whose batch is padding alone."""
    wrapped = tabled(folders[kind]) if mode == "table" else native(folders[kind], words())
    for given in (text_models.batch([12, 70, 5], V, n=100), text_models.batch([], V, n=300, slots=1)):
        wrapped.train().zero_grad(set_to_none=True)
        wrapped.pooled(given).square().sum().backward()
        lacking = {name for name, p in wrapped.named_parameters() if (p.grad is None) == p.requires_grad}
        assert not lacking
        moved = any(bool(p.grad.any()) for p in wrapped.parameters() if p.grad is not None)
        assert moved == bool(given.tokens)
        assert all(bool(p.grad.isfinite().all()) for p in wrapped.parameters() if p.grad is not None)
    frozen = {name.removeprefix("model.") for name, p in wrapped.named_parameters() if not p.requires_grad}
    heads = {f"{part}.{name}" for part in ("pooler.dense", "contact_head.regression") for name in ("weight", "bias")}
    assert frozen == {name for name in heads if name in wrapped.model.state_dict()}


def test_unused_rows_get_no_gradient_and_the_others_theirs(folders: dict[str, Path]) -> None:
    wrapped, given = tabled(folders["mpnet"]), text_models.batch([12, 30], V, n=60)
    wrapped.pooled(given).square().sum().backward()
    rows = wrapped.model.get_input_embeddings()
    assert rows.weight.shape == (len(V), WIDTH)  # 1,300 words are not carried along
    met = {i for span in spans(given) for i in given.values[span].tolist()}
    assert {i for i in range(len(V)) if bool(rows.weight.grad[i].any())} == met
    assert V.pad not in met


@pytest.mark.parametrize("kind", ["bert", "modernbert", "mpnet"])
def test_flops_are_counted_like_the_maps_that_run(folders: dict[str, Path], kind: str) -> None:
    model = AutoModel.from_pretrained(folders[kind], dtype=torch.float32, attn_implementation="eager")
    wrapped, given = Wrapped(model, V.pad, table=table()).eval(), text_models.batch([64, 64, 64], V)
    with torch.no_grad(), FlopCounterMode(display=False) as counter:
        wrapped(given)
    pooler = 2 * 3 * WIDTH**2 * ("pooler.dense.weight" in model.state_dict())
    rotary = counter.get_total_flops() * 0.01 if kind == "modernbert" else 0  # its angles are a product
    assert encoder_flops(vars(wrapped.spec), given) == pytest.approx(counter.get_total_flops() - pooler, abs=rotary)


def test_its_blocks_are_found(folders: dict[str, Path]) -> None:
    assert [len(tabled(folders[kind]).layers) for kind in KINDS] == [LAYERS] * len(KINDS)


@pytest.mark.parametrize("kind", KINDS)
def test_untrained_weights_are_known(tmp_path: Path, folders: dict[str, Path], kind: str) -> None:
    fresh = opened(text_models.save(tmp_path, kind, noise=0.0))
    assert untrained(fresh) and not untrained(opened(folders[kind]))
    assert {name.partition(".")[0] for name in unread(fresh)} <= {"pooler", "contact_head"}


@pytest.mark.parametrize("kind", KINDS)
def test_one_group_gives_the_same(folders: dict[str, Path], kind: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """As on a GPU: the row's padding is a sequence too, longer than one may be, and looks at nothing."""
    given, wrapped = text_models.batch(LENGTHS, V, n=sum(LENGTHS) + 150, slots=2), tabled(folders[kind])
    alone_too = text_models.batch([], V, n=300, slots=1)
    with torch.no_grad():
        expected = wrapped.layer_states(given)
    monkeypatch.setattr(wrapped_module, "groups", lambda batch: [one_group(batch)])
    assert one_group(given)[0].shape == (len(LENGTHS) + 1, POSITIONS)  # neither the empty slots nor more positions
    for state, reference in zip(wrapped.layer_states(given), expected, strict=True):
        torch.testing.assert_close(state, reference, atol=1e-5, rtol=0)
    for batch in (given, alone_too):
        wrapped.zero_grad(set_to_none=True)
        wrapped.pooled(batch).square().sum().backward()
        trained = [p for p in wrapped.parameters() if p.requires_grad]
        assert all(p.grad is not None and bool(p.grad.isfinite().all()) for p in trained)


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")
@pytest.mark.parametrize("kind", KINDS)
def test_a_gpu_gives_the_same(folders: dict[str, Path], kind: str) -> None:
    given, wrapped = text_models.batch(LENGTHS, V, n=sum(LENGTHS) + 150, slots=2), tabled(folders[kind])
    with torch.no_grad():
        expected, device = wrapped.layer_states(given), torch.device("cuda")
        found = wrapped.to(device).layer_states(given.to(device))
    for state, reference in zip(found, expected, strict=True):
        torch.testing.assert_close(state.cpu(), reference, atol=1e-4, rtol=0)
