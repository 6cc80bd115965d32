"""Frozen features: vectors against one sequence at a time, encoders that stand still, and the mix of layers."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from ssl_suite.core.batch import Batch, ragged
from ssl_suite.core.errors import SuiteError
from ssl_suite.core.rng import Rng
from ssl_suite.data.loader import Collator
from ssl_suite.data.store import Windows
from ssl_suite.evaluation.encode import pooled
from ssl_suite.evaluation.encoders import Opened, digest, open_encoder
from ssl_suite.evaluation.frozen import Features, position_features, sequence_features
from ssl_suite.evaluation.heads.classification import Classification
from ssl_suite.evaluation.references import parse
from ssl_suite.evaluation.task_data import Split, TaskData
from ssl_suite.modalities.base import Modality
from ssl_suite.modalities.dna import DNA
from ssl_suite.modalities.image import Image
from ssl_suite.models.pooling import mean_pool
from ssl_suite.training.learner import Learner
from tests.evaluation import text_models

DNA_60, PICTURE = DNA(max_length=60), Image(size=12, patch=4)
COUNTS = {"train": 64, "dev": 13, "test": 9}


def made(modality: Modality, counts: dict[str, int] = COUNTS, longest: int = 58) -> TaskData:
    """A task's data: random sequences of 1 to ``longest`` tokens, or pictures."""
    draw, parts, begin = np.random.default_rng(0), {}, 0
    for name, count in counts.items():
        lengths = draw.integers(1, longest + 1, count).astype(np.int32)
        if modality.frame is not None:
            lengths[:] = modality.max_length - 2
        starts = begin + np.concatenate([[0], np.cumsum(lengths)[:-1]]).astype(np.int64)
        windows = Windows(starts, lengths, np.arange(count, dtype=np.int32))
        labels = draw.permutation(np.arange(count) % 3).astype(np.int64)
        parts[name] = Split(np.arange(count, dtype=np.int32), labels, windows, count)
        begin += int(lengths.sum())
    low, high = modality.vocabulary.targets if modality.frame is None else (0, 256)
    shape = (begin,) if modality.frame is None else (begin, modality.frame.width)
    return TaskData("mine", draw.integers(low, high, shape).astype(np.uint8), parts, ("a", "b", "c"), "", "", {})


def sequences(data: TaskData, split: str) -> list[np.ndarray]:
    windows = data.split(split)
    spans = zip(windows.starts_S.tolist(), windows.lengths_S.tolist(), strict=True)
    return [data.values[start : start + length] for start, length in spans]


class Restless(nn.Module):
    """Whatever may move: dropout, a batch norm with running statistics."""

    width = 8

    def __init__(self) -> None:
        super().__init__()
        self.rows, self.norm, self.drop = nn.Embedding(12, 8), nn.BatchNorm1d(8), nn.Dropout(0.5)

    def layer_states(self, batch: Batch) -> list[Tensor]:
        rows_ND = self.rows(batch.values)
        return [rows_ND, self.norm(self.drop(rows_ND))]

    def pooled(self, batch: Batch) -> Tensor:
        return mean_pool(self.layer_states(batch)[-1], batch, DNA_60.vocabulary.pad)


@pytest.fixture(scope="module")
def encoders(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    folder: Path = text_models.save(tmp_path_factory.mktemp("mpnet"), "mpnet")
    names = {"own": "random:tiny", "cnn": "cnn", "text": f"hf:{folder}+map"}
    found = {name: open_encoder(parse(text), DNA_60, 0, dropout=None).encoder for name, text in names.items()}
    torch.manual_seed(0)
    found |= {"restless": Restless(), "picture": open_encoder(parse("random:resnet10"), PICTURE, 0).encoder}
    with torch.no_grad():  # norms and statistics far from where they start
        for encoder in found.values():
            for x in encoder.parameters():
                x.add_(torch.randn_like(x) * 0.05)
            for name, x in encoder.named_buffers():
                x.add_(torch.rand_like(x) * 0.1) if "running" in name else None
    return found


def kept(folder: Path, encoder: Any, opened: list[Any] | None = None) -> Features:
    """What an encoder gives, kept in a folder; ``opened`` grows each time that the encoder is opened."""

    def open_encoder() -> Opened:
        if opened is not None:
            opened.append(encoder)
        return Opened(encoder.eval(), None, 0, None)

    return Features(folder, open_encoder, torch.device("cpu"))


def naive(encoder: Any, values: np.ndarray) -> np.ndarray:
    """(L + 1, D): one sequence alone, its states without [CLS] and [SEP], the last ones after the final norm."""
    with torch.no_grad():
        states = encoder.layer_states(ragged([values], DNA_60.vocabulary, 60))
        if hasattr(encoder, "final_norm"):
            states[-1] = encoder.final_norm(states[-1])
    return np.stack([state[1:-1].numpy().astype(np.float64).mean(0) for state in states])


@pytest.mark.parametrize("name", ["own", "cnn", "text", "restless"])
def test_vectors_are_means_over_each_sequence(encoders: dict[str, Any], name: str) -> None:
    encoder, data = encoders[name].train(), made(DNA_60)
    before = digest(encoder)
    found = pooled(encoder, data, DNA_60, "train", at_once=300)
    assert digest(encoder) == before and not any(module.training for module in encoder.modules())
    assert found.dtype == np.float32 and len(found) == 64
    expected = [naive(encoder, values) for values in sequences(data, "train")]
    np.testing.assert_allclose(found, expected, atol=1e-5)
    last = encoder.pooled(ragged(sequences(data, "train")[:5], DNA_60.vocabulary, 60)).detach().numpy()
    np.testing.assert_allclose(found[:5, -1], last, atol=1e-5)  # as a head that is fine-tuned sees it


def test_a_convnet_has_one_vector_a_picture_and_stands_still(encoders: dict[str, Any]) -> None:
    encoder, data = encoders["picture"].train(), made(PICTURE, {"train": 10, "dev": 4, "test": 3})
    before = digest(encoder)  # of the running statistics as well
    found = [pooled(encoder.train(), data, PICTURE, "train", at_once) for at_once in (1, 7 * 11, 10_000)]
    assert digest(encoder) == before and found[0].shape == (10, 1, encoder.width)
    np.testing.assert_allclose(found[1], found[0], atol=1e-4)
    np.testing.assert_allclose(found[2], found[0], atol=1e-4)
    assert not np.allclose(found[0][0], found[0][1], atol=1e-2)


def test_a_mix_is_a_weighted_sum_of_standardised_layers(encoders: dict[str, Any], tmp_path: Path) -> None:
    encoder, data = encoders["text"], made(DNA_60)
    vectors = {split: pooled(encoder, data, DNA_60, split, 2000).astype(np.float64) for split in COUNTS}
    frozen, mix = sequence_features(kept(tmp_path, encoder), data, DNA_60, tuple(COUNTS), at_once=2000)
    weights = np.array([0.3, -1.0, 2.0])
    with torch.no_grad():
        mix.weights_L.copy_(torch.from_numpy(weights))
    share = np.exp(weights) / np.exp(weights).sum()
    for split, count in COUNTS.items():
        assert frozen.parts[split].labels_I is data.parts[split].labels_I and len(frozen.split(split)) == count
        collator = Collator(frozen, split, DNA_60.vocabulary, 40, 12, 60)  # type: ignore[arg-type]
        order = np.arange(count)[::-1][:8]
        batch = collator.rows([order, order[:3]])
        found = mix.pooled(batch).detach().numpy()
        for key, vector in zip(batch.index_B.tolist(), found, strict=True):
            if key < 0:
                assert np.isfinite(vector).all()
                continue
            expected = np.zeros(mix.width)
            for layer in range(3):
                train = vectors["train"][:, layer]  # the means and deviations are of training, for every split
                expected += share[layer] * (vectors[split][key, layer] - train.mean(0)) / train.std(0)
            np.testing.assert_allclose(vector, expected, atol=1e-4)


def test_the_trainer_takes_it(encoders: dict[str, Any], tmp_path: Path) -> None:
    """A probe is a learner as any other: its loss falls, every weight has a gradient, the encoder has none."""
    encoder, data = encoders["own"], made(DNA_60)
    before = digest(encoder)
    frozen, mix = sequence_features(kept(tmp_path, encoder), data, DNA_60, tuple(COUNTS), at_once=2000)
    part = frozen.parts["train"]
    labels_I = np.array([int((values == 5).sum() > (values == 6).sum()) for values in sequences(data, "train")])
    head = Classification(mix, replace(frozen, parts={"train": replace(part, labels_I=labels_I)}, classes=("a", "b")))
    learner = Learner(mix, head)  # type: ignore[arg-type]
    batch = Collator(frozen, "train", DNA_60.vocabulary, 192, 64, 60).rows([np.arange(64)])  # type: ignore[arg-type]
    optimiser, losses = torch.optim.Adam(learner.parameters(), lr=0.02), []
    for step in range(40):
        optimiser.zero_grad()
        loss, count, _ = learner(batch, Rng(0, step, torch.zeros(1, dtype=torch.int64)))
        (loss / count).backward()
        assert all(p.grad is not None and bool(p.grad.any()) for p in learner.parameters())
        optimiser.step()
        losses.append((loss / count).item())
    assert losses[-1] < 0.5 * losses[0] and count.item() == 64
    assert head.flops(vars(mix.spec), batch) > 0 and digest(encoder) == before
    assert all(p.grad is None for p in encoder.parameters())


def test_states_are_computed_once_and_read_by_every_trial(encoders: dict[str, Any], tmp_path: Path) -> None:
    """Means and positions: the second trial opens no encoder, a further part asks for that part alone."""
    data, opened = made(DNA_60), []
    first = sequence_features(kept(tmp_path, encoders["own"], opened), data, DNA_60, ("train", "dev"))[0]
    again = sequence_features(kept(tmp_path, encoders["text"], opened), data, DNA_60, ("train", "dev"))[0]
    assert len(opened) == 1 and np.array_equal(first.values, again.values)
    sequence_features(kept(tmp_path, encoders["own"], opened), data, DNA_60, ("train", "test"))
    assert len(opened) == 2

    opened.clear()
    folder = tmp_path / "positions"
    for _ in range(2):
        found, mix = position_features(kept(folder, encoders["own"], opened), data, DNA_60, ("train", "dev"))
    assert len(opened) == 1 and found.values.dtype == np.float16 and mix.width == encoders["own"].width
    windows, values = data.split("dev"), sequences(data, "dev")
    for s in (0, 5, 12):
        with torch.no_grad():
            states = encoders["own"].layer_states(ragged([values[s]], DNA_60.vocabulary, 60))
            states[-1] = encoders["own"].final_norm(states[-1])
        expected = torch.stack(states, 1)[1:-1].flatten(1).numpy()
        start = int(windows.starts_S[s])
        np.testing.assert_allclose(found.values[start : start + len(expected)], expected, rtol=2e-3, atol=2e-3)
    assert not found.values[int(data.split("test").starts_S[0])].any()  # test is not opened yet
    found, _ = position_features(kept(folder, encoders["own"], opened), data, DNA_60, ("train", "test"))
    assert len(opened) == 2 and found.values[int(data.split("test").starts_S[0])].any()
    (folder / "states.npy").unlink()  # somebody made room
    found, _ = position_features(kept(folder, encoders["own"], opened), data, DNA_60, ("dev",))
    assert len(opened) == 3 and found.values[int(windows.starts_S[0])].any()


def test_what_is_too_large_stays_with_the_encoder(encoders: dict[str, Any], tmp_path: Path) -> None:
    data = made(DNA_60)
    kept_in, mix = position_features(kept(tmp_path / "a", encoders["own"]), data, DNA_60, ("train",))
    given, running = position_features(kept(tmp_path / "b", encoders["own"]), data, DNA_60, ("train",), most=1000)
    assert given is data and not (tmp_path / "b" / "states.npy").exists()
    vectors = []
    for some, module in ((kept_in, mix), (given, running)):
        collator = Collator(some, "train", DNA_60.vocabulary, 70, 12, 60)  # type: ignore[arg-type]
        batch = collator.rows([np.array([3])])
        length = int(data.split("train").lengths_S[3])
        vectors.append(module(batch)[1 : length + 1].detach().numpy())
    np.testing.assert_allclose(vectors[0], vectors[1], rtol=0.02, atol=0.02)


def test_an_encoder_that_moves_is_found(tmp_path: Path) -> None:
    class Moving(Restless):
        def layer_states(self, batch: Batch) -> list[Tensor]:
            with torch.no_grad():
                self.rows.weight.add_(0.1)
            return super().layer_states(batch)

    with pytest.raises(SuiteError, match="weights moved"):
        kept(tmp_path, Moving()).means(made(DNA_60), DNA_60, "dev")
    assert not (tmp_path / "dev.npy").exists()
