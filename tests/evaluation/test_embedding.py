"""Vectors of an encoder that reads ids, on a modality whose records are signals."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import torch

from ssl_suite.core.batch import ragged
from ssl_suite.data.prepare import prepare
from ssl_suite.data.store import Windows
from ssl_suite.evaluation.encode import states, with_units
from ssl_suite.evaluation.items import Sequence
from ssl_suite.evaluation.task_data import Split, TaskData
from ssl_suite.models.encoder import Encoder, EncoderSpec
from ssl_suite.training import units
from tests.modalities.waves import Waves, write


def test_frames_are_given_their_units_first(tmp_path: Path) -> None:
    waves = Waves(codes=6)
    data = {"path": str(write(tmp_path / "in")), "cache": str(tmp_path / "cache")}
    store = prepare(waves, data, report=lambda line: None)
    units.ensure_units(waves, store, report=lambda line: None)
    assert store.units is not None
    torch.manual_seed(0)
    size = len(waves.vocabulary)
    spec = EncoderSpec(1, 16, 2, 24, size, windows=(None,), thetas=(64.0,))
    encoder = Encoder(spec).eval()
    lengths = [7, 12, 20]
    starts = [0, 3, 70]  # stretches of different shapes
    frames = [store.values[start : start + length] for start, length in zip(starts, lengths, strict=True)]
    ids = [store.units[start : start + length] for start, length in zip(starts, lengths, strict=True)]
    given = states(encoder, waves, enumerate(map(Sequence, frames)), layer=-1)
    found = np.stack([vector for _, vector in given])
    with torch.no_grad():
        expected = encoder.pooled(ragged([x.astype(np.int64) for x in ids], waves.vocabulary, 34)).numpy()
    np.testing.assert_allclose(found, expected, rtol=1e-5, atol=1e-6)
    assert np.abs(found[0] - found[1]).max() > 1e-3
    windows = Windows(np.array(starts), np.array(lengths), np.arange(3))
    part = Split(np.arange(3), np.arange(3), windows, 3)
    made = with_units(encoder, TaskData("t", store.values, {"train": part}, (), "", "", {}), waves, torch.device("cpu"))
    for start, length in zip(starts, lengths, strict=True):
        np.testing.assert_array_equal(made.ids[start : start + length], store.units[start : start + length])
