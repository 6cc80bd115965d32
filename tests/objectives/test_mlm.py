import types
from dataclasses import replace

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from scipy import stats

from ssl_suite.core.errors import SuiteError
from ssl_suite.core.records import Vocabulary
from ssl_suite.core.rng import Rng
from ssl_suite.models.encoder import Encoder, EncoderSpec
from ssl_suite.objectives.mlm import MaskedLM
from tests.conftest import ragged

SPEC = EncoderSpec(1, 32, 2, 48, 20, windows=(None,), thetas=(10_000.0,), init_std=0.2)


def objective(reach: int = 1, continues: frozenset[int] = frozenset(), **settings) -> MaskedLM:
    vocabulary = Vocabulary(tuple(map(str, range(20))), targets=(5, 9), reach=reach, continues=continues)
    return MaskedLM(types.SimpleNamespace(name="test", vocabulary=vocabulary), SPEC, **settings)


def rng(step: int = 0, rows: int = 1) -> Rng:
    return Rng(0, step, torch.arange(rows))


@pytest.mark.parametrize("shares", [(0.8, 0.1), (1.0, 0.0), (0.0, 1.0), (0.0, 0.0)])
def test_shares_of_the_three_cases(shares):
    """Over 10^6 picks: [MASK], random and unchanged within five standard deviations of what is asked."""
    mlm = objective(mask_rate=0.5, mask_share=shares[0], random_share=shares[1])
    batch = ragged([20_000] * 10, rows=10)
    masked = shown_other = total = 0
    for step in range(10):
        picks, labels, shown = mlm.corrupt(batch, rng(step, 10))
        picks, labels = picks[labels != -100], labels[labels != -100]
        masked += (shown[picks] == 4).sum().item()
        shown_other += ((shown[picks] != 4) & (shown[picks] != labels)).sum().item()
        total += len(picks)
    assert abs(total - 10 * 10 * 0.5 * 19_998) <= 100  # of each row and step the budget or one more
    # A random symbol of four is the original itself in one draw of four.
    for seen, share in ((masked, shares[0]), (shown_other, shares[1] * 0.75)):
        assert abs(seen / total - share) <= 5 * np.sqrt(share * (1 - share) / total)


def test_random_symbols_are_even_and_never_special():
    mlm = objective(mask_rate=0.5, mask_share=0.0, random_share=1.0)
    picks, _, shown = mlm.corrupt(ragged([50_000] * 2, rows=2), rng(0, 2))
    counts = np.bincount(shown[picks].numpy(), minlength=20)
    assert counts[:5].sum() == counts[9:].sum() == 0
    assert stats.chisquare(counts[5:9]).pvalue > 1e-4


def test_special_tokens_are_never_hidden_and_k_is_constant():
    mlm = objective(mask_rate=0.3)
    batch = ragged([6] * 50, rows=1)
    batch.values[7::6] = 9  # symbols outside the targets, such as DNA's N
    for step in range(20):
        picks, labels, shown = mlm.corrupt(batch, rng(step))
        assert len(picks) == len(set(picks.tolist())) == 90
        hidden = labels != -100
        assert hidden.sum() in (45, 46)  # of 151 symbols: [CLS], [SEP] and the 49 marked ones are none
        assert ((labels[hidden] >= 5) & (labels[hidden] < 9)).all()
        untouched = torch.ones(300, dtype=torch.bool)
        untouched[picks[hidden]] = False
        assert torch.equal(shown[untouched], batch.values[untouched])
        assert torch.equal(labels[hidden], batch.values[picks[hidden]])


def test_every_position_is_equally_likely():
    mlm, batch = objective(mask_rate=0.2), ragged([102] * 5, rows=1)
    counts = np.zeros(510)
    for step in range(2000):
        picks, labels, _ = mlm.corrupt(batch, rng(step))
        counts[picks[labels != -100].numpy()] += 1
    eligible = ((batch.values >= 5) & (batch.values < 9)).numpy()
    assert counts[~eligible].sum() == 0
    assert stats.chisquare(counts[eligible]).pvalue > 1e-4


def test_a_row_with_too_few_symbols_drops_the_rest():
    mlm = objective(mask_rate=0.5)
    batch = ragged([10, 10], rows=2)
    batch.values[10:] = 0  # the second row is all padding
    picks, labels, shown = mlm.corrupt(batch, rng(0, 2))
    assert len(picks) == 10 and (labels != -100).sum() == 4  # half of the eight symbols
    assert (shown[10:] == 0).all()
    encoder = Encoder(SPEC)
    _, count, _ = mlm(encoder, batch, rng(0, 2))
    assert count == 4


@pytest.mark.parametrize("settings", [{}, {"span": "geometric"}, {"whole_word": True, "continues": frozenset({7})}])
def test_static_masks_freeze_the_whole_instance(settings):
    """Wherever and beside whatever a sequence stands: the hidden positions, which of them show [MASK], and the random
    symbols of the rest. Dynamic masks differ by step."""
    batch, static, seen = ragged([200] * 4, rows=2), objective(static=True, mask_share=0.5, **settings), []
    dynamic = objective(**settings)
    assert not torch.equal(dynamic.corrupt(batch, rng(0, 2))[0], dynamic.corrupt(batch, rng(1, 2))[0])
    for step, (order, rows) in enumerate([([0, 1, 2, 3], 2), ([3, 1, 0, 2], 2), ([2, 3, 1, 0], 1)]):
        index = torch.cat([torch.arange(200) + 200 * i for i in order])
        moved = replace(ragged([200] * 4, rows=rows), values=batch.values[index], index_B=torch.tensor(order))
        picks, labels, shown = static.corrupt(moved, rng(step, rows))
        hidden = picks[labels != -100]
        seen.append(dict(zip(index[hidden].tolist(), shown[hidden].tolist(), strict=True)))
    assert seen[0] == seen[1] == seen[2]
    assert len(set(seen[0].values())) == 5  # [MASK] and the four symbols
    assert abs(len(seen[0]) / 792 - 0.15) < 5 * (0.15 * 0.85 / 792 * static.masker.longest**0.5) ** 0.5


def test_loss_is_the_cross_entropy_of_the_masked_positions():
    mlm, encoder = objective(), Encoder(SPEC)
    batch = ragged([40, 30, 30], rows=1)
    loss, count, metrics = mlm(encoder, batch, rng())
    picks, labels, shown = mlm.corrupt(batch, rng())
    hidden = encoder(batch.with_values(shown))
    everywhere = mlm.head(hidden, encoder.embeddings.tok_embeddings.weight)
    losses = F.cross_entropy(everywhere[picks], labels, reduction="none", ignore_index=-100)
    torch.testing.assert_close(loss, losses.sum())
    assert count == (labels != -100).sum() and count in (14, 15)  # of 94 symbols
    right = everywhere[picks].argmax(-1) == labels
    assert metrics["accuracy"] == (right.sum(), count)
    masked = (shown[picks] == 4) & (labels != -100)
    torch.testing.assert_close(metrics["masked_loss"][0], losses[masked].sum().detach())
    assert metrics["masked_loss"][1] == masked.sum()


def test_shares_beyond_one_are_refused():
    with pytest.raises(SuiteError, match="must not sum to more than 1"):
        objective(mask_share=0.9, random_share=0.2)


def words_of(ids: list[int], offsets: list[int]) -> list[int]:
    """The number of the word each position belongs to, by a loop: 7 and 8 go on with the word before them."""
    word, words = -1, []
    for place, token in enumerate(ids):
        if place in offsets or token not in (7, 8):
            word += 1
        words.append(word)
    return words


def test_words_are_hidden_as_a_whole():
    """Each word as often as any other, long and short ones alike: 20 % over 3,000 draws."""
    mlm = objective(continues=frozenset({7, 8}), whole_word=True, mask_rate=0.2)
    batch = ragged([52] * 2, rows=1)
    words = np.array(words_of(batch.values.tolist(), batch.offsets_B1.tolist()))
    allowed, seen = ((batch.values >= 5) & (batch.values < 9)).numpy(), np.zeros(104)
    for step in range(3000):
        picks, labels, _ = mlm.corrupt(batch, rng(step))
        hidden = np.zeros(104, dtype=bool)
        hidden[picks[labels != -100].numpy()] = True
        assert not (hidden & ~allowed).any() and not (~hidden & allowed & np.isin(words, words[hidden])).any()
        seen += hidden / 3000
    assert abs(seen.sum() - 0.2 * 100) < 0.1
    assert abs(seen[allowed] - 0.2).max() < 5 * (0.2 * 0.8 / 3000) ** 0.5


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"continues": frozenset({7}), "whole_word": True, "span": 3}, r"objective.span=1"),
        ({"whole_word": True}, r"no token of modality=test goes on"),
    ],
)
def test_whole_words_that_make_no_sense(settings, message):
    with pytest.raises(SuiteError, match=message):
        objective(**settings)
