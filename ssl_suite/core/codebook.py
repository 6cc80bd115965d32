"""Codebooks by mini-batch k-means (Sculley 2010, "Web-scale k-means clustering"), seeded, on any device.

Shapes: N points, U numbers a point, C codes, M points of a mini-batch.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from safetensors import safe_open
from safetensors.torch import save_file
from torch import Tensor

from ssl_suite.core.errors import SuiteError

DIGEST = "sha256"  # in the metadata of a file
POINTS = 1 << 17  # the most points a fit looks at: 256 a code at 512 codes
BATCH = 4096  # points of a mini-batch
EPOCHS = 10
PIECE = 1 << 14  # points whose distances are in memory at once: 32 MB at 512 codes
COLLAPSED = 0.1  # a codebook whose perplexity is below this share of its entries is reported as collapsed


@dataclass(frozen=True)
class Codebook:
    """Entries in the space of standardised points.

    Attributes:
        entries_CU: (C, U) float32.
        mean_U, scale_U: (U,) points are ``(x - mean) / scale`` before distances are taken.
    """

    entries_CU: Tensor
    mean_U: Tensor
    scale_U: Tensor

    def __len__(self) -> int:
        return self.entries_CU.shape[0]

    def to(self, device: torch.device) -> Codebook:
        """The same on another device."""
        return Codebook(self.entries_CU.to(device), self.mean_U.to(device), self.scale_U.to(device))

    def assign(self, points_NU: Tensor) -> tuple[Tensor, Tensor]:
        """(N,) int64 the nearest entry of each point, and (N,) its squared distance in standardised units."""
        codes, distances = [], []
        for piece in points_NU.split(PIECE):
            standard = (piece.float() - self.mean_U) / self.scale_U
            nearest, squared = _nearest(standard, self.entries_CU)
            codes.append(nearest)
            distances.append(squared)
        return torch.cat(codes), torch.cat(distances)

    def decode(self, codes_N: Tensor) -> Tensor:
        """(N, U) the points that the entries stand for."""
        return self.entries_CU[codes_N] * self.scale_U + self.mean_U

    def save(self, path: Path) -> None:
        """Write a safetensors file with the SHA-256 of its numbers."""
        save_file({name: x.cpu().contiguous() for name, x in vars(self).items()}, path, {DIGEST: self.sha256})

    @property
    def sha256(self) -> str:
        """Of all numbers and shapes."""
        tensors = {name: x.cpu().contiguous().numpy() for name, x in sorted(vars(self).items())}
        parts = [part for name, x in tensors.items() for part in (f"{name} {x.dtype} {x.shape} ".encode(), x.tobytes())]
        return hashlib.sha256(b"".join(parts)).hexdigest()

    @classmethod
    def load(cls, path: Path) -> Codebook:
        """Read one.

        Raises:
            SuiteError: it is damaged or no codebook.
        """
        try:
            with safe_open(path, "pt") as file:
                names = file.keys()
                found, told = cls(**{name: file.get_tensor(name) for name in names}), file.metadata() or {}
        except Exception as error:
            why = str(error).splitlines()[0]
            raise SuiteError(f"{path}: is not a codebook ({why}); remove it, and it is fitted anew.") from None
        if told.get(DIGEST, found.sha256) != found.sha256:  # older ones have none
            raise SuiteError(f"{path}: does not match its own SHA-256; remove it, and it is fitted anew.")
        return found


def same(one: Codebook | None, other: Codebook | None) -> bool:
    """Whether two codebooks have equal entries, or there is none twice."""
    if one is None or other is None:
        return one is other
    pairs = zip(vars(one).values(), vars(other).values(), strict=True)
    return all(x.shape == y.shape and bool(torch.equal(x.cpu(), y.cpu())) for x, y in pairs)


def _nearest(points_MU: Tensor, entries_CU: Tensor) -> tuple[Tensor, Tensor]:
    """|x - c|² = |x|² - 2 x·c + |c|²: one matrix product; |x|² does not change which is smallest."""
    scores_MC = torch.addmm((entries_CU**2).sum(1), points_MU, entries_CU.T, beta=1, alpha=-2)
    best_M, codes_M = scores_MC.min(1)
    return codes_M, (best_M + (points_MU**2).sum(1)).clamp(min=0)


def fit(points_NU: Tensor, codes: int, seed: int = 0, epochs: int = EPOCHS) -> Codebook:
    """Cluster standardised points.

    Starts from k-means++ (Arthur and Vassilvitskii 2007) on a mini-batch a code or so, then mini-batch updates with
    a rate of one over the points an entry has seen; entries that saw less than a hundredth of their share in an epoch
    move to random points. Ends with one full Lloyd step.

    Args:
        points_NU: (N, U); the caller draws them at random. At least ``codes`` of them must differ.
        codes: C.
        seed: of all draws, which are made on the CPU: the same points on any device give the same codebook up to
            rounding.

    Raises:
        SuiteError: fewer distinct points than codes.
    """
    points_NU = points_NU.float()
    mean_U, scale_U = points_NU.mean(0), points_NU.std(0).clamp(min=1e-6)
    standard_NU = (points_NU - mean_U) / scale_U
    n, draw = len(standard_NU), torch.Generator().manual_seed(seed)
    distinct = len(torch.unique(standard_NU[: 64 * codes], dim=0)) if n else 0
    if distinct < codes:
        distinct = len(torch.unique(standard_NU, dim=0)) if n else 0
    if distinct < codes:
        raise SuiteError(
            f"the training data hold {distinct} different frames, fewer than modality.codes={codes}; "
            f"give more data or set modality.codes={max(2, distinct // 4)}."
        )
    entries_CU = _plus_plus(standard_NU, codes, draw)
    seen_C = torch.zeros(codes, device=points_NU.device)
    for _ in range(epochs):
        before_C = seen_C.clone()
        for batch_M in torch.randperm(n, generator=draw).split(BATCH):
            chosen_MU = standard_NU[batch_M.to(points_NU.device)]
            codes_M, _ = _nearest(chosen_MU, entries_CU)
            counts_C = torch.bincount(codes_M, minlength=codes).float()
            sums_CU = torch.zeros_like(entries_CU).index_add_(0, codes_M, chosen_MU)
            seen_C += counts_C
            entries_CU += (sums_CU - counts_C[:, None] * entries_CU) / seen_C.clamp(min=1)[:, None]
        starved_C = (seen_C - before_C) < 0.01 * n / codes
        fresh_C = standard_NU[torch.randint(n, (codes,), generator=draw).to(points_NU.device)]
        entries_CU = torch.where(starved_C[:, None], fresh_C, entries_CU)
        seen_C = torch.where(starved_C, torch.zeros_like(seen_C), seen_C)
    found = Codebook(entries_CU, mean_U, scale_U)
    return Codebook(_lloyd(standard_NU, found.assign(points_NU)[0], entries_CU), mean_U, scale_U)


def _lloyd(standard_NU: Tensor, codes_N: Tensor, entries_CU: Tensor) -> Tensor:
    """Every entry to the mean of its points; an entry without points stays."""
    counts_C = torch.bincount(codes_N, minlength=len(entries_CU)).float()
    sums_CU = torch.zeros_like(entries_CU).index_add_(0, codes_N, standard_NU)
    return torch.where(counts_C[:, None] > 0, sums_CU / counts_C.clamp(min=1)[:, None], entries_CU)


def _plus_plus(standard_NU: Tensor, codes: int, draw: torch.Generator) -> Tensor:
    """k-means++ on a random sample: each next entry is a point drawn by its squared distance to those there are."""
    n = len(standard_NU)
    sample = torch.randperm(n, generator=draw)[: min(n, max(BATCH, 16 * codes))]
    points_MU = standard_NU[sample.to(standard_NU.device)]
    entries = [points_MU[0]]
    squared_M = ((points_MU - entries[0]) ** 2).sum(1)
    for _ in range(codes - 1):
        weights_M = squared_M.double().cumsum(0)
        at = torch.rand((), generator=draw, dtype=torch.float64).to(weights_M) * weights_M[-1]
        chosen_1 = torch.searchsorted(weights_M, at, right=True).clamp(max=len(points_MU) - 1)
        entries.append(points_MU[chosen_1])
        squared_M = torch.minimum(squared_M, ((points_MU - entries[-1]) ** 2).sum(1))
    return torch.stack(entries)


def describe(codes_N: Tensor, squared_N: Tensor, width: int, codes: int) -> dict[str, Any]:
    """How well a codebook serves.

    Returns:
        ``used`` entries, ``perplexity`` (exp of the entropy of the codes' frequencies), ``error`` (mean squared
        distance a standardised number: 0 is perfect, 1 is what a single entry at the mean would give), ``largest``
        (share of the commonest code) and ``collapsed``.
    """
    share_C = torch.bincount(codes_N, minlength=codes).double() / max(1, len(codes_N))
    entropy = -(share_C * share_C.clamp(min=1e-300).log()).sum()
    perplexity = float(entropy.exp())
    return {
        "codes": codes,
        "points": len(codes_N),
        "used": int((share_C > 0).sum()),
        "perplexity": perplexity,
        "error": float(squared_N.double().mean()) / width,
        "largest": float(share_C.max()),
        "collapsed": perplexity < COLLAPSED * codes,
    }
