"""Random views of music batches against loops over their sequences."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch

from ssl_suite.core.batch import Batch
from ssl_suite.core.rng import Rng
from ssl_suite.modalities.music import Music
from tests.modalities.made import ragged
from tests.modalities.made_music import midi, note, piece, record
from tests.modalities.test_music import KINDS, trained

PAD, CLS, SEP = 0, 2, 3
STILL = {"transpose_down": 0, "transpose_up": 0, "tempo": 0.0, "velocity": 0.0, "crop": 1.0}


def laid_out(music: Music, rows: list[list[bytes]], n: int) -> Batch:
    """The beginnings of pieces, so that those of a row fit into ``n`` positions."""
    rest = [[music.encode(record(data)).values.tolist()[: n // len(some) - 3] for data in some] for some in rows]
    return ragged(rest, n)


def rng(step: int, rows: int = 1, first: int = 0) -> Rng:
    return Rng(seed=11, step=step, rows_R=torch.arange(first, first + rows))


def views_of(music: Music, batch: Batch, step: int) -> list[tuple[list[int], list[int]]]:
    """Each sequence and its view, without special tokens; checks the view's frame."""
    view = music.augment(batch, rng(step, batch.rows))
    assert torch.equal(view.offsets_B1, batch.offsets_B1)
    assert view.values.dtype == batch.values.dtype
    pairs = []
    for start, end in zip(batch.offsets_B1[:-1].tolist(), batch.offsets_B1[1:].tolist(), strict=True):
        before, ids = batch.values[start:end].tolist(), view.values[start:end].tolist()
        if not ids or before[0] == PAD:
            assert set(ids) <= {PAD}
            continue
        stop = ids.index(SEP)
        assert ids[0] == CLS
        assert set(ids[stop + 1 :]) <= {PAD}
        assert min(ids[1:stop]) >= 5
        assert max(ids[1:stop]) < len(music.vocabulary)
        pairs.append((before[1 : before.index(SEP)], ids[1:stop]))
    return pairs


ROWS = [[piece(1), piece(2, programs=(40, 0), drums=True)], [piece(3), piece(4, notes=20)]]


def place_of(part: list[int], whole: list[int]) -> int:
    """Where a stretch begins."""
    return next(i for i in range(len(whole)) if whole[i : i + len(part)] == part)


@pytest.mark.parametrize("kind", KINDS)
def test_crops_begin_and_end_where_music_does(kind: str) -> None:
    music = Music(tokenizer=kind, **{**STILL, "crop": 0.4})  # type: ignore[arg-type]
    batch = laid_out(music, ROWS, 400)
    opens = {"remi": ("Bar",), "tsd": ("TimeShift",), "pitch": ("",)}[kind]
    tokens, begins, shares = music.vocabulary.tokens, set(), []
    for step in range(60):
        for whole, part in views_of(music, batch, step):
            begin = place_of(part, whole)
            end = begin + len(part)
            assert begin == 0 or tokens[part[0]].startswith(opens)
            assert end == len(whole) or tokens[whole[end]].startswith(opens)
            assert len(part) >= 0.4 * len(whole)
            begins.add(begin)
            shares.append(len(part) / len(whole))
    assert len(begins) > 2
    assert np.mean(shares) < 0.97


def test_crops_reach_every_bar() -> None:
    music = Music(**{**STILL, "crop": 0.3})  # type: ignore[arg-type]
    data = midi(b"".join(note(0, 60 + i, 480) for i in range(24)))  # six bars of 4/4
    batch = laid_out(music, [[data]], 200)
    whole = music.encode(record(data))
    lines = [*whole.bounds.tolist(), len(whole.values)]  # type: ignore[union-attr]
    seen = set()
    for step in range(250):
        ((before, part),) = views_of(music, batch, step)
        begin = place_of(part, before)
        seen.add((lines.index(begin), lines.index(begin + len(part))))
    wide = {(i, j) for i in range(6) for j in range(i + 3, 7)}
    assert wide <= seen <= {(i, j) for i in range(6) for j in range(i + 2, 7)}


@pytest.mark.parametrize("kind", KINDS)
def test_transposition(kind: str) -> None:
    music = Music(tokenizer=kind, **{**STILL, "transpose_down": 6, "transpose_up": 5})  # type: ignore[arg-type]
    high = midi(b"".join(note(0, pitch, 240) for pitch in (124, 125, 124, 120) * 4))
    low = midi(b"".join(note(0, pitch, 240) for pitch in (2, 9, 2, 4) * 4))
    wide = midi(b"".join(note(0, pitch, 240) for pitch in (0, 127) * 8))
    batch = laid_out(music, [[piece(1), high], [low, wide], [piece(2, drums=True), piece(3)]], 300)
    low_id, high_id = music._ids.range("Pitch")
    seen: list[set[int]] = [set() for _ in range(6)]
    counts = np.zeros(12, int)
    for step in range(120):
        for number, (whole, part) in enumerate(views_of(music, batch, step)):
            changes = {b - a for a, b in zip(whole, part, strict=True) if low_id <= a < high_id}
            assert len(changes) == 1
            assert all(a == b for a, b in zip(whole, part, strict=True) if not low_id <= a < high_id)
            seen[number] |= changes
            counts[next(iter(changes)) + 6] += number == 0
    every = set(range(-6, 6))
    assert seen == [every, set(range(-6, 3)), set(range(-2, 6)), {0}, every, every]
    assert counts.min() > 2  # of 12.5 expected


@pytest.mark.parametrize("kind", KINDS[:2])
def test_tempo_and_loudness(kind: str) -> None:
    music = Music(tokenizer=kind, **{**STILL, "tempo": 0.3, "velocity": 0.5})  # type: ignore[arg-type]
    tokens = music.vocabulary.tokens
    batch = laid_out(music, ROWS, 400)

    def levels(ids: list[int], what: str) -> np.ndarray:
        return np.array([float(tokens[i].split("_")[1]) for i in ids if tokens[i].startswith(what)])

    ratios: dict[str, list[float]] = {"Tempo": [], "Velocity": []}
    for step in range(40):
        for whole, part in views_of(music, batch, step):
            assert [tokens[i].split("_")[0] for i in whole] == [tokens[i].split("_")[0] for i in part]
            for what, inner, slack in (("Tempo", (25, 200), 1.1), ("Velocity", (40, 80), 1.1)):
                before, after = levels(whole, what), levels(part, what)
                used = (before > inner[0]) & (before < inner[1])  # levels at the ends stay there
                ratio = (after / before)[used]
                if len(ratio):
                    assert ratio.max() / ratio.min() < slack**2  # one factor a sequence, up to a level's rounding
                    ratios[what].append(float(np.median(ratio)))
    for what, most in (("Tempo", 1.3), ("Velocity", 1.5)):
        assert most / 1.12 < max(ratios[what]) < most * 1.1
        assert 1 / (most * 1.1) < min(ratios[what]) < 1.12 / most
        assert abs(np.median(np.log(ratios[what]))) < 0.1


def test_views_of_bpe_are_stretches() -> None:
    music = trained("remi")
    batch = laid_out(music, ROWS, 300)
    lengths = set()
    for step in range(20):
        for whole, part in views_of(music, batch, step):
            place_of(part, whole)
            lengths.add(len(part))
    assert len(lengths) > 20


def test_nothing_changes_where_all_is_switched_off() -> None:
    for kind in KINDS:
        music = Music(tokenizer=kind, **STILL)  # type: ignore[arg-type]
        batch = laid_out(music, ROWS, 400)
        assert torch.equal(music.augment(batch, rng(0, 2)).values, batch.values)


def test_a_row_gets_the_same_view_in_any_batch_and_views_differ_by_step() -> None:
    music = Music()
    both = music.augment(laid_out(music, ROWS, 400), rng(3, rows=2)).values
    second = music.augment(laid_out(music, ROWS[1:], 400), rng(3, rows=1, first=1)).values
    assert torch.equal(both[400:], second)
    assert not torch.equal(music.augment(laid_out(music, ROWS, 400), rng(4, rows=2)).values, both)


def test_a_view_of_a_view_is_framed_by_its_own_end() -> None:
    music = Music(**{**STILL, "crop": 0.5})  # type: ignore[arg-type]
    batch = laid_out(music, ROWS, 400)
    first = music.augment(batch, rng(0, rows=2))
    for whole, part in views_of(music, first, 1):
        place_of(part, whole)


@pytest.mark.parametrize(
    "make", [*(lambda kind=kind: Music(tokenizer=kind) for kind in KINDS), lambda: trained("remi")]
)
def test_no_view_waits_for_the_device(make: Any) -> None:
    """Tensors on "meta" have no values: anything that would look at one on the host raises."""
    music = make()
    batch = laid_out(music, ROWS, 400).to(torch.device("meta"))
    view = music.augment(batch, Rng(0, 0, torch.arange(2, device="meta")))
    assert view.values.is_meta
    assert view.values.shape == (800,)
