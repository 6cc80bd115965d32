"""Generation: with a cache against without, the filters against transformers', and the ends."""

import types

import pytest
import torch
from scipy import stats
from transformers import (
    ModernBertDecoderConfig,
    ModernBertDecoderForCausalLM,
    TemperatureLogitsWarper,
    TopKLogitsWarper,
    TopPLogitsWarper,
)

from ssl_suite.data.rng import Rng
from ssl_suite.errors import SuiteError
from ssl_suite.modalities.base import Vocabulary
from ssl_suite.models import decoder_hub
from ssl_suite.models.encoder import Encoder, EncoderSpec
from ssl_suite.models.generate import Generated, Sampling, draw, filtered, generate
from ssl_suite.objectives.clm import CausalLM

VOCABULARY = Vocabulary(tuple(map(str, range(30))), targets=(5, 30))
WINDOW = 40
PROMPTS = [[7, 8, 9], [], [11, 12, 13, 14, 15, 16, 17, 18], [29]]
SAMPLINGS = [Sampling(0.0), Sampling(), Sampling(0.7, top_k=12), Sampling(1.3, top_p=0.9), Sampling(1.0, 20, 0.8)]


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
    return generate(encoder, objective, prompts, VOCABULARY, WINDOW, **settings)


@pytest.mark.parametrize("windows", [(None, None), (None, 3)])
@pytest.mark.parametrize("sampling", SAMPLINGS)
def test_the_cache_changes_nothing(sampling, windows):
    encoder, objective = parts(windows, (64.0, 20.0 if windows[1] else 64.0))
    with_cache, without = (
        write(encoder, objective, sampling=sampling, seed=5, cached=cached, keep_logits=True)
        for cached in (True, False)
    )
    for ours, plain in zip(with_cache, without, strict=True):
        assert (ours.ids, ours.prompt, ours.ended) == (plain.ids, plain.prompt, plain.ended)
        assert ours.logits.shape == (len(ours.ids) - ours.prompt + ours.ended, 30)
        torch.testing.assert_close(ours.logits, plain.logits, atol=1e-5, rtol=0)


def test_greedy_is_what_transformers_generates():
    encoder, objective = parts()
    cfg = decoder_hub.decoder_config(encoder.spec, VOCABULARY, WINDOW)
    model = ModernBertDecoderForCausalLM(ModernBertDecoderConfig(**cfg)).eval()
    state = {f"model.{name}": x for name, x in encoder.state_dict().items()} | objective.hub_weights()[1]
    model.load_state_dict(decoder_hub.to_decoder(state), strict=False)
    for prompt, ours in zip(PROMPTS, write(encoder, objective, sampling=Sampling(0.0)), strict=True):
        expected = model.generate(
            torch.tensor([[2, *prompt]]), max_new_tokens=38 - len(prompt), do_sample=False, suppress_tokens=[0, 1, 2, 4]
        )
        assert [2, *ours.ids, *[3] * ours.ended] == expected[0].tolist()


def test_prompts_written_together_are_those_written_alone():
    encoder, objective = parts()
    together = write(encoder, objective, seed=5)
    for row, prompt in enumerate(PROMPTS):
        (alone,) = write(encoder, objective, [prompt], seed=5, numbers=[row])
        assert alone == together[row]


def test_special_tokens_are_never_written_and_sep_ends():
    encoder, objective = parts()
    results = write(encoder, objective, [[]] * 200, seed=1)
    assert all(min(result.ids, default=5) >= 5 for result in results)
    assert {result.ended for result in results} == {True, False}
    assert all(result.ended or len(result.ids) == WINDOW - 2 for result in results)


def test_seeds_and_lengths():
    encoder, objective = parts()
    first, again, other = (write(encoder, objective, seed=seed) for seed in (1, 1, 2))
    assert first == again != other
    short = write(encoder, objective, seed=1, length=5)
    assert [s.ids for s in short] == [f.ids[: f.prompt + 5] for f in first]
    assert max(len(s.ids) - s.prompt for s in short) == 5


def test_draws_follow_the_probabilities():
    """60,000 draws from one set of probabilities, filtered as asked."""
    logits = torch.randn(30, generator=torch.Generator().manual_seed(3))
    sampling = Sampling(0.9, top_k=12, top_p=0.9)
    ids = draw(logits.expand(60_000, 30), sampling, Rng(0, 0, torch.arange(60_000)))
    expected = torch.softmax(filtered((logits / 0.9)[None], 12, 0.9)[0].double(), -1).numpy()
    counts = torch.bincount(ids, minlength=30).numpy()
    assert counts[expected == 0].sum() == 0 and 3 < (expected > 0).sum() < 12
    possible = expected > 0
    assert stats.chisquare(counts[possible], 60_000 * expected[possible]).pvalue > 1e-4


@pytest.mark.parametrize("top_k", [None, 1, 5, 30, 99])
@pytest.mark.parametrize("top_p", [None, 0.01, 0.5, 0.95, 1.0])
@pytest.mark.parametrize("temperature", [0.3, 1.0, 2.0])
def test_filters_are_those_of_transformers(top_k, top_p, temperature):
    logits = torch.randn(50, 30, generator=torch.Generator().manual_seed(1)) * 3
    logits[:, 4] = -torch.inf
    logits[::2, 7] = logits[::2, 8]  # ties
    expected = TemperatureLogitsWarper(temperature)(None, logits)
    if top_k is not None:
        expected = TopKLogitsWarper(top_k)(None, expected)
    if top_p is not None and top_p < 1:
        expected = TopPLogitsWarper(top_p)(None, expected)
    assert torch.equal(filtered(logits / temperature, top_k, top_p), expected)


def test_a_tiny_temperature_is_greedy():
    logits = torch.randn(50, 30, generator=torch.Generator().manual_seed(1)) * 9
    ids = draw(logits, Sampling(1e-38), Rng(0, 0, torch.arange(50)))
    assert torch.equal(ids, logits.argmax(-1))


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


@pytest.mark.parametrize(
    "settings", [{"temperature": -1.0}, {"temperature": float("nan")}, {"top_k": 0}, {"top_p": 0.0}]
)
def test_settings_out_of_range(settings):
    (key,) = settings
    with pytest.raises(SuiteError, match=f"{key}="):
        Sampling(**settings)
