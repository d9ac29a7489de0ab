"""Whole studies: the command, and each step beside MONAI's, every run in a process of its own. Used by benchmark.py."""

from __future__ import annotations

import json
import re
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np
from benchmark_figures import SLOW_SECONDS, Measured

Size = tuple[int, int, int]
Spacing = tuple[float, float, float]

SIZES: dict[str, tuple[Size, Spacing]] = {
    "256 x 256 x 160": ((256, 256, 160), (0.6, 0.6, 0.6)),
    "512 x 512 x 320": ((512, 512, 320), (0.3, 0.3, 0.3)),
    "512 x 512 x 640": ((512, 512, 640), (0.3, 0.3, 0.3)),
}
BOTH_THREADS = "512 x 512 x 320"
"""The study whose whole command is also run on one thread."""

TITLES = {"grid": "to the model's grid", "intensities": "intensities", "network": "network", "after": "label map"}
"""Step to what the tables call it. `intensities` are the same steps in both ways: shading, what is left out, ranks."""

RESAMPLING: tuple[Size, Spacing] = ((512, 512, 300), (0.6, 0.6, 1.0))

POLL_SECONDS = 0.02
"""Between two looks at the memory of a running command."""

DOOR = Path(__file__).with_name("benchmark.py")


def segment(arguments: Any) -> Measured:
    """Time and peak memory of ``lightunet segment``, by step, for several sizes, and for one of them on one thread."""
    lines: list[str] = []
    sizes = list(SIZES)[: 2 if arguments.quick else 3]
    with tempfile.TemporaryDirectory() as folder:
        for name in sizes:
            study = _nifti(Path(folder), *SIZES[name])
            counts = sorted({arguments.threads, 1} if name == BOTH_THREADS else {arguments.threads}, reverse=True)
            runs: dict[int, list[dict[str, float]]] = {threads: [] for threads in counts}
            for index in range(arguments.runs + 1):
                for threads in counts:  # in turn: what disturbs the machine disturbs both
                    found = _command(study, Path(folder) / f"{name}, {threads}, {index}", threads)
                    runs[threads] += [found] if index else []  # the first warms up
            study.unlink()
            for threads in counts:
                medians = {key: statistics.median(run[key] for run in runs[threads]) for key in runs[threads][0]}
                peak = medians.pop("peak")
                lines = lines or [
                    f"| study | threads | {' | '.join(medians)} | peak memory, MB |",
                    "|---|---|" + "---|" * (len(medians) + 1),
                ]
                cells = " | ".join(f"{value:.2f}" for value in medians.values())
                lines.append(f"| {name} | {threads} | {cells} | {peak:.0f} |")
    return Measured(lines)


def start(arguments: Any) -> Measured:
    """Cold start: the whole command on a tiny volume, with what it compiled before still in the cache."""
    with tempfile.TemporaryDirectory() as folder:
        study = _nifti(Path(folder), (48, 48, 24), (1.5, 1.5, 1.5))
        outs = [Path(folder) / f"{index}" for index in range(arguments.runs + 1)]
        runs = [_command(study, out, arguments.threads) for out in outs][1:]
        bare = [_seconds_of([sys.executable, "-c", "import torch"]) for _ in range(arguments.runs)]
    whole = statistics.median(run["whole"] for run in runs)
    return Measured(
        [
            f"`lightunet segment` on 48 x 48 x 24 voxels: {whole:.2f} s, lowest "
            f"{min(run['whole'] for run in runs):.2f} s; of that Python with PyTorch alone "
            f"{statistics.median(bare):.2f} s."
        ]
    )


def resampling(arguments: Any) -> Measured:
    """Before and after the network, ours beside MONAI's transforms; without the network."""
    return _beside(arguments, *RESAMPLING, network=False)


def study(arguments: Any) -> Measured:
    """A whole study in memory, from volume to label map: ours beside MONAI's transforms and sliding windows."""
    return _beside(arguments, *SIZES["256 x 256 x 160" if arguments.quick else "512 x 512 x 320"], network=True)


def child(arguments: Any) -> int:
    """One run of one way in this process; prints JSON."""
    import torch

    torch.set_num_threads(arguments.threads)
    from monai.data import MetaTensor

    from lightunet_monai.inference import Predictor
    from lightunet_monai.options import RunOptions

    predictor = Predictor(options=RunOptions(threads=arguments.threads))
    spacing = json.loads(arguments.spacing)
    voxels = torch.from_numpy(np.load(arguments.volume).astype(np.float32))[None]
    volume = MetaTensor(voxels, affine=torch.diag(torch.tensor([*spacing, 1.0], dtype=torch.float64)))
    steps = {"ours": _ours, "monai": _monai}[arguments.way](predictor, arguments.network)
    case: dict[str, Any] = {"image": volume}
    del voxels, volume
    seconds = {}
    with torch.inference_mode():
        for name, step in steps.items():
            wall, cpu = time.perf_counter(), time.process_time()
            case = step(case)
            if torch.cuda.is_initialized():
                torch.cuda.synchronize()
            seconds[name] = (time.perf_counter() - wall, time.process_time() - cpu)
    labels = case["pred"].as_tensor()[0]
    np.save(arguments.labels, np.packbits(labels.bool().cpu().numpy()))
    print(json.dumps({"seconds": seconds, "peak": peak_mb("self")}))
    return 0


def _ours(predictor: Any, network: bool) -> dict[str, Any]:
    def infer(case: dict[str, Any]) -> dict[str, Any]:
        image = case["image"].as_tensor().to(predictor.parts.device)
        logits = predictor.parts.inferer(image[None], predictor.engine)[0] if network else _false_logits(image)
        return {**case, "pred": logits}

    to_grid, intensities = _at_the_grid(predictor)
    return {"grid": to_grid, "intensities": intensities, "network": infer, "after": predictor.parts.postprocessing}


def _at_the_grid(predictor: Any) -> tuple[Any, Any]:
    """Give the steps up to the model's grid, and those after it, which are the same in both ways."""
    from monai.transforms import Compose

    steps = predictor.parts.preprocessing.transforms
    behind = 1 + next(index for index, step in enumerate(steps) if type(step).__name__ == "ToModelGridd")
    return Compose(steps[:behind]), Compose(steps[behind:])


def _monai(predictor: Any, network: bool) -> dict[str, Any]:
    """Grids and label map by MONAI's own transforms; intensities and the judgement of pieces stay the bundle's."""
    from monai.inferers import SlidingWindowInferer
    from monai.transforms import AsDiscreted, Compose, Invertd, Lambdad, Orientationd, Spacingd

    _, shared = _at_the_grid(predictor)
    to_grid = Compose(
        [
            Orientationd(keys="image", axcodes="RAS", labels=(("L", "R"), ("P", "A"), ("I", "S"))),
            Spacingd(keys="image", pixdim=predictor.parts.settings["model_spacing"], mode="bilinear"),
        ]
    )

    def intensities(case: dict[str, Any]) -> dict[str, Any]:
        scaled = dict(shared(case))
        scaled["image"].applied_operations = case["image"].applied_operations  # what Invertd undoes
        return scaled

    inferer = SlidingWindowInferer((256, 256), sw_batch_size=4, overlap=0.25, mode="gaussian")

    def infer(case: dict[str, Any]) -> dict[str, Any]:
        from monai.data import MetaTensor

        image = case["image"].as_tensor().to(predictor.parts.device)
        if network:
            from benchmark_network import monai_windows

            logits = monai_windows(image[None], predictor.parts.network, inferer, predictor.parts.inferer)
        else:
            logits = _false_logits(image)
        pred = MetaTensor(logits, meta=case["image"].meta, applied_operations=case["image"].applied_operations)
        return {**case, "pred": pred}

    judge, restore, remove = predictor.parts.postprocessing.transforms
    cut = restore.cut

    def at_threshold(logits: Any) -> Any:
        shifted = logits.clone()
        shifted[0] += cut
        return shifted

    after = Compose(
        [
            judge,
            Lambdad(keys="pred", func=at_threshold),
            Invertd(keys="pred", transform=to_grid, orig_keys="image", nearest_interp=False),
            AsDiscreted(keys="pred", argmax=True),
            remove,
        ]
    )
    return {"grid": to_grid, "intensities": intensities, "network": infer, "after": after}


def _false_logits(image: Any) -> Any:
    """A ball in the middle of the grid, in place of what a network would find: (1, X, Y, Z) to (2, X, Y, Z)."""
    import torch

    axes = [torch.arange(n, dtype=torch.float32) - (n - 1) / 2 for n in image.shape[1:]]
    x, y, z = torch.meshgrid(*axes, indexing="ij")
    margin = min(image.shape[1:]) / 4 - (x**2 + y**2 + z**2).sqrt()
    return torch.stack([torch.zeros_like(margin), margin])


def _beside(arguments: Any, shape: Size, spacing: Spacing, *, network: bool) -> Measured:
    rows: dict[str, list[dict[str, Any]]] = {"ours": [], "monai": []}
    labels = {}
    with tempfile.TemporaryDirectory() as folder:
        volume = Path(folder) / "volume.npy"
        np.save(volume, _voxels(shape))
        command = [sys.executable, "-W", "ignore", str(DOOR), "child", "--volume", str(volume)]
        command += ["--spacing", json.dumps(spacing), "--threads", str(arguments.threads)]
        command += ["--network"] if network else []
        for _ in range(arguments.runs):
            for way, found in rows.items():
                if found and sum(wall for wall, _ in found[0]["seconds"].values()) > SLOW_SECONDS:
                    continue
                packed = Path(folder) / f"{way}.npy"
                answer = subprocess.run(
                    [*command, "--way", way, "--labels", str(packed)], stdout=subprocess.PIPE, text=True, check=True
                )
                found.append(json.loads(answer.stdout.splitlines()[-1]))
                labels[way] = np.unpackbits(np.load(packed)).astype(bool)
    both = 2 * np.count_nonzero(labels["ours"] & labels["monai"])
    agreement = both / max(1, np.count_nonzero(labels["ours"]) + np.count_nonzero(labels["monai"]))
    steps = ("grid", "intensities", "network", "after") if network else ("grid", "intensities", "after")
    alone = ("grid", "after")
    lines = [
        f"{' x '.join(map(str, shape))} voxels at {' x '.join(map(str, spacing))} mm, {arguments.threads} threads. "
        f"Each run in a process of its own, without a warm-up. Dice of the two label maps: {agreement:.3f}.",
        "",
        "| way | runs | " + " | ".join(f"{TITLES[step]}, s" for step in steps),
        "|---|" + "---|" * (len(steps) + 5),
    ]
    lines[2] += " | seconds in all | CPU seconds in all | CPU seconds, grid and label map | peak memory, MB |"
    totals = {}
    for way, found in rows.items():
        wall, cpu = (
            {step: statistics.median(run["seconds"][step][kind] for run in found) for step in steps} for kind in (0, 1)
        )
        peak = statistics.median(run["peak"] for run in found)
        totals[way] = (sum(wall.values()), sum(cpu.values()), sum(cpu[step] for step in alone), peak)
        cells = [f"{value:.2f}" for value in (*wall.values(), *totals[way][:3])]
        lines.append(f"| {way} | {len(found)} | " + " | ".join(cells) + f" | {peak:.0f} |")
    ratios = [other / own for own, other in zip(totals["ours"], totals["monai"], strict=True)]
    lines.append("| monai / ours | | " + " | " * len(steps) + " | ".join(f"{ratio:.1f}" for ratio in ratios) + " |")
    return Measured(lines)


def _command(study: Path, out: Path, threads: int) -> dict[str, float]:
    command = [sys.executable, "-m", "lightunet_monai", "segment", str(study), "-o", str(out)]
    start = time.perf_counter()
    process = subprocess.Popen([*command, "--threads", str(threads)], stdout=subprocess.DEVNULL)
    peak = 0.0
    while process.poll() is None:
        peak = max(peak, peak_mb(process.pid))
        time.sleep(POLL_SECONDS)
    whole = time.perf_counter() - start
    if process.returncode:
        raise SystemExit("lightunet segment failed")
    seconds = json.loads((out / "report.json").read_text())["seconds"]
    rest = whole - sum(seconds.values())
    return {**seconds, "write, start-up": rest, "whole": whole, "peak": peak}


def peak_mb(process: int | str) -> float:
    """Peak resident memory of a running process, MB; 0 if it has ended. Linux only.

    What `resource.getrusage` says would be at least the peak of the process that started it.
    """
    try:
        status = Path(f"/proc/{process}/status").read_text()
    except OSError:
        return 0.0
    found = re.search(r"VmHWM:\s*(\d+) kB", status)
    return int(found[1]) / 1024 if found else 0.0


def _seconds_of(command: list[str]) -> float:
    start = time.perf_counter()
    subprocess.run(command, check=True)
    return time.perf_counter() - start


def _voxels(shape: Size) -> np.ndarray[Any, np.dtype[np.int16]]:
    """A simulated breast on a grid of this size, interpolated from a coarser one: for speed only."""
    from scipy import ndimage

    from lightunet_monai.simulation import SimulationSettings, simulate_case

    case = simulate_case(8, settings=SimulationSettings(spacing=(0.6, 0.6), max_voxels=200))
    factors = [n / m for n, m in zip(shape, case.volume_hu.shape, strict=True)]
    return np.asarray(ndimage.zoom(case.volume_hu.astype(np.float32), factors, order=1).astype(np.int16))


def _nifti(folder: Path, shape: Size, spacing: Spacing) -> Path:
    import nibabel as nib

    path = folder / "study.nii"
    nib.save(nib.Nifti1Image(_voxels(shape), np.diag([*spacing, 1.0])), path)
    return path
