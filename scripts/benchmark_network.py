"""What runs the network: engines, windows, the plain U-Net, the machine's ceiling. Used by scripts/benchmark.py."""

from __future__ import annotations

import copy
import os
import statistics
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch
from benchmark_figures import SLOW_SECONDS, Measured
from benchmark_nnunet import nnunet_slices, open_nnunet
from monai.inferers import SliceInferer as MonaiSliceInferer
from monai.inferers import SlidingWindowInferer
from torch import Tensor, nn

from lightunet_monai.errors import UsageError
from lightunet_monai.inference import Predictor
from lightunet_monai.inference.engines import Engine, choose_engine
from lightunet_monai.inference.torch_engines import computes_natively
from lightunet_monai.networks import LightUNet, UNet
from lightunet_monai.networks.profile import profile
from lightunet_monai.options import ENGINES, RunOptions

WINDOW = (256, 256)
"""Windows of the comparison with MONAI, as in its tutorials of this network's input size."""

HALF = ("openvino", "torch-tuned", "torch-compiled")
"""Engines that are measured in bfloat16, too, on a processor with units for it."""


@dataclass
class Timing:
    """Seconds of some runs, by the clock and of all CPU cores together."""

    wall: list[float] = field(default_factory=list)
    cpu: list[float] = field(default_factory=list)

    @property
    def median(self) -> float:
        return statistics.median(self.wall)

    @property
    def median_cpu(self) -> float:
        return statistics.median(self.cpu)

    def add(self, way: Callable[[], Any]) -> Any:
        """Run a way, note its seconds, give its answer."""
        wall, cpu = time.perf_counter(), time.process_time()
        answer = way()
        if torch.cuda.is_initialized():
            torch.cuda.synchronize()
        self.wall.append(time.perf_counter() - wall)
        self.cpu.append(time.process_time() - cpu)
        return answer


def measure(
    ways: dict[str, Callable[[], Any]], runs: int, slow_seconds: float = SLOW_SECONDS
) -> tuple[dict[str, Timing], dict[str, Any]]:
    """Run each way once to warm up, then all ways in turn: what disturbs the machine disturbs all of them.

    A way whose first run takes longer than ``slow_seconds`` is not run again: that run counts.
    """
    timings = {name: Timing() for name in ways}
    answers = {name: timings[name].add(way) for name, way in ways.items()}
    quick = {name: way for name, way in ways.items() if timings[name].wall[0] <= slow_seconds}
    for name in quick:
        timings[name] = Timing()
    for _ in range(runs):
        for name, way in quick.items():
            timings[name].add(way)
    return timings, answers


def dice(found: Tensor, expected: Tensor) -> float:
    total = int(found.sum()) + int(expected.sum())
    return 2 * int((found & expected).sum()) / total if total else 1.0


def ceiling(runs: int, device: torch.device) -> dict[str, float]:
    """The device's rate of float32 and bfloat16 matrix products, GFLOP/s, and of memory, GB/s."""
    size = 2048  # bfloat16 is emulated, a hundred times slower, where the processor lacks it
    half_size = size if device.type != "cpu" or computes_natively("bfloat16") else 512
    a = torch.rand(size, size, device=device)
    half = torch.rand(half_size, half_size, device=device).bfloat16()
    big = torch.rand(1 << 26, device=device)
    out = torch.empty_like(big)
    timings, _ = measure(
        {"float32": lambda: a @ a, "bfloat16": lambda: half @ half, "memory": lambda: torch.add(big, 1.0, out=out)},
        runs,
    )
    return {
        "float32": 2.0 * size**3 / timings["float32"].median / 1e9,
        "bfloat16": 2.0 * half_size**3 / timings["bfloat16"].median / 1e9,
        "memory": 2 * big.numel() * 4 / timings["memory"].median / 1e9,
    }


def convolution_flops(network: nn.Module, shape: tuple[int, int, int]) -> float:
    """Multiplications and additions of all convolutions, transposed ones too, for one slice (C, H, W)."""
    total = 0.0

    def count(module: nn.Module, inputs: tuple[Tensor, ...], output: Tensor) -> None:
        nonlocal total
        weight = module.weight
        spread = inputs[0] if isinstance(module, nn.ConvTranspose2d) else output
        total += 2.0 * weight.numel() * spread.shape[-1] * spread.shape[-2]

    hooks = [
        module.register_forward_hook(count)
        for module in network.modules()
        if isinstance(module, (nn.Conv2d, nn.ConvTranspose2d))
    ]
    with torch.inference_mode():
        network(torch.zeros(1, *shape))
    for hook in hooks:
        hook.remove()
    return total


def engines(arguments: Any) -> Measured:
    """Each engine on one batch of slices of a study, beside the reference."""
    predictor, image = study_on_model_grid()
    network, device = predictor.parts.network, predictor.parts.device
    x = _middle_stack(image, 4, predictor.parts.inferer.neighbours).to(device)
    ways: dict[str, Callable[[], Any]] = {}
    started: dict[str, Engine] = {}
    half = HALF if device.type == "cpu" and computes_natively("bfloat16") else ()
    for name, precision in [*((name, None) for name in ENGINES[1:]), *((name, "bfloat16") for name in half)]:
        try:
            options = RunOptions(engine=name, precision=precision, threads=arguments.threads)
            engine = choose_engine(network, device, options)
        except UsageError as error:
            print(f"left out: {name}: {error.message}")
            continue
        way = name if precision is None else f"{name} {precision}"
        ways[way] = _on(engine, x)
        started[way] = engine
    timings, answers = measure(ways, arguments.runs)
    rate = ceiling(arguments.runs, device)
    flops = convolution_flops(network.cpu(), tuple(x.shape[1:])) * x.shape[0]
    base, expected = timings["torch"], answers["torch"].cpu()
    lines = [
        f"One batch of {x.shape[0]} slices of {x.shape[2]} x {x.shape[3]} voxels, {_where(arguments, device)}. "
        f"Matrix products on it: float32 {rate['float32']:.0f} GFLOP/s, bfloat16 {rate['bfloat16']:.0f} "
        f"GFLOP/s; memory {rate['memory']:.1f} GB/s.",
        "",
        "| engine | precision | seconds a slice | times faster | same in CPU seconds | "
        "share of the ceiling of its precision | largest difference of a logit | Dice to the reference |",
        "|---|---|---|---|---|---|---|---|",
    ]
    for name, timing in timings.items():
        found = answers[name].cpu()
        score = dice(found[:, 1] > found[:, 0], expected[:, 1] > expected[:, 0])
        engine = started[name]
        share = flops / timing.median / 1e9 / rate.get(engine.precision, rate["bfloat16"])
        lines.append(
            f"| {engine.name} | {engine.precision} | {timing.median / x.shape[0]:.3f} | "
            f"{base.median / timing.median:.2f} | {base.median_cpu / timing.median_cpu:.2f} | {share:.0%} | "
            f"{(found - expected).abs().max():.1e} | {score:.5f} |"
        )
    return Measured(lines)


def windows(arguments: Any) -> Measured:
    """Exact tiling beside MONAI's and nnU-Net's sliding windows, eager, same network and weights."""
    predictor, image = study_on_model_grid(slices=16 if arguments.quick else None)
    network, parts = predictor.parts.network, predictor.parts
    on_device = image[:, :1].to(parts.device)
    inferer: Any = copy.copy(parts.inferer)
    if arguments.quick:
        inferer.slice_axes = inferer.slice_axes[-1:]

    everywhere: Any = copy.copy(inferer)
    everywhere.refine_logit = None

    def blended(overlap: float, size: int = WINDOW[0]) -> Callable[[], Tensor]:
        windows = SlidingWindowInferer((size, size), sw_batch_size=4, overlap=overlap, mode="gaussian")
        return lambda: monai_windows(on_device, network, windows, inferer)

    thick = on_device.expand(1, 2 * inferer.neighbours + 1, *on_device.shape[2:])  # a slice as its own neighbours
    slice_inferers = [
        MonaiSliceInferer(roi_size=WINDOW, sw_batch_size=4, overlap=0.25, mode="gaussian", spatial_dim=axis)
        for axis in inferer.slice_axes
    ]
    ways: dict[str, Callable[[], Any]] = {
        f"ours: exact, {predictor.engine.name}": lambda: inferer(on_device, predictor.engine)[0],
        "ours: exact, windows of 176": lambda: inferer(on_device, predictor.engine, roi_size=(176, 176))[0],
        "ours: exact, plain PyTorch": lambda: inferer(on_device, network)[0],
        "ours: exact, every direction everywhere": lambda: everywhere(on_device, predictor.engine)[0],
        "MONAI SlidingWindowInferer 256, overlap 0.25": blended(0.25),
        "MONAI SlidingWindowInferer 96, overlap 0.25": blended(0.25, 96),
    }
    if not arguments.quick:
        ways["MONAI SlidingWindowInferer 256, overlap 0.5"] = blended(0.5)
        ways["MONAI SliceInferer 256, overlap 0.25"] = lambda: sum(one(thick, network)[0] for one in slice_inferers)
    nnunet = open_nnunet(network, WINDOW, len(parts.labels) + 1, parts.device)
    if nnunet is not None:
        ways["nnU-Net predictor 256, step 0.5"] = lambda: mean_over(
            inferer.slice_axes, lambda axis: nnunet_slices(stacks(on_device, axis, inferer.neighbours), nnunet)
        )
    with torch.inference_mode():
        timings, answers = measure(ways, arguments.runs)
    ours, reference = next(iter(timings.values())), answers["ours: exact, plain PyTorch"].cpu()
    expected = reference[1] > reference[0]
    lines = [
        f"{' x '.join(map(str, image.shape[2:]))} voxels on the model's grid, slices along "
        f"{len(inferer.slice_axes)} of 3 directions, {_where(arguments, parts.device)}. "
        f"{_about_windows(image, with_nnunet=nnunet is not None)}",
        "",
        "| way | seconds | runs | times ours | same in CPU seconds | labels that differ from plain PyTorch | Dice |",
        "|---|---|---|---|---|---|---|",
    ]
    for name, timing in timings.items():
        found = answers[name].cpu()
        labels = found[1] > found[0]
        lines.append(
            f"| {name} | {timing.median:.2f} | {len(timing.wall)} | {timing.median / ours.median:.1f} | "
            f"{timing.median_cpu / ours.median_cpu:.1f} | {int((labels != expected).sum())} of {expected.numel()} | "
            f"{dice(labels, expected):.5f} |"
        )
    return Measured(lines, {"seconds": {name: timing.median for name, timing in timings.items()}})


def _about_windows(image: Tensor, *, with_nnunet: bool) -> str:
    remarks = []
    if max(image.shape[2:]) <= WINDOW[0]:
        remarks.append(
            "MONAI and nnU-Net fill slices that are smaller than a window up to its size: one window of 256 holds "
            "a whole slice here, whatever the overlap."
        )
    if with_nnunet:
        remarks.append(
            "nnU-Net goes through the slices one by one as its 2-D configuration does, with the neighbouring slices as "
            "channels, its default step of half a window and its Gaussian, without mirroring."
        )
    else:
        remarks.append("nnU-Net was not installed.")
    return " ".join(remarks)


def networks(arguments: Any) -> Measured:
    """The paper's claim: the light network beside the plain U-Net, counted and timed."""
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    x = torch.rand(1, 3, *WINDOW, generator=torch.Generator().manual_seed(0)).to(device)
    pair: dict[str, nn.Module] = {"plain U-Net": UNet().eval(), "LightUNet": LightUNet().eval()}
    costs = {name: profile(network, (3, *WINDOW)) for name, network in pair.items()}
    ways: dict[str, Callable[[], Any]] = {}
    for name, network in pair.items():
        for engine_name in ("torch", "auto"):
            options = RunOptions(engine=engine_name, threads=arguments.threads)
            ways[f"{name}, {engine_name}"] = _on(choose_engine(network.to(device), device, options), x)
    timings, _ = measure(ways, arguments.runs)
    lines = [
        f"One slice of {WINDOW[0]} x {WINDOW[1]} voxels, random weights, {_where(arguments, device)}.",
        "",
        "| network | parameters | multiply-adds | memory traffic, MB | seconds, PyTorch | seconds, fastest engine |",
        "|---|---|---|---|---|---|",
    ]
    for name, cost in costs.items():
        eager, fastest = timings[f"{name}, torch"].median, timings[f"{name}, auto"].median
        lines.append(
            f"| {name} | {cost.parameters:,} | {cost.madd / 1e9:.1f} G | {cost.memory / 2**20:.0f} | {eager:.2f} | "
            f"{fastest:.2f} |"
        )
    plain, light = costs["plain U-Net"], costs["LightUNet"]
    ratios = [plain.parameters / light.parameters, plain.madd / light.madd, plain.memory / light.memory]
    ratios += [timings[f"plain U-Net, {e}"].median / timings[f"LightUNet, {e}"].median for e in ("torch", "auto")]
    lines.append("| plain / light | " + " | ".join(f"{ratio:.2f}" for ratio in ratios) + " |")
    return Measured(lines)


def scaling(arguments: Any) -> Measured:
    """Seconds of the network against the voxels of tissue, and the line through them."""
    predictor, image = study_on_model_grid()
    image = image.to(predictor.parts.device)
    depth = image.shape[-1]
    parts = {
        f"{share}": image[..., : depth * share // 8].contiguous() for share in range(2, 9, 2 if arguments.quick else 1)
    }
    ways = {name: (lambda part=part: predictor.parts.inferer(part, predictor.engine)) for name, part in parts.items()}
    with torch.inference_mode():
        timings, _ = measure(ways, arguments.runs)
    tissue = np.array([int((part[:, 0] > 0).sum()) for part in parts.values()], dtype=np.float64)
    seconds = np.array([timing.median for timing in timings.values()])
    slope, offset = np.polyfit(tissue, seconds, 1)
    explained = np.corrcoef(tissue, seconds)[0, 1] ** 2
    rows = [f"| {voxels / 1e3:.0f} | {time_:.2f} |" for voxels, time_ in zip(tissue, seconds, strict=True)]
    lines = [
        f"Seconds = {offset:.2f} + {slope * 1e6:.2f} per million voxels of tissue; R squared {explained:.3f}.",
        "",
        "| thousand voxels of tissue | seconds of the network |",
        "|---|---|",
        *rows,
    ]
    figures = {"tissue": tissue.tolist(), "seconds": seconds.tolist(), "slope": float(slope), "offset": float(offset)}
    return Measured(lines, figures)


def study_on_model_grid(slices: int | None = None) -> tuple[Predictor, Tensor]:
    """The shipped model and a simulated study on its grid, (1, C, X, Y, Z)."""
    from monai.data import MetaTensor

    from lightunet_monai.simulation import SimulationSettings, simulate_case

    predictor = Predictor(options=RunOptions(threads=torch.get_num_threads()))
    case = simulate_case(11, settings=SimulationSettings(spacing=(0.6, 0.6), max_voxels=256))
    voxels = torch.from_numpy(case.volume_hu.astype(np.float32))[None]
    image = predictor.parts.preprocessing({"image": MetaTensor(voxels, affine=torch.as_tensor(case.affine))})["image"]
    volume = image.as_tensor()[None]
    if slices is not None:
        start = max(0, volume.shape[-1] // 2 - slices // 2)
        volume = volume[..., start : start + slices].contiguous()
    return predictor, volume


def _on(engine: Callable[[Tensor], Tensor], x: Tensor) -> Callable[[], Tensor]:
    def way() -> Tensor:
        with torch.inference_mode():
            return engine(x)

    return way


def monai_windows(image: Tensor, network: Callable[[Tensor], Tensor], windows: Any, ours: Any) -> Tensor:
    """Logits (K, X, Y, Z) of MONAI's sliding windows over the slices along each axis of our inferer: their mean."""
    return mean_over(ours.slice_axes, lambda axis: windows(stacks(image, axis, ours.neighbours), network).movedim(0, 1))


def mean_over(axes: Sequence[int], logits_along: Callable[[int], Tensor]) -> Tensor:
    """Mean (K, X, Y, Z) over the axes of what is given for the slices along each of them, (K, S, H, W)."""
    total: Any = 0
    for axis in axes:
        total = total + logits_along(axis).movedim(1, 1 + axis)
    return total / len(axes)


def stacks(image: Tensor, axis: int, neighbours: int) -> Tensor:
    """Each slice of (1, 1, X, Y, Z) along an axis with its neighbours on both sides as channels, (S, C, H, W)."""
    slices = image[0, 0].movedim(axis, 0)
    shifts = torch.arange(-neighbours, neighbours + 1)
    return torch.stack([slices[(shifts + k).clamp(0, len(slices) - 1)] for k in range(len(slices))])


def _middle_stack(image: Tensor, count: int, neighbours: int) -> Tensor:
    every = stacks(image, 2, neighbours)
    start = max(0, len(every) // 2 - count // 2)
    return every[start : start + count].contiguous()


def _where(arguments: Any, device: Any) -> str:
    return f"{arguments.threads} threads, {device}"


def processor() -> str:
    """Cores and instruction sets, without names of machines."""
    flags = torch.cpu.get_capabilities() if hasattr(torch.cpu, "get_capabilities") else {}
    units = [name for name in ("avx2", "avx512_f", "avx512_bf16", "amx_bf16", "amx_fp16") if flags.get(name)]
    return f"{os.cpu_count()} CPU cores ({', '.join(units) or 'no vector units named'})"
