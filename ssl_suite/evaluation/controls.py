"""Less than a representation: controls that keep a pre-trained transformer's statistics, or its blocks out of order.

Lu et al. (2021, arXiv:2103.05247) compare a transformer pre-trained on text with one that has its statistics only.
"""

from __future__ import annotations

import torch

from ssl_suite.models.encoder import Encoder


def moments(encoder: Encoder, seed: int) -> None:
    """Replace each weight of the blocks by normal draws of its mean and standard deviation."""
    rng = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for part in (encoder.layers, encoder.final_norm):
            for weight in part.parameters():
                std, mean = torch.std_mean(weight, correction=0)
                weight.copy_(torch.randn(weight.shape, generator=rng) * std + mean)


def permuted(encoder: Encoder, seed: int) -> None:
    """Put the blocks into a random order in which none stands where it stood; one block alone stays.

    A place keeps what the block that comes to it does not have: the first has no norm before its attention.
    """
    count = len(encoder.layers)
    order = torch.randperm(count, generator=torch.Generator().manual_seed(seed)).tolist()
    after = {order[i]: order[(i + 1) % count] for i in range(count)}  # one cycle through all of them
    weights = [{name: x.clone() for name, x in layer.state_dict().items()} for layer in encoder.layers]
    for place, layer in enumerate(encoder.layers):
        layer.load_state_dict(weights[after[place]], strict=False)


CONTROLS = {"moments": moments, "permuted": permuted}
