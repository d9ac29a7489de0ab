"""``lightunet profile``: what the networks cost."""

from __future__ import annotations

import argparse
import json

from ..errors import UsageError


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the arguments of this subcommand."""
    parser.add_argument(
        "--size", type=int, nargs="+", default=[256, 256], metavar="N", help="spatial size, 2 or 3 numbers (256 256)"
    )
    parser.add_argument("--in-channels", type=int, default=3, help="channels of the input (3)")
    parser.add_argument("--out-channels", type=int, default=2, help="channels of the logits (2)")
    parser.add_argument("--json", action="store_true", help="print JSON")


def run(arguments: argparse.Namespace) -> int:
    """Print the table of both networks."""
    from dataclasses import asdict

    from ..networks import LightUNet, UNet
    from ..networks.profile import format_table, profile

    dims = len(arguments.size)
    if dims not in (2, 3) or min(arguments.size) < 16:
        raise UsageError(
            f"option --size: found {arguments.size}, expected 2 or 3 numbers of 16 or more.", hint="Try --size 256 256."
        )
    if min(arguments.in_channels, arguments.out_channels) < 1:
        raise UsageError(
            f"options --in-channels and --out-channels: found {arguments.in_channels} and {arguments.out_channels}, "
            "expected 1 or more."
        )
    channels = {"in_channels": arguments.in_channels, "out_channels": arguments.out_channels}
    networks = {
        "UNet": UNet(dims, **channels),
        "LightUNet (beta fixed)": LightUNet(dims, **channels, learnable_beta=False),
        "LightUNet": LightUNet(dims, **channels),
    }
    profiles = {name: profile(network, (arguments.in_channels, *arguments.size)) for name, network in networks.items()}
    if arguments.json:
        print(json.dumps({name: asdict(p) for name, p in profiles.items()}, indent=2))
    else:
        print(f"input 1 x {arguments.in_channels} x {' x '.join(map(str, arguments.size))}, float32; bytes where bytes")
        print(format_table(profiles))
    return 0
