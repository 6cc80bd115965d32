from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import load_file

from ssl_suite.core.batch import Batch, ragged
from ssl_suite.core.rng import Rng
from ssl_suite.models import hub
from ssl_suite.training import build
from ssl_suite.training.learner import Learner
from tests.modalities.waves import WIDTH, Waves

MODEL = {"name": "t", "layers": 2, "width": 32, "heads": 2, "mlp_width": 48, "rope_theta": None, "init_std": None}
CFG = {"model": {**MODEL, "init": None}, "objective": {"name": "mlm", "mask_rate": 0.3}, "modality": {"name": "waves"}}


def learner(waves: Waves, init: str | None = None, seed: int = 0) -> Learner:
    return build.learner({**CFG, "model": {**MODEL, "init": init}}, waves, seed).eval()


def batch_of(waves: Waves, lengths: list[int], seed: int = 0) -> Batch:
    draw = np.random.default_rng(seed)
    return ragged([draw.normal(0, 3000, (n, WIDTH)).astype(np.int16) for n in lengths], waves.vocabulary, 34)


@pytest.mark.parametrize("grid", [None, (4, 8)])
def test_what_a_position_gives_against_a_loop(grid: tuple[int, int] | None) -> None:
    waves = Waves(grid=grid)
    embedder = learner(waves).encoder.embeddings
    batch = batch_of(waves, [32, 32])
    got_ND = embedder(batch)
    for place in range(len(batch.values)):
        if place in (0, 33, 34, 67):
            expected = embedder.tok_embeddings.weight[batch.values[place]]
        else:
            expected = embedder.frames.weight @ (batch.frames_NF[place].float() / 1000)
            if grid:
                row, column = divmod(place % 34 - 1, 8)
                expected = expected + embedder.row_embeddings.weight[row] + embedder.column_embeddings.weight[column]
        torch.testing.assert_close(got_ND[place], embedder.norm(expected), rtol=1e-5, atol=1e-5)


def test_a_hidden_frame_cannot_be_seen() -> None:
    """[MASK] stands in the ids; the frame under it makes no difference."""
    waves = Waves(grid=(4, 8))
    encoder = learner(waves).encoder
    batch = batch_of(waves, [32, 20])
    hidden = batch.values.clone()
    hidden[7] = waves.vocabulary.mask
    other = batch.frames_NF.clone()
    other[7] = 12345
    assert torch.equal(encoder(batch.with_values(hidden)), encoder(batch.with_values(hidden, other)))
    assert not torch.equal(encoder(batch), encoder(batch.with_values(batch.values, other)))


def test_random_replacements_show_another_frame_of_the_sequence() -> None:
    waves = Waves()
    objective = learner(waves).objective
    objective.mask_share, objective.random_share = 0.0, 1.0
    batch = batch_of(waves, [32, 32])
    batch = batch.with_values(torch.where(batch.values >= 5, 5 + torch.arange(68) % 12, batch.values))
    picks_K, labels_K, shown_N = objective.corrupt(batch, Rng(0, 0, torch.zeros(1, dtype=torch.int64)))
    frames_NF = objective.shown_frames(batch, picks_K, shown_N, Rng(0, 1, torch.zeros(1, dtype=torch.int64)))
    hidden_K = picks_K[labels_K != -100]
    kept = torch.ones(68, dtype=torch.bool)
    kept[hidden_K] = False
    assert torch.equal(frames_NF[kept], batch.frames_NF[kept])
    for place in hidden_K.tolist():
        start = 34 * (place // 34)
        inside = batch.frames_NF[start + 1 : start + 33]  # not [CLS] nor [SEP]
        assert (inside == frames_NF[place]).all(1).any()
    assert not torch.equal(frames_NF[hidden_K], batch.frames_NF[hidden_K])


def test_the_exported_folder_opens_in_transformers_with_inputs_embeds(tmp_path: Path) -> None:
    from transformers import AutoModel, AutoModelForMaskedLM

    waves = Waves(grid=(4, 8))
    trained = learner(waves)
    build.export(trained, waves, tmp_path / "encoder", "card")
    batch = batch_of(waves, [32])
    model = AutoModel.from_pretrained(tmp_path / "encoder").eval()
    with torch.no_grad():
        expected = model(inputs_embeds=trained.encoder.embeddings.before_norm(batch)[None]).last_hidden_state[0]
        torch.testing.assert_close(trained.encoder(batch), expected, rtol=1e-4, atol=1e-5)
        assert AutoModelForMaskedLM.from_pretrained(tmp_path / "encoder").config.vocab_size == 17
    own = load_file(tmp_path / "encoder" / hub.FRAMES)
    assert set(own) == {f"embeddings.{name}.weight" for name in ("frames", "row_embeddings", "column_embeddings")}


def test_an_exported_folder_is_a_starting_point(tmp_path: Path) -> None:
    waves = Waves(grid=(4, 8))
    trained = learner(waves, seed=1)
    build.export(trained, waves, tmp_path / "encoder", "card")
    again = learner(waves, init=str(tmp_path / "encoder"), seed=2)
    assert all(
        torch.equal(x, y) for x, y in zip(trained.state_dict().values(), again.state_dict().values(), strict=True)
    )
