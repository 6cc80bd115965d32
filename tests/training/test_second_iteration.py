"""HuBERT's second iteration: units of a layer of a first run, in one command, and what becomes of them."""

from __future__ import annotations

import json
import os
import shutil
from pathlib import Path

import numpy as np
import pytest
import torch

from ssl_suite import cli
from ssl_suite.core.batch import ragged
from ssl_suite.core.codebook import Codebook
from ssl_suite.core.errors import SuiteError
from ssl_suite.data.store import Store
from ssl_suite.evaluation import encoders, references
from ssl_suite.modalities.signals import FIRST
from ssl_suite.modalities.speech import Speech
from ssl_suite.training.restore import load_run
from ssl_suite.training.units import ensure_units
from tests.test_six import SMALL

WORDS = [*(word for word in SMALL if "layers" not in word), "model.layers=2", "modality.codes=16"]


def test_units_are_the_nearest_entries_of_the_first_runs_layer(tmp_path: Path, capsys: pytest.CaptureFixture) -> None:
    first, second = tmp_path / "first", tmp_path / "second"
    assert cli.main(["run", "modality=speech", *WORDS, f"out={first}"]) == 0
    words = [f"modality.units=run:{first}@1", "train.steps=8", f"out={second}"]
    assert cli.main(["run", "modality=speech", *WORDS, *words]) == 0
    assert f"16 codes (run:{first}@1)" in capsys.readouterr().out
    lines = [json.loads(line) for line in (second / "metrics.jsonl").read_text().splitlines()]
    assert any(np.isfinite(line["loss"]) for line in lines if "loss" in line)

    # By hand, a window alone: the layer's states, and the nearest of 16 entries of as many numbers as the layer has.
    summary, loaded = json.loads((second / "summary.json").read_text()), load_run(str(first))
    book = Codebook.load(second / "modality" / "codebook.safetensors")
    assert book.entries_CU.shape == (16, loaded.encoder.width)
    (folder,) = Path(os.environ["SSL_CACHE_DIR"]).glob(f"speech-{summary['data_key'][:24]}")
    store, speech = Store(folder), Speech(codes=16, units=f"run:{first}@1")
    ensure_units(speech, store, saved=second / "modality")
    windows = store.split("train")
    for s in (0, 5):
        start, length = int(windows.starts_S[s]), int(windows.lengths_S[s])
        frames = np.asarray(store.values[start : start + length])
        with torch.no_grad():
            states_TD = loaded.encoder.layer_states(ragged([frames], speech.vocabulary, 512))[1][1:-1]
        points_TU = (states_TD - book.mean_U) / book.scale_U
        nearest_T = torch.cdist(points_TU, book.entries_CU).argmin(1).numpy()
        assert (nearest_T == store.units[start : start + length] - FIRST).mean() > 0.99  # but for rounding

    # What the second run has learned does not need the first any more.
    shutil.rmtree(first)
    opened = encoders.open_encoder(references.parse(str(second)), speech, 0)
    assert opened.pretrain_step is not None and "objective=mlm" in opened.note
    with pytest.raises(SuiteError, match=r"modality\.units=run:.*first@1: .* is not a run folder"):
        ensure_units(Speech(codes=16, units=f"run:{first}@1"), store)
