"""Random numbers that are a function of (seed, step, row, draw), not a stream.

A counter-based generator: every number is a hash of its coordinates, so a row gets the same draws on any device,
in any process, and after any restart. ``torch.Generator`` gives other numbers on CUDA than on the CPU and has a
state to save; this has neither. The hash is the finaliser of SplitMix64 (Steele, Lea, Flood 2014, "Fast
splittable pseudorandom number generators"), applied twice.

Shape legend: R rows, n draws a row.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor

_GOLDEN = -7046029254386353131  # 0x9E3779B97F4A7C15 as a signed 64-bit integer
_MIX_1 = -4658895280553007687  # 0xBF58476D1CE4E5B9
_MIX_2 = -7723592293110705685  # 0x94D049BB133111EB
_MASK = (1 << 64) - 1


def _mix(x: Tensor) -> Tensor:
    """SplitMix64's finaliser on int64; ``>>`` is arithmetic in torch, so the sign bits are masked off."""
    x = (x ^ ((x >> 30) & 0x3FFFFFFFF)) * _MIX_1
    x = (x ^ ((x >> 27) & 0x1FFFFFFFFF)) * _MIX_2
    return x ^ ((x >> 31) & 0x1FFFFFFFF)


def _signed(x: int) -> int:
    x &= _MASK
    return x - (1 << 64) if x >> 63 else x


def keyed_bits(seed: int, key_N: Tensor, counter_N: Tensor) -> Tensor:
    """(N,) int64, uniform over [0, 2**63), a function of (seed, key, counter) and of nothing else."""
    mixed_N = _mix(key_N * _GOLDEN + _signed(seed * 0x9E3779B97F4A7C15))
    return _mix(mixed_N ^ _mix(counter_N * _GOLDEN + 1)) & 0x7FFFFFFFFFFFFFFF


def numbered_bits(keys_R1: Tensor, draw: int, n: int) -> Tensor:
    """(R * n,) int64, uniform over [0, 2**63): what ``Rng.numbered`` gives for rows of these keys."""
    counter_n = torch.arange(1, n + 1, device=keys_R1.device) * _GOLDEN + _signed(draw * 0xD1342543DE82EF95)
    return (_mix(_mix(keys_R1 ^ counter_n)) & 0x7FFFFFFFFFFFFFFF).flatten()


class Rng:
    """Draws for the rows of one step.

    Args:
        seed: the run's seed.
        step: the optimiser step (or any counter that must not repeat).
        rows_R: (R,) int64, the rows' numbers in the global batch of the step, on the device of the draws.

    Each call returns ``R * n`` numbers, row after row, and advances the draw counter, so two calls differ and the
    same sequence of calls gives the same numbers.
    """

    def __init__(self, seed: int, step: int, rows_R: Tensor) -> None:
        self.seed, self.step = seed, step
        self.keys_R1 = _mix(_mix(rows_R[:, None] * _GOLDEN + _signed(seed * 0x9E3779B97F4A7C15)) + step)
        self.rows, self._draw = len(rows_R), 0

    def bits(self, n: int) -> Tensor:
        """(R * n,) int64, uniform over [0, 2**63)."""
        return self.numbered(self.reserve(1), n)

    def reserve(self, draws: int) -> int:
        """The number of the first of so many draws, which only ``numbered`` makes, as often as it is asked to."""
        self._draw += draws
        return self._draw - draws + 1

    def numbered(self, draw: int, n: int) -> Tensor:
        """(R * n,) int64, the bits of a reserved draw: recomputed activations need the same ones again."""
        return numbered_bits(self.keys_R1, draw, n)

    def uniform(self, n: int) -> Tensor:
        """(R * n,) float32 in [0, 1), on a grid of 2**-24."""
        return (self.bits(n) >> 39).to(torch.float32) * (1.0 / (1 << 24))

    def integers(self, n: int, low: int, high: int) -> Tensor:
        """(R * n,) int64 in [low, high); the modulo bias is below (high - low) / 2**63."""
        return low + self.bits(n) % (high - low)

    def normal(self, n: int) -> Tensor:
        """(R * n,) float32, standard normal by the Box-Muller transform."""
        radius = torch.sqrt(-2.0 * torch.log1p(-self.uniform(n)))
        return radius * torch.cos((2.0 * math.pi) * self.uniform(n))


class KeyedRng(Rng):
    """The same draws for a sequence in every epoch, whatever stands beside it.

    Args:
        seed: the run's seed.
        key_N, place_N: (N,) int64 the key of each position's sequence, and its place there.

    Each call returns N numbers, so ``n`` must be the positions of a row.
    """

    def __init__(self, seed: int, key_N: Tensor, place_N: Tensor) -> None:
        self.seed, self._key_N, self._place_N, self._draw = seed, key_N, place_N, 0

    def bits(self, n: int) -> Tensor:
        """(N,) int64, uniform over [0, 2**63)."""
        self._draw += 1
        return keyed_bits(self.seed, self._key_N, self._place_N + (self._draw << 32))
