from __future__ import annotations

import hashlib
from pathlib import Path

import numpy as np
import pytest
import torch
from sklearn.metrics import adjusted_rand_score

from ssl_suite.core.codebook import Codebook
from ssl_suite.core.errors import SuiteError
from ssl_suite.data.loader import FRAME, Collator, RowOrder
from ssl_suite.data.prepare import prepare
from ssl_suite.data.store import Store
from ssl_suite.modalities.signals import FIRST
from ssl_suite.training import checkpoint, units
from ssl_suite.training.distributed import DistributedContext
from tests.modalities.waves import WIDTH, Waves, write


def prepared(tmp_path: Path, waves: Waves, folder: Path | None = None) -> Store:
    source = folder or write(tmp_path / "in")
    return prepare(waves, {"path": str(source), "cache": str(tmp_path / "cache")}, report=lambda line: None)


def ensure_units(waves: Waves, store: Store, **further: object) -> tuple[dict, list[str]]:
    lines: list[str] = []
    facts = units.ensure_units(waves, store, report=lines.append, **further)  # type: ignore[arg-type]
    assert facts is not None
    return facts, lines


def test_frames_pass_through_the_store_unchanged(tmp_path: Path) -> None:
    store = prepared(tmp_path, Waves())
    raw = b"".join(path.read_bytes() for path in sorted((tmp_path / "in").iterdir()))
    assert store.values.shape == (30 * 64, WIDTH)
    assert store.values.tobytes() == raw
    assert store.record_tags(20) == {"speaker": "b"}
    assert store.report["counts"]["frames"] == 30 * 64


def test_units_recover_the_shapes_that_frames_were_made_of(tmp_path: Path) -> None:
    waves = Waves(codes=6)
    store = prepared(tmp_path, waves)
    facts, lines = ensure_units(waves, store)
    assert store.units is not None
    assert store.units.min() >= FIRST and store.units.max() < FIRST + 6
    kind = np.tile(np.arange(64) % 6, 30)
    first = store.units.reshape(30, 64)
    turned = (kind.reshape(30, 64) + np.array([[0]])) % 6
    # each file starts at a shape of its own: units agree with the position's shape up to that turn
    assert np.mean([adjusted_rand_score(a, b) for a, b in zip(turned, first, strict=True)]) == 1.0
    assert facts["used"] == 6
    assert facts["error"] < 0.05
    assert any("6 used" in line for line in lines)


def test_the_second_time_nothing_is_computed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    waves = Waves()
    store = prepared(tmp_path, waves)
    facts, _ = ensure_units(waves, store)
    monkeypatch.setattr(units, "_points", None)
    again = Waves()
    other = Store(store.folder)
    assert ensure_units(again, other)[0] == facts
    assert np.array_equal(other.units, store.units)
    assert torch.equal(again.codebook.entries_CU, waves.codebook.entries_CU)


def test_one_bit_in_a_codebook_or_in_units_is_found(tmp_path: Path) -> None:
    waves = Waves()
    store = prepared(tmp_path, waves)
    facts, _ = ensure_units(waves, store)
    assert facts["sha256"] == hashlib.sha256(Path(facts["path"]).read_bytes()).hexdigest()
    right = store.units.tobytes()
    [folder] = store.folder.parent.glob(f"{store.folder.name}-units-*")
    book, draw = Path(facts["path"]), np.random.default_rng(0)
    for path in (book, folder / "units.bin", folder / "report.json"):
        content = bytearray(path.read_bytes())
        content[int(draw.integers(20, len(content) - 2))] ^= 1 << int(draw.integers(8))
        path.write_bytes(content)
        again, lines = ensure_units(Waves(), (other := Store(store.folder)))
        assert again == facts and other.units.tobytes() == right
        assert sum(path.name in line and "anew" in line for line in lines) == 1, lines
    content = bytearray(book.read_bytes())
    content[-1] ^= 1
    book.write_bytes(content)
    lines = []
    units.discard_damaged(store, lines.append)
    assert len(lines) == 1 and not book.exists() and (folder / "units.bin").exists()


def test_the_codebook_of_a_run_wins_over_the_cache(tmp_path: Path) -> None:
    waves = Waves()
    store = prepared(tmp_path, waves)
    ensure_units(waves, store)
    turned = Codebook(waves.codebook.entries_CU.flip(0), waves.codebook.mean_U, waves.codebook.scale_U)
    saved = tmp_path / "run"
    waves.codebook = turned
    waves.save(saved)
    other = Store(store.folder)
    ensure_units(Waves(), other, saved=saved)
    assert np.array_equal(other.units - FIRST, 11 - (store.units.astype(int) - FIRST))


def test_a_collapsed_and_an_unused_codebook_are_told(tmp_path: Path) -> None:
    waves = Waves(codes=12)
    lines = units.describe(waves, {"codes": 12, "points": 9, "used": 1, "perplexity": 1.0, "error": 1.0,
                                   "largest": 1.0, "collapsed": True})  # fmt: skip
    assert "collapsed" in lines[1]
    lines = units.describe(waves, {"codes": 12, "points": 9, "used": 10, "perplexity": 9.0, "error": 0.1,
                                   "largest": 0.2, "collapsed": False})  # fmt: skip
    assert "2 of 12 codes used by no frame" in lines[1]


def test_a_run_that_trained_on_gives_other_units(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The cache goes by the run's checkpoints: units of its old weights would be taken for those of the new."""
    spread = [1.0]
    monkeypatch.setattr(units, "points_of", lambda waves, device: lambda b: waves.unit_features(b) * spread[0])
    learner, group = torch.nn.Linear(2, 2), DistributedContext()
    waves = Waves(units=f"run:{tmp_path / 'run'}@0")
    store = prepared(tmp_path, waves)
    found = []
    for step in (1, 2, 2):
        optimiser = torch.optim.AdamW(learner.parameters())
        learner(torch.ones(2)).sum().backward()
        optimiser.step()
        checkpoint.save(tmp_path / "run" / "checkpoints", step, learner, optimiser, {}, group)
        found.append(ensure_units(waves, store)[0]["path"])
        again = Waves(units=waves.units)
        assert ensure_units(again, store)[0]["path"] == found[-1]
        spread[0] *= 2
    assert len(set(found)) == 3


def test_silence_has_too_few_frames(tmp_path: Path) -> None:
    folder = tmp_path / "silent"
    folder.mkdir()
    for i in range(20):
        (folder / f"{i}.raw").write_bytes(bytes(16 * 64) + bytes([i, 0]) * 8)
    waves = Waves()
    store = prepared(tmp_path, waves, folder)
    with pytest.raises(SuiteError, match="different frames, fewer than"):
        ensure_units(waves, store)


def test_rows_carry_frames_and_units_and_zeros_at_special_tokens(tmp_path: Path) -> None:
    waves = Waves()
    store = prepared(tmp_path, waves)
    ensure_units(waves, store)
    order = RowOrder(store.split("train").lengths_S + FRAME, 128, seed=0)
    batch = Collator(store, "train", waves.vocabulary, 128, order.slots, 34).rows([order.items(0), order.items(1)])
    assert batch.frames_NF is not None
    assert batch.frames_NF.shape == (256, WIDTH) and batch.frames_NF.dtype == torch.int16
    special = batch.values < FIRST
    assert not batch.frames_NF[special].any()
    codes, _ = waves.codebook.assign(waves.unit_features(batch)[~special])
    assert torch.equal(codes + FIRST, batch.values[~special])
