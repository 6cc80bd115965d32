"""Filter banks with deltas against a naive loop, sequence by sequence."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from ssl_suite.core.batch import ragged
from ssl_suite.core.errors import SuiteError
from ssl_suite.evaluation import encoders, references
from ssl_suite.modalities.dna import DNA
from ssl_suite.modalities.speech import Speech
from ssl_suite.models.filterbank import Filterbank


def test_features_and_slopes_are_those_of_a_loop() -> None:
    speech = Speech(max_length=40)
    draw = np.random.default_rng(0)
    sounds = [draw.integers(-3000, 3000, (n, 320)).astype(np.int16) for n in (1, 2, 7)]
    bank = Filterbank(speech)
    found_BD = bank.pooled(ragged(sounds, speech.vocabulary, 40))
    states_ND = bank(ragged(sounds, speech.vocabulary, 40))
    start = 0
    for sound, vector_D in zip(sounds, found_BD, strict=True):
        alone = ragged([sound], speech.vocabulary, 40)
        x_NG = speech.features(alone).float()[1:-1]
        rows = []
        for t in range(len(x_NG)):
            slope_G = (x_NG[min(t + 1, len(x_NG) - 1)] - x_NG[max(t - 1, 0)]) / 2
            rows.append(torch.cat((x_NG[t], slope_G)))
        torch.testing.assert_close(
            states_ND[start + 1 : start + 1 + len(sound)], torch.stack(rows), atol=1e-5, rtol=1e-5
        )
        torch.testing.assert_close(vector_D, torch.stack(rows).mean(0), atol=1e-5, rtol=1e-5)
        assert not states_ND[start].any() and not states_ND[start + 1 + len(sound)].any()
        start += len(sound) + 2


def test_it_is_for_speech() -> None:
    opened = encoders.open_encoder(references.parse("fbank"), Speech(), seed=0)
    assert opened.params == 0 and opened.encoder.width == 320
    with pytest.raises(SuiteError, match="encoder=fbank is for speech, not modality=dna"):
        encoders.open_encoder(references.parse("fbank"), DNA(), seed=0)
