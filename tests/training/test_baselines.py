import numpy as np
import pytest

from ssl_suite.core import registry
from ssl_suite.data.prepare import prepare
from ssl_suite.models import markov
from ssl_suite.settings import config
from ssl_suite.training import build
from ssl_suite.training.baselines import best_followers, count_models, guesses, hide
from ssl_suite.training.distributed import DistributedContext
from ssl_suite.training.evaluate import Evaluator


@pytest.fixture
def parts():
    words = ["model=tiny", "modality.max_length=64", "train.tokens_per_row=256", "train.eval_tokens=2048"]
    cfg = config.compose([*words, "objective.mask_share=0.6", "objective.random_share=0.3"])
    modality = registry.build(registry.MODALITIES, "modality", cfg["modality"])
    store = prepare(modality, cfg["data"], report=lambda text: None)
    objective = build.learner(cfg, modality).objective
    evaluator = Evaluator(store, modality, cfg["train"], DistributedContext(), objective)
    return store, modality, evaluator, objective


def test_windows_are_shown_as_the_encoder_sees_them(parts):
    store, modality, evaluator, objective = parts
    before = markov.window_symbols(store.values, store.split("valid"), modality.vocabulary.targets)
    ids = before.copy()
    mask = hide(ids, evaluator, objective, 5)
    seen = np.zeros_like(mask)
    for batch, rng in evaluator.batches(evaluator.group):
        _, _, shown = objective.corrupt(batch, rng)
        for key, piece in zip(batch.index_B.tolist(), shown.split(list(batch.lengths)), strict=True):
            if key >= 0:
                inside = piece[1:-1].numpy()
                seen[key, : len(inside)] = True
                assert np.array_equal(mask[key, : len(inside)], inside == modality.vocabulary.mask)
                visible = ~mask[key, : len(inside)]
                assert np.array_equal(ids[key, : len(inside)][visible], inside[visible] - 5)
    assert np.array_equal(ids[mask], before[mask])  # the answers stay
    assert np.array_equal(ids[~seen], before[~seen])
    assert 0.05 < (ids != before)[seen].mean() / 0.15 / 0.3 < 1.0  # a random base is another one in 3 of 4 draws


def test_count_models_are_those_of_the_chain(parts):
    store, modality, evaluator, objective = parts
    found = count_models(store, modality, evaluator, objective, two_sided=(3,))
    targets = modality.vocabulary.targets
    chain = markov.fit(markov.training_sequences(store, targets), 4, 5)
    windows = markov.window_symbols(store.ids, store.split("valid"), targets)
    for order, name in ((0, "unigram"), (1, "order-1"), (3, "order-3"), (5, "order-5")):
        total, count = markov.sequential(chain.at(order), windows)
        assert found[name] == pytest.approx(total / count)
    assert found["order-3"] < found["unigram"] < np.log(4) + 1e-6
    assert "order-3 both sides" in found and "order-5 both sides" not in found


def test_guesses_against_a_loop(parts):
    store, modality, evaluator, objective = parts
    found = guesses(store, modality, evaluator, objective)
    low, high = modality.vocabulary.targets
    counts, after, before = np.zeros(4), np.zeros((4, 4)), np.zeros((4, 4))
    for sequence in markov.training_sequences(store, (low, high)):
        previous = -1
        for symbol in sequence.tolist():
            if symbol >= 0:
                counts[symbol] += 1
                if previous >= 0:
                    after[previous, symbol] += 1
                    before[symbol, previous] += 1
            previous = symbol
    right = np.zeros(3)
    total = 0
    whole = markov.window_symbols(store.ids, store.split("valid"), (low, high))
    mask = hide(whole.copy(), evaluator, objective, low)
    for w, t in zip(*np.nonzero(mask), strict=True):
        constant = counts.argmax()
        left = whole[w, t - 1] if t else -1
        next_ = whole[w, t + 1] if t + 1 < whole.shape[1] else -1
        answers = (constant, after[left].argmax() if left >= 0 else constant,
                   before[next_].argmax() if next_ >= 0 else constant)  # fmt: skip
        right += [answer == whole[w, t] for answer in answers]
        total += 1
    assert list(found.values()) == pytest.approx(right / total)
    assert list(found) == ["constant", "left neighbour", "right neighbour"]


def test_the_commonest_follower():
    line = np.array([0, 1, 0, 1, 0, 2, -1, 2, 2, 2, 0, -1, 1])
    assert best_followers(line, 4, 9).tolist() == [1, 0, 2, 9]
