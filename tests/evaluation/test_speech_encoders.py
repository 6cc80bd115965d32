"""Speech encoders of ``transformers`` by reference: under a frame head, frozen or tuned, and as a shape alone."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch

from ssl_suite.core.errors import SuiteError
from ssl_suite.evaluation.encoders import open_encoder
from ssl_suite.evaluation.references import parse
from ssl_suite.modalities.speech import Speech
from tests.evaluation.heads.planted import measured, task
from tests.modalities.made_speech import sound_file, tone
from tests.models.test_foreign_speech import batch_of, folders  # noqa: F401

SPEECH = Speech(max_length=60, codes=12)


@pytest.mark.parametrize("kind", ["hubert", "whisper"])
def test_a_frame_head_reads_its_layers(kind: str, folders: Any, tmp_path) -> None:  # noqa: F811
    rows = [
        {"audio": sound_file(tone(0.4, hertz=hertz, level=0.2 + 0.01 * i)), "text": "a" if hertz < 500 else "b"}
        for i in range(10)
        for hertz in (300.0, 900.0)
    ]
    facts: dict[str, Any] = {"modality": {"name": "speech", "max_length": 60, "codes": 12}, "inputs": "audio"}
    head = {"name": "ctc", "projection": 8}
    made = task(tmp_path, rows, label="text", head=head, metrics=["cer"], select="cer", **facts)
    for protocol in ("probe", "finetune"):
        found, _ = measured(made, tmp_path / "out", protocol, f"hf:{folders[kind]}", epochs=1, probe_steps=2)
        assert found.encoder["weights_sha256"] and len(found.predictions["test"][1]) == 2


def test_its_shape_alone_has_other_weights(folders: Any) -> None:  # noqa: F811
    reference = parse(f"hf:{folders['wavlm']}")
    given, own = batch_of(SPEECH.vocabulary), open_encoder(reference, SPEECH, 1)
    bare = [open_encoder(reference, SPEECH, seed, scratch=True) for seed in (5, 5, 6)]
    with torch.no_grad():
        states = [opened.encoder(given).numpy() for opened in (own, *bare)]
    assert own.weights_sha256 and bare[0].weights_sha256 is None
    assert np.array_equal(states[1], states[2])
    assert not np.allclose(states[0], states[1]) and not np.allclose(states[1], states[3])


def test_what_does_not_fit_is_one_line(folders: Any) -> None:  # noqa: F811
    for encoder, match in (
        (f"hf:{folders['hubert']}+reembed", "no words to map"),
        ("hf:./nowhere", "there is no such folder"),
        (f"hf:{folders['whisper']}", "has 70 positions: set modality.max_length=72"),
    ):
        with pytest.raises(SuiteError, match=match) as caught:
            open_encoder(parse(encoder), Speech(max_length=200, codes=12), 1)
        assert "\n" not in str(caught.value)
