"""Layer-wise adaptive rate scaling without a wait for the device."""

from __future__ import annotations

from typing import Any

import lightly.utils.lars
import torch


class LARS(lightly.utils.lars.LARS):
    """lightly's, whose ``step`` asks the host about two norms of every parameter: 2 waits each on a GPU."""

    @torch.no_grad()
    def step(self, closure: Any = None) -> None:
        """One step; where a norm is 0 the gradient is taken as it is."""
        for group in self.param_groups:
            decay, rate = group["weight_decay"], group["trust_coefficient"]
            for p in (p for p in group["params"] if p.grad is not None):
                change = p.grad
                if decay:
                    own, slope = p.norm(), p.grad.norm()
                    trust = own / (slope + decay * own + group["eps"]) * rate
                    adapted = change.add(p, alpha=decay) * trust
                    change = torch.where((own > 0) & (slope > 0), adapted, change)
                velocity = self.state[p].setdefault("momentum_buffer", torch.zeros_like(p))
                p.add_(velocity.mul_(group["momentum"]).add_(change), alpha=-group["lr"])
