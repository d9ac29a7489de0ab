"""Simulated breast ultrasound images with the outlines of their lesions, for the 2-D model to learn from first.

    python scripts/ultrasound_phantoms.py -n 4032 --seed 1 -o OUT
    lightunet train --model ultrasound --data OUT/datalist.json --from-scratch -o MODEL

Layers of skin, fat with septa, gland with ducts and fat lobules, muscle and ribs, each with an echo level in decibels
and a texture of its own; cysts, benign and malignant masses with margins, shadows, enhancement and calcifications;
attenuation that adds up with depth; fully developed speckle (complex Gaussian scatterers seen through a point spread
function that widens with depth; Wagner et al., IEEE Trans. Sonics Ultrason. 30:156, 1983), of several looks where the
scanner compounds them; logarithmic compression. No image of a patient is used. Levels, sizes and chances were set by
eye, beside real images, and by the brightness of these in three depths.

OUT/images, OUT/masks      PNG, 8 bit; 255 in lesions
OUT/datalist.json          the last 32 under "validation", the others under "training"
"""

from __future__ import annotations

import argparse
import json
import math
import multiprocessing
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image
from scipy import ndimage

Field = NDArray[np.float64]
Mask = NDArray[np.bool_]

VALIDATION = 32
"""Images at the end of a set that are listed for validation."""

REFERENCE_WIDTH = 160
"""Pixels: lengths below are those of an image of this width, and grow with it."""

KINDS = ("cyst", "benign", "malignant")
KIND_CHANCES = (0.25, 0.40, 0.35)
TYPICAL_SHARE = {"cyst": 0.03, "benign": 0.045, "malignant": 0.09}
"""Of the image that a lesion fills, median; lognormal."""

WITHOUT_LESION = 0.17
"""Chance of an image without one, as in the real collection."""


@dataclass(frozen=True)
class Frame:
    """Pixels of an image, x along the probe and z into depth; all lengths in pixels.

    Parameters
    ----------
    random : Generator
    width, height : int
    tilt : float
        Radians by which the layers lean.
    """

    random: np.random.Generator
    width: int
    height: int
    tilt: float

    @property
    def unit(self) -> float:
        """Pixels of one at the reference width."""
        return self.width / REFERENCE_WIDTH

    @property
    def axes(self) -> tuple[Field, Field]:
        """Depth (H, 1) and place along the probe (1, W) of the pixels."""
        return np.arange(self.height, dtype=float)[:, None], np.arange(self.width, dtype=float)[None]

    def noise(self, along: tuple[float, float], deep: tuple[float, float], lean: float = 0.0) -> Field:
        """Texture with a standard deviation of 1 whose correlation lengths are drawn; `lean` scatters its direction."""
        lengths = self.random.uniform(*along) * self.unit, self.random.uniform(*deep) * self.unit
        angle = self.tilt + (self.random.normal(0.0, lean) if lean else 0.0)
        return self.texture(*lengths, angle)

    def texture(self, along: float, deep: float, angle: float = 0.0) -> Field:
        """Noise of given correlation lengths in a direction, standard deviation 1."""
        down, across = np.fft.fftfreq(self.height)[:, None], np.fft.rfftfreq(self.width)[None]
        cos, sin = math.cos(angle), math.sin(angle)
        u, v = cos * across + sin * down, -sin * across + cos * down
        gain = (1.0 + (2 * np.pi * along * u) ** 2 + (2 * np.pi * deep * v) ** 2) ** -1.5
        shape = self.height, self.width
        field = np.fft.irfft2(np.fft.rfft2(self.random.standard_normal(shape)) * gain, shape)
        return np.asarray((field - field.mean()) / (field.std() + 1e-9))

    def curve(self, most: float, length: float) -> Field:
        """A smooth line along the probe, (W,), with a standard deviation of 0.3 to 1 times `most`."""
        reach = 4 * int(length)
        line = ndimage.gaussian_filter1d(self.random.standard_normal(self.width + 2 * reach), length)
        line = line[reach : reach + self.width]
        return np.asarray(most * line / (line.std() + 1e-9) * self.random.uniform(0.3, 1.0))


@dataclass
class Scene:
    """What is drawn so far.

    Parameters
    ----------
    level : ndarray, shape (H, W)
        Echo level, dB.
    excess : ndarray, shape (H, W)
        Attenuation beyond what the scanner evens out, dB a pixel.
    lesions : ndarray of bool, shape (H, W)
    measured : list of ndarray of bool
        Lesions with calipers at their ends.
    """

    level: Field
    excess: Field
    lesions: Mask
    measured: list[Mask]


def draw_image(random: np.random.Generator, width: int = 128) -> tuple[NDArray[np.uint8], Mask]:
    """Draw one image and its lesions.

    Parameters
    ----------
    random : Generator
    width : int
        Pixels; heights are 0.5 to 1.15 of it.

    Returns
    -------
    image : ndarray of uint8, shape (H, W)
    lesions : ndarray of bool, shape (H, W)
    """
    height = int(width * np.clip(random.normal(0.8, 0.13), 0.5, 1.15))
    frame = Frame(random, width, height, random.normal(0.0, 0.06))
    scene = _draw_anatomy(frame)
    count = 0 if random.random() < WITHOUT_LESION else int(random.choice([1] * 8 + [2, 3]))
    for number in range(count):
        _draw_lesion(frame, scene, is_first=number == 0)
    image = _scan(frame, scene)
    _draw_marks(frame, scene, image)
    return (image * 255).astype(np.uint8), scene.lesions


def _draw_anatomy(frame: Frame) -> Scene:
    random, unit, (z, x) = frame.random, frame.unit, frame.axes
    bounds = _bounds(frame)
    warped = z + 0.02 * frame.height * random.uniform(0.0, 1.5) * frame.texture(0.1 * frame.width, 0.06 * frame.height)
    layer = sum((warped > bound).astype(int) for bound in bounds)  # skin, fat, gland, fat, muscle, what is behind
    level = np.zeros((frame.height, frame.width))
    for number, values in enumerate(_textures(frame)):
        level[layer == number] = values[layer == number]
    for bound, chance in zip(bounds, (0.7, 0.6, 0.4, 0.5, 0.6), strict=True):  # bright borders, broken
        if random.random() < chance:
            along = np.clip(0.5 + frame.curve(0.6, 0.05 * frame.width), 0.0, 1.0)
            bright = random.uniform(4.0, 16.0) * along
            level += bright * np.exp(-0.5 * ((warped - bound) / random.uniform(0.6, 1.6) / unit) ** 2)
    level = ndimage.gaussian_filter(level, 0.5)
    excess = np.zeros_like(level)
    if random.random() < 0.5:  # shadows of ligaments, or of poor contact
        for _ in range(random.integers(1, 4)):
            start, wide, top = random.uniform(0, frame.width), random.uniform(2, 14) * unit, random.uniform(0, 0.6)
            top *= frame.height
            strong = random.uniform(0.1, 0.8) / unit
            beside = (x - start - (z - top) * random.normal(0.0, 0.15)) / wide
            excess += strong * np.exp(-0.5 * beside**2) * (z > top) * (z < top + random.uniform(10, 40) * unit)
    if random.random() < 0.25:
        _draw_ribs(frame, level, excess, warped - bounds[-1])
    return Scene(level, excess, np.zeros(level.shape, dtype=bool), [])


def _bounds(frame: Frame) -> list[Field]:
    """Lower ends of skin, fat, gland, fat behind it and muscle, (W,) each."""
    random, height = frame.random, frame.height
    ends = [random.uniform(0.01, 0.05) * height]
    ends.append(ends[-1] + height * random.choice([random.uniform(0.02, 0.12), random.uniform(0.1, 0.4)]))
    ends.append(ends[-1] + height * random.choice([random.uniform(0.05, 0.2), random.uniform(0.2, 0.8)]))
    ends.append(ends[-1] + height * random.uniform(0.0, 0.12))
    ends.append(ends[-1] + height * random.uniform(0.06, 0.22))
    leaning = frame.tilt * (np.arange(frame.width) - frame.width / 2)
    bounds: list[Field] = []
    for end, rough in zip(ends, (0.01, 0.05, 0.06, 0.05, 0.04), strict=True):
        bound = end + frame.curve(rough * height, random.uniform(0.08, 0.3) * frame.width) + leaning
        bounds.append(np.maximum(bound, bounds[-1] + 1) if bounds else bound)
    return bounds


def _textures(frame: Frame) -> tuple[Field, ...]:
    """Echo levels (H, W), dB, of skin, fat, gland, fat, muscle and what is behind."""
    random, unit = frame.random, frame.unit
    fat_level, gland_level, muscle_level = random.uniform(-16, -5), random.uniform(-3, 3), random.uniform(-12, -3)
    fine = frame.noise((8, 20), (2, 6), 0.1)
    walls = frame.noise((10, 30), (3, 9), 0.15)
    septa = np.exp(-((walls / random.uniform(0.1, 0.3)) ** 2))
    fat = fat_level + 1.5 * fine + random.uniform(4, 16) * septa
    coarse, grain = frame.noise((5, 20), (1.5, 6), 0.1), frame.noise((2, 6), (1, 3))
    gland = gland_level + random.uniform(1, 5) * coarse + random.uniform(0, 3) * grain
    if random.random() < 0.6:  # lobules of fat within gland
        lobules = frame.noise((4, 14), (2, 8))
        share = 1.0 / (1.0 + np.exp(-(lobules - random.uniform(0.2, 1.6)) * 6))
        gland = gland * (1 - share) + (fat_level + fine) * share
    fibres = frame.noise((25, 60), (0.8, 2.5), 0.12)
    muscle = muscle_level + random.uniform(3, 9) * fibres
    behind = random.uniform(-30, -6) + 2 * grain
    strands = np.zeros_like(fat)
    for _ in range(random.integers(1, 4)):
        lines = frame.noise((8, 40), (2, 7), 0.15)
        bright = random.uniform(3, 12) * np.exp(-((lines / random.uniform(0.08, 0.25)) ** 2))
        strands += bright * np.clip(0.5 + frame.texture(20 * unit, 10 * unit), 0.0, 1.5)
    gland, muscle, behind = (
        values + strands * random.uniform(*share)
        for values, share in ((gland, (0.0, 1.0)), (muscle, (0.2, 1.0)), (behind, (0.2, 1.2)))
    )
    dark = frame.noise((6, 25), (2, 10), 0.1)  # areas without a border that are no lesion
    dark = -random.uniform(0, 9) * np.clip(dark - random.uniform(0.3, 1.2), 0.0, 1.5)
    skin = np.full_like(fat, random.uniform(0, 8))
    return skin, fat, gland + dark, fat, muscle + dark, behind + dark


def _draw_ribs(frame: Frame, level: Field, excess: Field, below_muscle: Field) -> None:
    random, unit, (_, x) = frame.random, frame.unit, frame.axes
    for middle in np.arange(random.uniform(-30, 30) * unit, frame.width, random.uniform(50, 90) * unit):
        radius = ((x - middle) / (random.uniform(12, 25) * unit)) ** 2 + ((below_muscle - 8 * unit) / (8 * unit)) ** 2
        level += 14 * np.exp(-(((radius - 1) / 0.25) ** 2)) * (below_muscle < 8 * unit)
        excess += 0.6 / unit * (radius < 1)


def _draw_lesion(frame: Frame, scene: Scene, *, is_first: bool) -> None:
    random, unit, (z, x) = frame.random, frame.unit, frame.axes
    kind = str(random.choice(KINDS, p=KIND_CHANCES))
    share = math.exp(random.normal(math.log(TYPICAL_SHARE[kind]), 0.95))
    radius = math.sqrt(np.clip(share, 0.003, 0.4) * frame.height * frame.width / math.pi)
    if not is_first:
        radius *= random.uniform(0.3, 0.8)
    middle_x = random.uniform(0.08, 0.92) * frame.width
    middle_z = max(np.clip(random.normal(0.4, 0.15), 0.1, 0.8) * frame.height, radius * 0.7)
    outside = _distance(frame, kind, radius, z - middle_z, x - middle_x)
    if (scene.lesions & (outside < 3)).any():
        return
    soft_benign, soft_malignant = random.uniform(0.5, 1.5), random.uniform(0.8, 3.5)
    soft = unit * {"cyst": 0.6, "benign": soft_benign, "malignant": soft_malignant}[kind]
    inside = 1.0 / (1.0 + np.exp(outside / soft * 2))
    around = scene.level[(outside > 0) & (outside < 0.5 * radius + 3)]
    values = (float(np.median(around)) if around.size else 0.0) + _echoes(frame, kind)
    if kind == "malignant" and random.random() < 0.4:  # calcifications
        for _ in range(random.integers(2, 12)):
            speck = (x - middle_x - random.normal(0, 0.5) * radius) ** 2
            speck = speck + (z - middle_z - random.normal(0, 0.4) * radius) ** 2
            values = values + random.uniform(8, 20) * np.exp(-0.5 * speck / (0.8 * unit) ** 2)
    if kind == "cyst" and random.random() < 0.3:  # debris at its bottom
        values = values + random.uniform(5, 25) * (z > middle_z + random.uniform(-0.3, 0.6) * radius)
    if kind == "malignant" and random.random() < 0.4:
        values = values - random.uniform(0, 10) * np.clip((z - middle_z) / radius, -1.0, 1.0)
    scene.level = scene.level * (1 - inside) + values * inside
    if kind == "malignant" and random.random() < 0.6:  # a halo
        bright = random.uniform(2, 9)
        halo = np.exp(-0.5 * ((outside - 2 * soft) / (random.uniform(1.5, 5) * unit)) ** 2)
        scene.level += bright * halo * (1 - inside)
    if kind != "malignant" and random.random() < 0.6:  # a capsule
        scene.level += random.uniform(3, 12) * np.exp(-0.5 * ((outside - 0.8 * unit) / (0.9 * unit)) ** 2)
    core = outside < 0
    scene.excess += _through(random, kind) / max(1.0, float(core.sum(0).max())) * core
    if kind != "malignant" and random.random() < 0.4 and core.any():  # shadows of its edges
        columns = np.flatnonzero(core.any(0))
        for column in (columns[0], columns[-1]):
            near = np.exp(-0.5 * ((x - column) / (1.5 * unit)) ** 2) * (z > middle_z) * (z < middle_z + radius)
            scene.excess += random.uniform(0.02, 0.12) * near
    scene.lesions |= core
    if random.random() < 0.15:
        scene.measured.append(core)


def _distance(frame: Frame, kind: str, radius: float, z: Field, x: Field) -> Field:
    """Pixels from a lesion's margin, near it; negative inside."""
    random = frame.random
    flat = {"cyst": random.uniform(0.9, 1.9), "benign": random.uniform(1.1, 2.6), "malignant": random.uniform(0.7, 1.8)}
    long, short = radius * math.sqrt(flat[kind]), radius / math.sqrt(flat[kind])
    turned = random.normal(0.0, 0.25)
    u = (x * math.cos(turned) + z * math.sin(turned)) / long
    v = (-x * math.sin(turned) + z * math.cos(turned)) / short
    angle, away = np.arctan2(v, u), np.hypot(u, v)
    margin = np.ones_like(away)
    rough = {"cyst": 0.03, "benign": 0.06, "malignant": 0.13}[kind] * random.uniform(0.4, 1.6)
    for wave in range(2, {"cyst": 4, "benign": 7, "malignant": 16}[kind]):
        height = rough * random.standard_normal() / (wave - 1) ** 0.7
        margin += height * np.cos(wave * angle + random.uniform(0, 2 * np.pi))
    if kind == "malignant" and random.random() < 0.5:  # spicules
        for _ in range(random.integers(4, 14)):
            at, wide, long_by = random.uniform(-np.pi, np.pi), random.uniform(0.06, 0.2), random.uniform(0.1, 0.5)
            beside = np.angle(np.exp(1j * (angle - at)))
            margin += long_by * np.exp(-0.5 * (beside / wide) ** 2)
    distance = away - margin
    if random.random() < 0.25 and kind != "malignant":  # a second lobe
        right, down, size = random.normal(0, 0.8), random.normal(0, 0.5), random.uniform(0.4, 0.9)
        distance = np.minimum(distance, np.hypot(u - right, v - down) - size)
    return np.asarray(distance * min(long, short))


def _echoes(frame: Frame, kind: str) -> Field:
    """Echo level within a lesion (H, W), dB relative to what is around it."""
    random = frame.random
    darker = {
        "cyst": random.uniform(-45, -20),
        "benign": random.uniform(-18, -2.5),
        "malignant": random.uniform(-20, -3),
    }
    level = darker[kind]
    if kind == "benign" and random.random() < 0.05:
        level = random.uniform(3, 7)
    grain = frame.texture(random.uniform(2, 8) * frame.unit, random.uniform(2, 6) * frame.unit)
    coarse = {"cyst": 0.5, "benign": random.uniform(0.5, 3), "malignant": random.uniform(1, 5)}
    return np.asarray(level + coarse[kind] * grain)


def _through(random: np.random.Generator, kind: str) -> float:
    """Excess attenuation through a lesion, dB; below 0 for enhancement."""
    if kind == "cyst":
        return -float(random.uniform(4, 14))
    if kind == "benign":
        return float(random.choice([-random.uniform(0, 8), 0.0, random.uniform(0, 4)]))
    return float(random.choice([random.uniform(3, 22), 0.0, -random.uniform(0, 5)], p=[0.55, 0.25, 0.2]))


def _scan(frame: Frame, scene: Scene) -> Field:
    """What the scanner shows of a scene, 0 to 1."""
    random, unit, (z, x) = frame.random, frame.unit, frame.axes
    # Attenuation adds up with depth and blurs sideways: a beam is wide.
    lost = ndimage.gaussian_filter(np.cumsum(scene.excess, 0), (0.8 * unit, random.uniform(0.8, 3) * unit))
    depth = z / frame.height
    steep = random.uniform(5, 35)
    fall = steep * np.clip(depth - random.uniform(0.1, 0.6), 0.0, 1.0) ** random.uniform(0.8, 1.5)
    uneven = random.normal(0, 2) * frame.texture(0.3 * frame.width, 0.3 * frame.height)
    decibels = scene.level - lost - fall + uneven
    if random.random() < 0.3:  # one side without contact
        side = x / frame.width if random.random() < 0.5 else 1 - x / frame.width
        decibels = decibels - random.uniform(5, 25) * np.exp(-((side / random.uniform(0.05, 0.25)) ** 2))
    shown = _speckle(frame, 10 ** (decibels / 20))
    shown /= np.percentile(shown, random.uniform(97, 99.7))
    shown += 10 ** (-random.uniform(38, 60) / 20) * np.abs(random.standard_normal(shown.shape))
    span = random.uniform(38, 62)
    image = np.clip((20 * np.log10(shown + 1e-6) + span) / span, 0.0, 1.0) ** random.uniform(1.1, 2.2)
    return np.asarray(ndimage.gaussian_filter(image, random.uniform(0.0, 0.7)))


def _speckle(frame: Frame, amplitude: Field) -> Field:
    """Envelope of the echoes of scatterers, the sum of one to six looks."""
    random, depth = frame.random, frame.axes[0] / frame.height

    def scatterers() -> tuple[Field, Field]:
        return random.standard_normal(amplitude.shape) * amplitude, random.standard_normal(amplitude.shape) * amplitude

    def seen(parts: tuple[Field, Field], across: float) -> Any:
        real, imaginary = (ndimage.gaussian_filter(part, (deep, across)) for part in parts)
        return (real + 1j * imaginary) * math.sqrt(across * deep)

    first = scatterers()
    deep, near = random.uniform(0.4, 0.9) * frame.unit, random.uniform(0.6, 1.8) * frame.unit
    far = near * random.uniform(1.0, 2.0)
    envelope = np.abs(seen(first, near) * (1 - depth) + seen(first, far) * depth)
    for _ in range(random.integers(0, 6)):
        envelope = envelope + np.abs(seen(scatterers(), near))
    return np.asarray(envelope)


def _draw_marks(frame: Frame, scene: Scene, image: Field) -> None:
    """Black corners of a curved probe, calipers and letters."""
    random, unit, (z, x) = frame.random, frame.unit, frame.axes
    if random.random() < 0.08:
        steep, top = random.uniform(0.25, 0.5), random.uniform(0.3, 0.48) * frame.width
        beyond = np.abs(x - frame.width / 2) > top + z * math.tan(steep)
        image[beyond] = 0.0
        scene.lesions &= ~beyond
    arm = int(2 * unit)
    for core in scene.measured:
        places = np.argwhere(core)
        if len(places) < 4:
            continue
        for axis in (1, 0):
            for row, column in (places[places[:, axis].argmin()], places[places[:, axis].argmax()]):
                image[max(0, row - arm) : row + arm + 1, column] = 0.9
                image[row, max(0, column - arm) : column + arm + 1] = 0.9
    if random.random() < 0.25:
        top, left = random.integers(2, frame.height - 12), random.integers(2, max(3, frame.width - 50))
        for number in range(random.integers(2, 10)):
            letter = ndimage.zoom((random.random((5, 3)) < 0.6).astype(float), 1.2 * unit, order=0)
            start = left + int(number * 5 * unit)
            part = image[top : top + letter.shape[0], start : start + letter.shape[1]]
            part[letter[: part.shape[0], : part.shape[1]] > 0] = 0.95


def make_set(count: int, seed: int, folder: Path, *, width: int = 128, jobs: int = 1) -> Iterator[str]:
    """Write images, masks and then the datalist; yields the name of each image written."""
    for kind in ("images", "masks"):
        (folder / kind).mkdir(parents=True, exist_ok=True)
    tasks = [(seed, number, width, folder) for number in range(count)]
    if jobs > 1:
        with multiprocessing.get_context("spawn").Pool(jobs) as pool:
            yield from pool.imap(_write_image, tasks, chunksize=16)
    else:
        yield from map(_write_image, tasks)
    cases = [{"image": f"images/{n:05d}.png", "label": f"masks/{n:05d}.png"} for n in range(count)]
    held_out = min(VALIDATION, count // 2)
    sections = {"training": cases[: count - held_out], "validation": cases[count - held_out :]}
    (folder / "datalist.json").write_text(json.dumps(sections, indent=1) + "\n", encoding="utf-8")


def _write_image(task: tuple[int, int, int, Path]) -> str:
    seed, number, width, folder = task
    image, lesions = draw_image(np.random.default_rng([seed, number]), width)
    name = f"{number:05d}.png"
    Image.fromarray(image).save(folder / "images" / name)
    Image.fromarray((lesions * 255).astype(np.uint8)).save(folder / "masks" / name)
    return name


def main(words: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description="Simulated breast ultrasound images with lesion masks.")
    parser.add_argument("-n", type=int, default=4032, dest="count", help="images (4032)")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--width", type=int, default=128, help="of the images, pixels (128)")
    parser.add_argument("-o", "--output", type=Path, required=True, metavar="OUT")
    parser.add_argument("--jobs", type=int, default=1, help="processes (1)")
    arguments = parser.parse_args(words)
    if arguments.count < 2 or arguments.seed < 0 or arguments.jobs < 1 or not 64 <= arguments.width <= 1024:
        parser.error("expected -n of 2 or more, --jobs of 1 or more, --seed of 0 or more and --width of 64 to 1024")
    count, folder = arguments.count, arguments.output
    try:
        for _ in make_set(count, arguments.seed, folder, width=arguments.width, jobs=arguments.jobs):
            pass
    except OSError as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    print(f"{folder / 'datalist.json'}: {count} images")
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
