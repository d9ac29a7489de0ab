"""Is the device that a run asks for there?"""

from __future__ import annotations

import torch

from ..errors import UsageError


def check_device(name: str) -> None:
    """Check that this machine has a device.

    Parameters
    ----------
    name : str
        As PyTorch names it: ``"cpu"``, ``"cuda"``, ``"cuda:1"``, ``"mps"``.

    Raises
    ------
    UsageError
        If it has not, or if there is no such kind of device.
    """
    try:
        device = torch.device(name)
    except RuntimeError as error:
        raise UsageError(
            f"option --device: found {name!r}, expected cpu, cuda, cuda:1 or mps.",
            hint="Give one of these, or leave the option out.",
        ) from error
    counts = {
        "cpu": 1,
        "cuda": torch.cuda.device_count(),
        "xpu": torch.xpu.device_count(),
        "mps": torch.mps.device_count(),
    }
    if (device.index or 0) < counts.get(device.type, 0):
        return
    there = [f"{kind}:{n}" if count > 1 else kind for kind, count in counts.items() for n in range(count)]
    raise UsageError(
        f"option --device: found {name!r}, but this machine has only {', '.join(there)}.",
        hint="Give one of these, or leave the option out; a GPU needs its driver and a PyTorch that was built for it.",
    )
