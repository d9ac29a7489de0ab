"""An optimizer whose steps change all directions of a convolution alike."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any

import torch
from torch import Tensor

from .autocast import multiplies_bfloat16

QUINTIC = (3.4445, -4.7750, 2.0315)
"""Coefficients of the Newton-Schulz iteration (Jordan et al. 2024): singular values end between 0.7 and 1.2."""

SMALLEST_MATRIX = 16
"""Rows and columns from which on a weight is a matrix; below, its few directions say little (an output layer)."""


class MuonAdamW(torch.optim.Optimizer):
    """Muon for the weights of convolutions and linear layers, AdamW for all others.

    Muon takes the momentum of a weight's gradient as a matrix (output channels x the rest) and steps along the
    nearest orthogonal one: rare directions of the gradient move as far as the dominant ones. The step is scaled to
    the root mean square that AdamW's usually has (0.2), so that the learning rates of AdamW suit both parts.

    Sources: Jordan et al., "Muon: an optimizer for hidden layers in neural networks" (2024); the scale is that of Liu
    et al., "Muon is scalable for LLM training" (arXiv:2502.16982). `torch.optim.Muon` takes matrices alone, neither
    convolutions nor biases, and is missing from PyTorch before 2.9.

    Parameters
    ----------
    params : iterable of parameters or of groups
    lr : float
        Learning rate of both parts.
    momentum : float
        Of Muon, in the form of Nesterov.
    betas : (float, float)
        Of AdamW.
    eps : float
        Of AdamW.
    weight_decay : float
        Of both, decoupled: a step takes ``lr * weight_decay`` of each weight away.

    Raises
    ------
    ValueError
        If a number is out of its range.
    """

    def __init__(
        self,
        params: Iterable[Any],
        lr: float = 1e-3,
        momentum: float = 0.95,
        betas: tuple[float, float] = (0.9, 0.999),
        eps: float = 1e-8,
        weight_decay: float = 1e-4,
    ) -> None:
        if lr < 0 or weight_decay < 0 or eps <= 0:
            raise ValueError(f"lr is {lr}, weight_decay {weight_decay}, eps {eps}: expected 0 or more, eps above 0.")
        if not all(0 <= share < 1 for share in (momentum, *betas)):
            raise ValueError(f"momentum is {momentum}, betas are {betas}: expected 0 or more, below 1.")
        super().__init__(
            params, {"lr": lr, "momentum": momentum, "betas": tuple(betas), "eps": eps, "weight_decay": weight_decay}
        )

    @torch.no_grad()
    def step(self, closure: Callable[[], Any] | None = None) -> Any:
        """Move every parameter that has a gradient; gives the loss of `closure`, if there is one."""
        loss = None
        if closure is not None:
            with torch.enable_grad():
                loss = closure()
        for group in self.param_groups:
            for weight in group["params"]:
                if weight.grad is not None:
                    weight.mul_(1 - group["lr"] * group["weight_decay"])
                    step = self._step_matrix if is_matrix(weight) else self._step_other
                    step(weight, weight.grad, group)
        return loss

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Take up a saved state.

        Raises
        ------
        ValueError
            If it is another optimizer's or has other parameters.
        """
        for group in state_dict["param_groups"]:
            if missing := self.defaults.keys() - group.keys():
                raise ValueError(
                    f"the state is of another optimizer than {type(self).__name__}: no {', '.join(sorted(missing))}"
                )
        super().load_state_dict(state_dict)

    def _step_matrix(self, weight: Tensor, grad: Tensor, group: dict[str, Any]) -> None:
        state = self.state[weight]
        if not state:
            state["momentum"] = torch.zeros_like(weight)
        state["momentum"].lerp_(grad, 1 - group["momentum"])
        ahead = grad.lerp(state["momentum"], group["momentum"]).flatten(1)
        weight.add_(orthogonal(ahead).view(weight.shape), alpha=-group["lr"] * 0.2 * max(ahead.shape) ** 0.5)

    def _step_other(self, weight: Tensor, grad: Tensor, group: dict[str, Any]) -> None:
        state = self.state[weight]
        if not state:
            state.update(step=0, mean=torch.zeros_like(weight), square=torch.zeros_like(weight))
        state["step"] += 1
        first, second = group["betas"]
        state["mean"].lerp_(grad, 1 - first)
        state["square"].lerp_(grad.square(), 1 - second)
        scale = (state["square"] / (1 - second ** state["step"])).sqrt_().add_(group["eps"])
        weight.addcdiv_(state["mean"], scale, value=-group["lr"] / (1 - first ** state["step"]))


def is_matrix(weight: Tensor) -> bool:
    """Whether a weight (output channels, ...) is stepped by Muon: `SMALLEST_MATRIX` rows and columns or more."""
    return weight.ndim > 1 and min(len(weight), weight[0].numel()) >= SMALLEST_MATRIX


def orthogonal(matrix: Tensor, iterations: int = 5) -> Tensor:
    """Give nearly the orthogonal matrix that is closest to one, its polar factor.

    Newton-Schulz iteration, in bfloat16 where the device multiplies it fast, else in float32.

    Parameters
    ----------
    matrix : Tensor
        (rows, columns); a matrix of zeros stays one.
    iterations : int
        Five bring the singular values to within 0.7 to 1.2, those below a hundredth of the largest or so less far.

    Returns
    -------
    Tensor
        (rows, columns), dtype of `matrix`.
    """
    linear, cubic, quintic = QUINTIC
    fast = matrix.is_cuda or (matrix.device.type == "cpu" and multiplies_bfloat16())
    result = matrix.to(torch.bfloat16 if fast else torch.float32)
    upright = len(result) > result.shape[1]
    if upright:
        result = result.T
    result = result / (result.norm() + 1e-7)
    for _ in range(iterations):
        gram = result @ result.T
        result = torch.addmm(result, torch.addmm(gram, gram, gram, beta=cubic, alpha=quintic), result, beta=linear)
    return (result.T if upright else result).to(matrix.dtype)
