"""Generation: greedy against a loop over the encoder's own forward pass, what is never written, ends and lengths."""

import types

import numpy as np
import pytest
import torch
from scipy import stats

from ssl_suite.core.batch import ragged
from ssl_suite.core.errors import SuiteError
from ssl_suite.core.records import Vocabulary
from ssl_suite.models.encoder import Encoder, EncoderSpec
from ssl_suite.models.generate import Generated, causal_model, generate
from ssl_suite.objectives.clm import CausalLM

VOCABULARY = Vocabulary(tuple(map(str, range(30))), targets=(5, 30))
WINDOW = 40
PROMPTS = [[7, 8, 9], [], [11, 12, 13, 14, 15, 16, 17, 18], [29]]


def parts(windows=(None, None), thetas=(64.0, 64.0)) -> tuple[Encoder, CausalLM]:
    torch.manual_seed(4)
    spec = EncoderSpec(2, 32, 2, 48, 30, windows=windows, thetas=thetas, init_std=0.2, causal=True)
    objective = CausalLM(types.SimpleNamespace(name="test", vocabulary=VOCABULARY), spec)
    with torch.no_grad():
        objective.head.bias.normal_()
        objective.head.bias[:5] += 3  # special tokens are what it likes best
        objective.head.bias[3] = -1
    return Encoder(spec).eval(), objective.eval()


def write(encoder, objective, prompts=PROMPTS, **settings) -> list[Generated]:
    model = causal_model(encoder, objective, VOCABULARY, WINDOW)
    return generate(model, prompts, VOCABULARY, WINDOW, **settings)


@torch.no_grad()
def logits(encoder, objective, ids):
    """(V,) of the id behind [CLS] and ``ids``, by the encoder's own pass over all of them; special ids banned."""
    batch = ragged([np.array([*ids, 5])], VOCABULARY, WINDOW)  # what stands behind is seen by nothing before
    found = objective.next_logits(encoder, encoder(batch)[len(ids)][None])[0]
    found[[0, 1, 2, 4]] = -torch.inf
    return found


@pytest.mark.parametrize("windows", [(None, None), (None, 3)])
def test_greedy_is_a_loop_over_the_encoder(windows):
    encoder, objective = parts(windows, (64.0, 20.0 if windows[1] else 64.0))
    for prompt, found in zip(PROMPTS, write(encoder, objective, temperature=0.0), strict=True):
        ids, ended = list(prompt), False
        while len(ids) < WINDOW - 2 and not ended:
            new = int(logits(encoder, objective, ids).argmax())
            ended = new == VOCABULARY.sep
            ids += [] if ended else [new]
        assert (found.ids, found.prompt, found.ended) == (ids, len(prompt), ended)


def test_special_tokens_are_never_written_and_sep_ends():
    results = write(*parts(), [[]] * 200, seed=1)
    assert all(min(result.ids, default=5) >= 5 for result in results)
    assert {result.ended for result in results} == {True, False}
    assert all(result.ended or len(result.ids) == WINDOW - 2 for result in results)


def test_seeds_and_lengths():
    encoder, objective = parts()
    first, again, other = (write(encoder, objective, seed=seed) for seed in (1, 1, 2))
    assert first == again != other
    short = write(encoder, objective, seed=1, length=5)
    assert max(len(s.ids) - s.prompt for s in short) == 5
    assert all(s.ids[: s.prompt] == prompt for s, prompt in zip(short, PROMPTS, strict=True))


def test_draws_follow_the_filtered_probabilities():
    encoder, objective = parts()
    shares = torch.softmax(logits(encoder, objective, [7]).double() / 0.9, -1)
    kept = shares >= shares.topk(12).values[-1]
    drawn = write(encoder, objective, [[7]] * 4000, length=1, temperature=0.9, top_k=12, seed=3)
    counts = np.bincount([(result.ids[1:] or [VOCABULARY.sep])[0] for result in drawn], minlength=30)
    expected = (shares * kept / (shares * kept).sum()).numpy()
    assert counts[expected == 0].sum() == 0
    assert stats.chisquare(counts[expected > 0], 4000 * expected[expected > 0]).pvalue > 1e-4


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"length": 39}, "length=39 after a prompt of 3 tokens"),
        ({"length": 38}, "give at most length=35"),
        ({"prompts": [[7] * 38]}, "The prompt has 38 tokens and the model's window holds 38"),
        ({"prompts": [[7] * 50], "length": 1}, "The prompt has 50 tokens"),
    ],
)
def test_what_does_not_fit(settings, message):
    with pytest.raises(SuiteError, match=message):
        write(*parts(), **settings)


def test_the_last_place_of_the_window_is_used():
    encoder, objective = parts()
    with torch.no_grad():
        objective.head.bias[3] = -100
    for length in (None, 1):
        (result,) = write(encoder, objective, [[7] * 37], length=length)
        assert len(result.ids) == 38 and not result.ended
