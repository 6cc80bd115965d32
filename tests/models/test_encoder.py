import dataclasses

import pytest
import torch
import yaml

from ssl_suite.core import resources
from ssl_suite.models.encoder import Encoder, EncoderSpec
from tests.conftest import ragged

# Written out by hand: V D + D embedder, L (4 D^2 + 3 D M + 2 D) - D layers (the first has no attention norm), D final.
PRESETS = {"tiny": (2, 128, 2, 320), "mini": (4, 256, 4, 704), "small": (6, 384, 6, 1024)}
PRESETS |= {"base": (12, 768, 12, 2048), "large": (24, 1024, 16, 2752)}
PARAMETERS = {"tiny": 377_472, "mini": 3_213_568, "small": 10_621_824, "base": 84_953_856, "large": 303_612_928}


@pytest.mark.parametrize("name", PRESETS)
def test_preset_sizes(name):
    section = yaml.safe_load((resources.folder("conf") / "model" / f"{name}.yaml").read_text())
    assert tuple(section[key] for key in ("layers", "width", "heads", "mlp_width")) == PRESETS[name]
    with torch.device("meta"):
        encoder = Encoder(EncoderSpec.from_section(section, vocabulary=20, max_length=512))
    assert sum(p.numel() for p in encoder.parameters()) == PARAMETERS[name] + 20 * section["width"]


def small(**changes) -> Encoder:
    torch.manual_seed(0)
    spec = EncoderSpec(2, 32, 2, 48, 12, windows=(None, 4), thetas=(10_000.0, 500.0), init_std=0.2)
    return Encoder(dataclasses.replace(spec, **changes))


def test_a_sequence_does_not_see_its_neighbours():
    encoder = small()
    lengths = [9, 4, 9, 1]
    batch = ragged(lengths)
    together = encoder(batch).split(lengths)
    for i, values in enumerate(batch.values.split(lengths)):
        alone = dataclasses.replace(ragged([lengths[i]]), values=values)
        torch.testing.assert_close(encoder(alone), together[i], atol=2e-6, rtol=1e-5)


def test_positions_are_relative():
    """Rotary positions: a global-attention encoder gives the same states wherever the row puts the sequence."""
    encoder = small()
    batch = ragged([6, 6])
    twice = batch.with_values(batch.values[:6].repeat(2))
    first, second = encoder(twice).split(6)
    torch.testing.assert_close(first, second, atol=1e-6, rtol=1e-6)
    turned = encoder(batch.with_values(batch.values.flip(0)))
    assert not torch.allclose(turned.flip(0), encoder(batch), atol=1e-3)  # but order inside a sequence counts


def test_layer_states_end_in_the_output():
    encoder = small()
    batch = ragged([5, 8])
    states = encoder.layer_states(batch)
    assert len(states) == 3
    torch.testing.assert_close(encoder.final_norm(states[-1]), encoder(batch))


def test_weights_depend_on_the_seed_alone():
    for a, b in zip(small().parameters(), small().parameters(), strict=True):
        assert torch.equal(a, b)


def test_compiled_equals_eager():
    encoder = small()
    batches = [ragged([9, 7]), ragged([10, 6]), ragged([4, 12])]
    expected = [encoder(batch) for batch in batches]
    torch._dynamo.reset()
    compiled = torch.compile(encoder, backend="aot_eager", dynamic=False)
    for batch, wanted in zip(batches, expected, strict=True):
        torch.testing.assert_close(compiled(batch), wanted, atol=1e-6, rtol=1e-5)
