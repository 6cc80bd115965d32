"""Filter banks with deltas against torchaudio's, sequence by sequence."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torchaudio.functional import compute_deltas

from ssl_suite.core.batch import ragged
from ssl_suite.core.errors import SuiteError
from ssl_suite.evaluation import encoders, references
from ssl_suite.modalities.dna import DNA
from ssl_suite.modalities.speech import Speech
from ssl_suite.models.filterbank import Filterbank


def test_features_and_slopes_are_those_of_torchaudio() -> None:
    speech = Speech(max_length=40)
    draw = np.random.default_rng(0)
    sounds = [draw.integers(-3000, 3000, (n, 320)).astype(np.int16) for n in (1, 2, 7)]
    bank = Filterbank(speech)
    found_BD = bank.pooled(ragged(sounds, speech.vocabulary, 40))
    states_ND = bank(ragged(sounds, speech.vocabulary, 40))
    start = 0
    for sound, vector_D in zip(sounds, found_BD, strict=True):
        alone = ragged([sound], speech.vocabulary, 40)
        x_MB = speech.features(alone).float()[1:-1].reshape(-1, 80)
        once_MB = compute_deltas(x_MB.T).T
        rows_TD = torch.cat((x_MB, once_MB, compute_deltas(once_MB.T).T), 1).reshape(len(sound), 480)
        inside = slice(start + 1, start + 1 + len(sound))
        torch.testing.assert_close(states_ND[inside], rows_TD, atol=1e-5, rtol=1e-5)
        torch.testing.assert_close(vector_D, rows_TD.mean(0), atol=1e-5, rtol=1e-5)
        assert not states_ND[start].any() and not states_ND[start + 1 + len(sound)].any()
        start += len(sound) + 2


def test_it_is_for_speech() -> None:
    opened = encoders.open_encoder(references.parse("fbank"), Speech(), seed=0)
    assert opened.params == 0 and opened.encoder.width == 480
    with pytest.raises(SuiteError, match="encoder=fbank is for speech, not modality=dna"):
        encoders.open_encoder(references.parse("fbank"), DNA(), seed=0)
