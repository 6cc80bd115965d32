"""LSTMs over the positions of a ragged batch, and the padded layout that they and CTC need.

Shapes: J sequences of a group, K places of the longest one; N and D as in ``core.batch``.
"""

from __future__ import annotations

from collections.abc import Iterator

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ssl_suite.core.batch import Batch
from ssl_suite.models import padded


def contents(batch: Batch) -> Iterator[tuple[Tensor, Tensor]]:
    """Groups of sequences to pad together: (J, K) int64 places in the batch of the positions between [CLS] and [SEP],
    and (J, K) bool which of these are a sequence's own. The host does not wait for the device.
    """
    for place_JT, seen_JT in padded.groups(batch):
        # The first position is [CLS]; a position is before [SEP] where the next one is the sequence's own, too.
        short = max(0, 3 - place_JT.shape[1])
        yield F.pad(place_JT, (0, short))[:, 1:-1], F.pad(seen_JT, (0, short))[:, 2:]


class Lstm(nn.Module):
    """Layers of LSTMs, each sequence by itself.

    Args:
        width: of the input.
        hidden: of each layer and direction.
        both: two directions, whose outputs stand side by side. The second reads each sequence from its own last
            position, so that what a group is padded with changes nothing.
    """

    def __init__(self, width: int, hidden: int, layers: int, both: bool) -> None:
        super().__init__()
        self.width, self.both = (hidden * (1 + both) if layers else width), both
        widths = [width, *[hidden * (1 + both)] * (layers - 1)][:layers]
        self.onward = nn.ModuleList(nn.LSTM(width, hidden, batch_first=True) for width in widths)
        self.backward = nn.ModuleList(nn.LSTM(width, hidden, batch_first=True) for width in widths if both)

    def forward(self, x_JKD: Tensor, seen_JK: Tensor) -> Tensor:
        """(J, K, width); anything at places that are not seen."""
        length_J1 = seen_JK.sum(1, keepdim=True)
        place_JK = torch.arange(seen_JK.shape[1], device=seen_JK.device).expand(seen_JK.shape)
        mirror_JK1 = torch.where(seen_JK, length_J1 - 1 - place_JK, place_JK)[:, :, None]
        for k, onward in enumerate(self.onward):
            found = [onward(x_JKD)[0]]
            if self.both:
                turned_JKD = self.backward[k](x_JKD.gather(1, mirror_JK1.expand_as(x_JKD)))[0]
                found.append(turned_JKD.gather(1, mirror_JK1.expand_as(turned_JKD)))
            x_JKD = torch.cat(found, -1)
        return x_JKD
