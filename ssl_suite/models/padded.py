"""Ragged batches as padded groups for models that know no other layout, and their states back in place.

Shapes: T positions of a padded group, J sequences in it; N and B as in ``core.batch``.
"""

from __future__ import annotations

from collections.abc import Iterator

import torch
from torch import Tensor

from ssl_suite.core.batch import Batch

BUCKET = 64  # on the CPU sequences whose lengths lie in one multiple of it are padded to the longest of them


def groups(batch: Batch, bucket: int = BUCKET, least: int = 1) -> Iterator[tuple[Tensor, Tensor]]:
    """Sequences to pad together: (J, T) int64 places in the batch, and (J, T) bool which of these are theirs.

    On the CPU those whose lengths lie in one bucket, and none that carries no data. On a GPU all of them in one group;
    with a bucket of 1, where none may be padded, those of one length. There the host does not know which sequence is
    the row's padding: it is in a group, cut to what a sequence may have.

    Args:
        least: positions; shorter sequences are left out.
    """
    on_cpu = batch.values.device.type == "cpu"
    if not on_cpu and bucket > 1:
        yield one_group(batch)
        return
    members: dict[int, list[int]] = {}
    real = batch.real_B.tolist() if on_cpu else [True] * len(batch.lengths)
    lengths = batch.lengths if on_cpu else [min(length, batch.max_length) for length in batch.lengths]
    for i, (length, used) in enumerate(zip(lengths, real, strict=True)):
        if used and length >= least:
            members.setdefault(-(-length // bucket), []).append(i)
    if not members and least == 1:  # padding alone: one position, so that every weight has a gradient, of zero
        yield _places(batch, torch.tensor([0]), 1)
    for _, some in sorted(members.items()):
        numbers = torch.tensor(some).to(batch.values.device, non_blocking=True)
        yield _places(batch, numbers, max(lengths[i] for i in some))


def one_group(batch: Batch) -> tuple[Tensor, Tensor]:
    """All sequences but empty ones, by what the host knows of them: a GPU is not waited for.

    The host does not know which one is the row's padding; it is in the group, cut to what a sequence may have.
    """
    members = torch.tensor([i for i, length in enumerate(batch.lengths) if length] or [0])
    longest = max(1, min(max(batch.lengths), batch.max_length))
    return _places(batch, members.to(batch.values.device, non_blocking=True), longest)


def attention_mask(seen_JT: Tensor) -> Tensor:
    """A sequence without data looks at one position: attention to nothing is not a number, and so is its gradient."""
    mask_JT = seen_JT.long()
    mask_JT[:, 0] = 1
    return mask_JT


def scattered(batch: Batch, places: list[tuple[Tensor, Tensor]], parts: list[list[Tensor]]) -> list[Tensor]:
    """States of padded groups, each (J, T, D), back at their places: (N, D), zeros where there is no data.

    Args:
        places: of each group, as ``groups`` gave them.
        parts: of each group its states, as many as the others have.
    """
    n = len(batch.values)
    # What a group is padded with goes to one row more, which is cut off again.
    place = torch.cat([torch.where(seen, at, n).flatten() for at, seen in places])
    found = []
    for states in zip(*parts, strict=True):
        rows = torch.cat([state.flatten(0, 1) for state in states])
        found.append(rows.new_zeros(n + 1, rows.shape[1]).index_copy(0, place, rows)[:-1])
    return found


def _places(batch: Batch, members_J: Tensor, longest: int) -> tuple[Tensor, Tensor]:
    starts_J, ends_J = batch.offsets_B1[members_J].long(), batch.offsets_B1[members_J + 1].long()
    place_JT = starts_J[:, None] + torch.arange(longest, device=starts_J.device)
    seen_JT = (place_JT < ends_J[:, None]) & batch.real_B[members_J][:, None]
    return place_JT.clamp(max=len(batch.values) - 1), seen_JT
