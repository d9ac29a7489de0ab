"""A narrow network's weights for a wide one that gives the same answers, to train on from."""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor, nn
from torch.nn.modules.conv import _ConvNd, _ConvTransposeNd

State = Mapping[str, Tensor]


def widened(state: State, network: nn.Module) -> State:
    """Give the weights of a narrower network of the same kind for `network`, without changing what it computes.

    A narrow network is trained in a fraction of the time. Each of its hidden channels becomes several equal ones, and
    the weights on the way out of a channel are shared among its copies in random parts that add up to one, another
    split for every output ("Net2WiderNet", Chen et al. 2016, arXiv:1511.05641). So the answer stays, but for rounding,
    and copies have different slopes and part in further training.

    Parameters
    ----------
    state : mapping of str to Tensor
        Weights of the narrower network.
    network : Module
        The wider one: each number of hidden channels a whole multiple of the narrower one's.

    Returns
    -------
    mapping of str to Tensor
        Weights for `network`; ``state`` itself where it does not fit that description.
    """
    own = network.state_dict()
    if state.keys() != own.keys() or all(state[key].shape == own[key].shape for key in own):
        return state
    first, last = next(iter(own)), next(reversed(own))
    same_ends = own[first].shape[1:2] == state[first].shape[1:2] and own[last].shape[:1] == state[last].shape[:1]
    if not same_ends or not all(_is_multiple(own[key].shape, state[key].shape) for key in own):
        return state
    modules = dict(network.named_modules())
    return {
        key: _wider(state[key], value, modules.get(key.rpartition(".")[0]), key.endswith(".weight"))
        for key, value in own.items()
    }


def _is_multiple(wide: torch.Size, narrow: torch.Size) -> bool:
    return len(wide) == len(narrow) and all(w % n == 0 for w, n in zip(wide, narrow, strict=True))


def _wider(narrow: Tensor, wide: Tensor, module: nn.Module | None, is_weight: bool) -> Tensor:
    ratios = [w // n for w, n in zip(wide.shape, narrow.shape, strict=True)]
    x = narrow
    for dim, ratio in enumerate(ratios):
        x = x.repeat_interleave(ratio, dim)
    if not is_weight or not isinstance(module, _ConvNd):
        return x
    input_dim = 0 if isinstance(module, _ConvTransposeNd) else 1
    ratio = ratios[input_dim]
    share = torch.rand(wide.shape[1 - input_dim], narrow.shape[input_dim], ratio) + 0.5
    share = (share / share.sum(2, keepdim=True)).flatten(1)  # (output, input): parts of each input's copies
    if input_dim == 0:
        share = share.T
    return x * share.reshape(*share.shape, *[1] * (x.dim() - 2)).to(x)
