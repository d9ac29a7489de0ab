"""Measure the simulator and plot it beside published values.

    python scripts/plot_simulator.py docs/simulator            # all plots and figures.json
    python scripts/plot_simulator.py docs/simulator --cases 60 --no-projection

The figures of docs/simulator.md come from here.
"""

import argparse
import json
import time
from dataclasses import replace
from itertools import pairwise
from pathlib import Path

import matplotlib as mpl
import nibabel
import numpy as np
import torch

mpl.use("Agg")
import matplotlib.pyplot as plt

from lightunet_monai.simulation import RECIPES, SIMULATOR_VERSION, SimulationSettings, Tissue, simulate_case
from lightunet_monai.simulation.grid import Grid
from lightunet_monai.simulation.projection import ProjectionPlan, project_and_reconstruct
from lightunet_monai.simulation.scanner import after_reconstruction, sample_scanner, scan
from lightunet_monai.simulation.tissues import TissueHu
from lightunet_monai.simulation.xray import BEAMS

VOXEL = 0.5
CYLINDER_RADIUS = 50.0
INSERT_RADIUS = 14.0
HU = TissueHu(
    air=-1000.0, adipose=-150.0, fibroglandular=20.0, skin=40.0, muscle=50.0, ligament=15.0, duct=10.0, vessel=40.0
)
REGION = 30.0
"""mm: edge of the square regions the texture is measured in."""

BETA_BAND = (0.1, 0.45)
"""Cycles per mm: between the size of the region and the blur."""


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--cases", type=int, default=60, help="cases that the distributions are taken from")
    parser.add_argument("--voxels", type=int, default=160, help="most voxels along an axis of these cases")
    parser.add_argument("--no-projection", action="store_true", help="leave out what needs numba")
    arguments = parser.parse_args()
    arguments.folder.mkdir(parents=True, exist_ok=True)
    figures: dict[str, object] = {"simulator_version": SIMULATOR_VERSION}
    for name, recipe in (("gallery", "train"), ("forms", "forms")):
        plot_gallery(arguments.folder / f"{name}.png", RECIPES[recipe].changed(max_voxels=arguments.voxels))
    figures["population"] = plot_population(arguments.folder / "population.png", arguments.cases, arguments.voxels)
    figures["scanner"] = plot_scanner(arguments.folder / "scanner.png", with_projection=not arguments.no_projection)
    text = json.dumps(figures, indent=1)
    (arguments.folder / "figures.json").write_text(text + "\n")
    print(text)


# Gallery


def plot_gallery(path: Path, settings: SimulationSettings) -> None:
    """Twelve cases: the slice with most tumour, or the middle one, seen from the front."""
    figure, axes = plt.subplots(3, 4, figsize=(10, 7.8))
    for axis, seed in zip(axes.ravel(), range(501, 513), strict=True):
        case = simulate_case(seed, settings=settings)
        volume = canonical(case.volume_hu, case.affine)
        label = canonical(case.label_map, case.affine)
        view = 2 if case.parameters["breast"]["family"] == "chest" else 1
        other = tuple(a for a in range(3) if a != view)
        counts = label.sum(axis=other)
        index = int(counts.argmax()) if counts.any() else volume.shape[view] // 2
        plane, drawn = volume.take(index, view).T, label.take(index, view).T
        spacing = case.parameters["spacing"]
        aspect = spacing[other[1]] / spacing[other[0]]
        axis.imshow(plane, cmap="gray", vmin=-250, vmax=200, origin="lower", aspect=aspect)
        if drawn.any():
            axis.contour(drawn, [0.5], colors="tab:red", linewidths=0.8)
        axis.set_title(f"{case.parameters['breast']['family']}, {case.parameters['parenchyma']['style']}", fontsize=8)
        axis.set_axis_off()
    figure.tight_layout()
    save(figure, path)


def canonical(array: np.ndarray, affine: np.ndarray) -> np.ndarray:
    return np.asarray(nibabel.as_closest_canonical(nibabel.Nifti1Image(array, affine)).dataobj)


# Population: densities, Hounsfield units, texture exponent, lesion sizes


def plot_population(path: Path, cases: int, voxels: int) -> dict[str, object]:
    density, beta, diameters, seconds, spread, sizes = [], [], [], [], [], []
    medians: dict[str, list[float]] = {"adipose": [], "fibroglandular": [], "tumour": []}
    settings = SimulationSettings(max_voxels=voxels, families=("pendant", "supine"), family_weights=(0.77, 0.23))
    # The exponent is that of the anatomy: noise would flatten and blur would steepen it.
    quiet = settings.changed(noise_hu=(0.1, 0.1), blur_mm=(0.3, 0.3), with_lesion=0.0)
    for seed in range(1000, 1000 + cases):
        start = time.perf_counter()
        case = simulate_case(seed, settings=settings)
        seconds.append(time.perf_counter() - start)
        sizes.append(case.volume_hu.size)
        tissue = case.tissue_map
        soft = (Tissue.ADIPOSE, Tissue.FIBROGLANDULAR, Tissue.LIGAMENT, Tissue.VESSEL_OR_DUCT, Tissue.TUMOUR)
        breast = np.isin(tissue, soft)
        density.append(float(np.sum(tissue == Tissue.FIBROGLANDULAR) / breast.sum()))
        for name, code in (("adipose", 1), ("fibroglandular", 2), ("tumour", 9)):
            if np.sum(tissue == code) > 50:
                medians[name].append(float(np.median(case.volume_hu[tissue == code])))
        spread.append(float(np.std(case.volume_hu[tissue == Tissue.ADIPOSE])))
        if seed % 2 == 0:
            beta += measure_beta(simulate_case(seed, settings=quiet))
        diameters += [lesion.equivalent_diameter for lesion in case.lesions]
    figure, axes = plt.subplots(1, 4, figsize=(14, 3.2))
    axes[0].hist(100 * np.array(density), bins=np.arange(0, 66, 4), color="tab:orange")
    axes[0].axvspan(15, 20, color="0.8", zorder=0, label="published mean 15-20 %")
    axes[0].set(xlabel="fibroglandular share of the breast, %", ylabel="cases")
    bins = np.arange(-260, 160, 12)
    for name, colour in (("adipose", "tab:blue"), ("fibroglandular", "tab:orange"), ("tumour", "tab:red")):
        axes[1].hist(medians[name], bins=bins, alpha=0.6, label=name, color=colour)
    axes[1].axvspan(-150, -80, color="tab:blue", alpha=0.12, zorder=0)
    axes[1].axvspan(10, 60, color="tab:orange", alpha=0.12, zorder=0)
    axes[1].set(xlabel="median HU in a case (bands: published)", ylabel="cases")
    axes[2].hist(beta, bins=np.arange(0.5, 4.0, 0.15), color="tab:green")
    axes[2].axvspan(1.5, 2.5, color="0.8", zorder=0, label="published 1.5-2.5")
    axes[2].set(xlabel=r"power-law exponent $\beta$ in the gland, no noise", ylabel="regions")
    axes[3].hist(diameters, bins=np.arange(0, 44, 3), color="tab:red")
    axes[3].set(xlabel="equivalent diameter of tumours, mm", ylabel="tumours")
    for axis in axes[:3]:
        axis.legend(fontsize=7)
    figure.tight_layout()
    save(figure, path)
    return {
        "cases": cases,
        "glandular_percent": quantiles(100 * np.array(density)),
        "adipose_hu": quantiles(medians["adipose"]),
        "fibroglandular_hu": quantiles(medians["fibroglandular"]),
        "tumour_hu": quantiles(medians["tumour"]),
        "adipose_standard_deviation_hu": quantiles(spread),
        "beta": quantiles(beta),
        "diameter_mm": quantiles(diameters),
        "seconds_per_case": quantiles(seconds),
        "megavoxels_per_second": round(float(np.sum(sizes) / np.sum(seconds) / 1e6), 2),
    }


def measure_beta(case: object) -> list[float]:
    """Exponents of the power spectrum of square regions of coronal slices inside the breast."""
    volume, tissue = canonical(case.volume_hu, case.affine), canonical(case.tissue_map, case.affine)
    dx, dy, dz = (float(s) for s in case.parameters["spacing"])
    if abs(dx - dz) > 0.05 * dx or dy > 1.5 * dx:
        return []
    side = int(REGION / dx)
    centre = np.argwhere(tissue == Tissue.FIBROGLANDULAR)
    if len(centre) == 0:
        return []
    x, _, z = centre.mean(axis=0).astype(int)
    corner = slice(x - side // 2, x - side // 2 + side), slice(z - side // 2, z - side // 2 + side)
    window = np.outer(np.hanning(side), np.hanning(side))
    powers = []
    for y in range(volume.shape[1]):
        region = volume[corner[0], y, corner[1]].astype(float)
        inside = tissue[corner[0], y, corner[1]]
        if region.shape != (side, side) or np.any(np.isin(inside, (0, Tissue.SKIN, Tissue.MUSCLE, Tissue.METAL))):
            continue
        powers.append(np.abs(np.fft.fft2((region - region.mean()) * window)) ** 2)
    if len(powers) < 5:
        return []
    frequency = np.hypot(*np.meshgrid(np.fft.fftfreq(side, dx), np.fft.fftfreq(side, dz), indexing="ij"))
    radii, mean = radial(frequency, np.mean(powers, axis=0), np.geomspace(*BETA_BAND, 9))
    return [float(-np.polyfit(np.log(radii), np.log(mean), 1)[0])]


def radial(frequency: np.ndarray, power: np.ndarray, edges: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    centres, means = [], []
    for low, high in pairwise(edges):
        ring = (frequency >= low) & (frequency < high)
        if ring.any():
            centres.append(float(np.sqrt(low * high)) if low > 0 else float(high / 2))
            means.append(float(power[ring].mean()))
    return np.array(centres), np.array(means)


# Scanner: noise power, edge response and cupping of both ways, on one phantom


def plot_scanner(path: Path, *, with_projection: bool) -> dict[str, object]:
    figure, axes = plt.subplots(1, 3, figsize=(13, 3.6))
    curves = {f"image domain, cut {cut:g}": image_domain(cut) for cut in (0.5, 0.8, 1.2)}
    if with_projection:
        curves |= {f"FDK {BEAMS[b].kvp:g} kVp, Hann {cut:g}": fdk(b, cut) for b, cut in ((0, 0.6), (1, 1.0))}
    figures: dict[str, object] = {}
    for name, (clean, noisy) in curves.items():
        style = "--" if name.startswith("FDK") else "-"
        frequency, power = noise_power(noisy - clean)
        axes[0].plot(frequency, power / power.max(), style, label=name)
        mtf_frequency, mtf = edge_response(clean)
        axes[1].plot(mtf_frequency, mtf, style, label=name)
        radius, profile = cupping_profile(clean)
        axes[2].plot(radius, profile, style, label=name)
        figures[name] = {
            "noise_hu": round(float(central(noisy - clean).std()), 1),
            "noise_peak_per_mm": round(float(frequency[power.argmax()]), 2),
            "low_to_peak": round(float(power[0] / power.max()), 2),
            "mtf_50_percent_per_mm": round(float(np.interp(-0.5, -mtf, mtf_frequency)), 2),
            "centre_minus_edge_hu": round(float(profile[radius < 8].mean() - profile[radius > 40].mean()), 1),
        }
    axes[0].set(xlabel="frequency, 1/mm", ylabel="noise power across the axis (peak 1)")
    axes[1].set(xlabel="frequency, 1/mm", ylabel="MTF from a cylinder's edge", ylim=(0, 1.05))
    axes[2].set(xlabel="distance from the axis, mm", ylabel="HU in adipose tissue (true: -150)")
    axes[0].legend(fontsize=6)
    figure.tight_layout()
    save(figure, path)
    return figures


def phantom() -> tuple[Grid, np.ndarray]:
    """A cylinder of adipose tissue about y with an off-axis rod of gland, 50 and 14 mm in radius."""
    count = int(2.2 * CYLINDER_RADIUS / VOXEL)
    first = -(count - 1) / 2 * VOXEL
    grid = Grid((count, 24, count), (VOXEL, VOXEL, VOXEL), (first, 0.0, first))
    x, _, z = grid.meshes()
    hu = np.full(grid.shape, -1000.0, dtype=np.float32)
    blend(hu, np.hypot(x, z) - CYLINDER_RADIUS, HU.adipose)
    blend(hu, np.hypot(x - 22.0, z) - INSERT_RADIUS, HU.fibroglandular)
    return grid, hu


def blend(hu: np.ndarray, distance: np.ndarray, value: float) -> None:
    hu += (value - hu) * np.clip(0.5 - distance / VOXEL, 0.0, 1.0)


def image_domain(cut: float) -> tuple[np.ndarray, np.ndarray]:
    grid, hu = phantom()
    x, _, z = grid.meshes()
    outside = torch.from_numpy(np.hypot(x, z) - np.float32(CYLINDER_RADIUS))
    drawn = sample_scanner(np.random.default_rng(0), SimulationSettings())
    plan = replace(after_reconstruction(drawn), blur_mm=0.6, cupping=0.04, gain=1.0, offset_hu=0.0, air="noisy")
    plan = replace(plan, clip_low=-3000.0, field_of_view=0.0, noise_ramp=0.9, noise_cut=cut)
    results = []
    for noise in (0.0, 30.0):
        volume = torch.from_numpy(hu.copy())
        result = scan(replace(plan, noise_hu=noise), volume, outside, grid, np.random.default_rng(1))
        results.append(result.hu.numpy())
    return results[0], results[1]


def fdk(beam: int, cut: float) -> tuple[np.ndarray, np.ndarray]:
    grid, hu = phantom()
    distances = ((650.0, 923.0), (480.0, 865.0))[beam]
    plan = ProjectionPlan(BEAMS[beam], *distances, 300, 5.0e4, 5.0, 0.5, 0.2, 0.4, cut)
    quiet = replace(plan, photons=1e9, electronic=0.0)
    results = []
    for current in (quiet, plan):
        volume = torch.from_numpy(hu.copy())
        results.append(project_and_reconstruct(current, volume, HU, grid, np.random.default_rng(2)).numpy())
    return results[0], results[1]


def central(volume: np.ndarray) -> np.ndarray:
    middle = volume.shape[0] // 2
    return volume[middle - 40 : middle + 40, 8:20, middle - 40 : middle + 40]


def noise_power(noise: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    region = central(noise)
    side = region.shape[0]
    window = np.outer(np.hanning(side), np.hanning(side))[:, None, :]
    power = np.mean(np.abs(np.fft.fft2((region - region.mean()) * window, axes=(0, 2))) ** 2, axis=1)
    frequency = np.hypot(*np.meshgrid(np.fft.fftfreq(side, VOXEL), np.fft.fftfreq(side, VOXEL), indexing="ij"))
    return radial(frequency, power, np.linspace(0.03, 1.0, 22))


def edge_response(clean: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """MTF from the oversampled edge of the rod of gland."""
    grid, _ = phantom()
    x, z = grid.axis(0)[:, None], grid.axis(2)[None, :]
    distance = np.hypot(x - 22.0, z) - INSERT_RADIUS
    near = np.abs(distance) < 6.0
    step = 0.1
    bins = np.round((distance[near] + 6.0) / step).astype(int)
    plane = clean[:, 8:20, :].mean(axis=1)[near]
    profile = np.bincount(bins, plane) / np.maximum(np.bincount(bins), 1)
    spread = np.abs(np.gradient(profile)) * np.hanning(len(profile))
    mtf = np.abs(np.fft.rfft(spread, 2048))
    frequency = np.fft.rfftfreq(2048, step)
    return frequency[frequency < 1.6], (mtf / mtf[0])[frequency < 1.6]


def cupping_profile(clean: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    grid, _ = phantom()
    x, z = grid.axis(0)[:, None], grid.axis(2)[None, :]
    radius = np.broadcast_to(np.hypot(x, z), clean[:, 0].shape)
    away = (np.hypot(x - 22.0, z) > INSERT_RADIUS + 4.0) & (radius < CYLINDER_RADIUS - 3.0)
    plane = clean[:, 8:20, :].mean(axis=1)
    bins = (radius[away] / 2.0).astype(int)
    return np.arange(bins.max() + 1) * 2.0 + 1.0, np.bincount(bins, plane[away]) / np.bincount(bins)


# Small things


def quantiles(values: object) -> dict[str, float]:
    array = np.asarray(values, dtype=float)
    low, middle, high = np.quantile(array, [0.05, 0.5, 0.95])
    named = {"5 %": low, "median": middle, "95 %": high, "mean": array.mean()}
    return {name: round(float(value), 2) for name, value in named.items()}


def save(figure: object, path: Path) -> None:
    figure.savefig(path, dpi=70)
    plt.close(figure)


if __name__ == "__main__":
    main()
