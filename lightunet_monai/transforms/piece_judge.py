"""Whether a connected piece is a tumour, judged by the whole piece and what lies around it."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import cc3d
import numpy as np
import scipy  # its parts load when they are first used
from numpy.typing import NDArray

from ..errors import BundleError
from .piece_outline import PieceOutline
from .pieces import CONNECTIVITY

FEATURES = (
    "highest_margin",
    "mean_margin",
    "shell_deviation",
    "air_share",
    "border_share",
    "roundness",
    "rank_contrast",
    "above_bright",
    "above_brightest",
)
"""What a piece is judged by, in the order of `piece_features`."""

SMALLEST_SCALE = 1e-4
"""Below, all pieces have the same value: five decimals of it are stored."""


@dataclass(frozen=True)
class PieceMeasure:
    """How pieces are measured; a judgement holds for the measure that it was fitted with, and is kept beside it.

    Parameters
    ----------
    top_voxels : int
        Whose mean is the highest margin: one voxel alone is mostly noise.
    core_depth : float
        Voxels under the surface of a piece from which on partial volume is gone.
    shell : (float, float)
        From and to how far outside of a piece its surroundings lie, voxels.
    air_reach : float
        How far from a piece air counts, voxels.
    bright, brightest : float
        Percentiles of the tissue of a volume: about its gland, and its brightest parts.
    limit : float
        Standard deviations by which a feature counts at most: what no training volume had must not decide alone.
    """

    top_voxels: int = 8
    core_depth: float = 2.0
    shell: tuple[float, float] = (1.5, 3.5)
    air_reach: float = 4.0
    bright: float = 75.0
    brightest: float = 97.0
    limit: float = 3.0


class PieceJudge:
    """Set the highest logit of each connected piece to that of its being a tumour, and draw it at the image's edge.

    The network judges voxels. Its highest logit in a piece says little about the piece: a clip, a lobule of gland that
    is brighter than the others, and a tumour all have single voxels of which it is sure. What tells them apart belongs
    to the whole piece: the mean logit, the shape, how it stands out from its surroundings and from the brightest tissue
    of the volume. A logistic regression on these (`FEATURES`) was fitted to pieces of volumes that the network had not
    seen (``lightunet calibrate --pieces``).

    Voxels above the middle between ``logit``, at which pieces are drawn, and the highest of the piece are stretched
    linearly, or capped, so that the highest becomes the piece's own logit. So the contour stays where it was, every
    later threshold and the probability map know the judgement, and a piece whose logit is below ``logit`` is none.
    Before that, with an ``outline``, all logits in and around a piece that is one are shifted, so that the contour
    which lies on the edge in the image comes to lie at ``logit``.

    Parameters
    ----------
    path : path
        ``pieces.json`` of a bundle: ``logit``, ``bias``, ``measure`` (`PieceMeasure`), and ``mean``, ``scale`` and
        ``weight`` of each of `FEATURES`.
    outline : PieceOutline, optional
        Finds that contour. Without it each piece is drawn at the network's own logits.

    Raises
    ------
    BundleError
        If the file is missing or is not such a file.
    """

    def __init__(self, path: str | Path, outline: PieceOutline | None = None) -> None:
        self.outline = outline
        try:
            content = json.loads(Path(path).read_text(encoding="utf-8"))
            rows = [content["features"][name] for name in FEATURES]
            self.mean, self.scale, self.weight = (
                np.array([float(row[key]) for row in rows]) for key in ("mean", "scale", "weight")
            )
            if not np.isfinite([self.mean, self.scale, self.weight]).all() or self.scale.min() <= 0:
                raise ValueError("scale or weight")
            self.bias, self.logit = float(content["bias"]), float(content["logit"])
            self.measure = PieceMeasure(**{**content["measure"], "shell": tuple(content["measure"]["shell"])})
        except (OSError, ValueError, KeyError, TypeError) as error:
            raise BundleError(
                f"{path}: cannot be used to judge pieces: {type(error).__name__}.",
                hint="Reinstall the bundle, or set piece_judge to null in inference.json and fit it anew: "
                "'lightunet calibrate --pieces --write'.",
            ) from error

    def __call__(self, margin: NDArray[np.float32], image: NDArray[np.float32]) -> NDArray[np.float32]:
        """Give the judged margin (X, Y, Z).

        Parameters
        ----------
        margin : ndarray, shape (X, Y, Z)
            Logit of the tumour minus that of the background.
        image : ndarray, shape (2, X, Y, Z)
            Ranks, and Hounsfield units on any scale, 0 in air (`RankBrightnessd`).
        """
        pieces = cc3d.connected_components(margin >= self.logit, connectivity=CONNECTIVITY)
        judged: NDArray[np.float32] = margin.copy()
        if not pieces.any():
            return judged
        judged.fill(-np.inf)
        logits = self.logits(piece_features(margin, image, pieces, self.measure))
        for box, number, own in zip(_boxes(pieces), range(1, len(logits) + 1), logits, strict=True):
            near, shift = pieces[box] == number, 0.0
            if self.outline is not None and own > self.logit:
                box, near, shift = self._outlined(self.outline, margin, image, pieces, box, number)
            values = margin[box][near] - np.float32(shift)
            highest = float(values.max())
            middle = (self.logit + highest) / 2
            if own <= middle:
                values = np.minimum(values, own)
            elif highest > middle:
                values = np.where(
                    values > middle, middle + (values - middle) * (own - middle) / (highest - middle), values
                )
            judged[box][near] = np.maximum(judged[box][near], values)  # near two pieces the larger counts
        np.copyto(judged, margin, where=np.isneginf(judged))
        return judged

    def _outlined(
        self,
        outline: PieceOutline,
        margin: NDArray[np.float32],
        image: NDArray[np.float32],
        pieces: NDArray[np.integer[Any]],
        box: tuple[slice, ...],
        number: int,
    ) -> tuple[tuple[slice, ...], NDArray[np.bool_], float]:
        """Give a box, what lies in or near the piece and in no other, and how far its contour lies above the logit."""
        reach = int(np.ceil(outline.reach)) + 1
        wide = tuple(slice(max(0, side.start - reach), side.stop + reach) for side in box)
        piece, rank, hu = pieces[wide] == number, image[0][wide], image[1][wide]
        near = (scipy.ndimage.distance_transform_edt(~piece) <= outline.reach) & (piece | (pieces[wide] == 0))
        level = outline.level(margin[wide], hu, piece, near, rank > 0)
        return wide, near, 0.0 if level is None else level - self.logit

    def logits(self, features: NDArray[np.float64]) -> NDArray[np.float64]:
        """Logit of being a tumour (N,) of pieces with these features (N, len(FEATURES))."""
        standard = np.clip((features - self.mean) / self.scale, -self.measure.limit, self.measure.limit)
        logits: NDArray[np.float64] = standard @ self.weight + self.bias
        return logits


def piece_features(
    margin: NDArray[np.float32],
    image: NDArray[np.float32],
    pieces: NDArray[np.integer[Any]],
    measure: PieceMeasure = PieceMeasure(),
) -> NDArray[np.float64]:
    """Measure the pieces of a volume.

    Parameters
    ----------
    margin, image
        As `PieceJudge` takes them.
    pieces : ndarray of integers, shape (X, Y, Z)
        0, or the number of a piece, from 1 on without gaps.
    measure : PieceMeasure

    Returns
    -------
    ndarray, shape (N, len(FEATURES))
        Mean of the highest margins, and of all; standard deviation of the Hounsfield units of the tissue in a shell
        around the piece; share of air near it; share of its voxels on the border of the volume; smallest by largest
        variance along its principal axes; how its core exceeds the shell in rank; how its core exceeds the bright
        and the brightest tissue of the volume in Hounsfield units.
    """
    rank, hu = image
    tissue = rank > 0
    bright, brightest = np.percentile(hu[tissue], [measure.bright, measure.brightest]) if tissue.any() else (0.0, 0.0)
    reach = int(np.ceil(max(measure.air_reach, measure.shell[1]))) + 1
    rows = []
    for number, box in enumerate(_boxes(pieces), 1):
        wide = tuple(slice(max(0, side.start - reach), side.stop + reach) for side in box)
        piece, is_tissue, ranks, values = pieces[wide] == number, tissue[wide], rank[wide], hu[wide]
        outside = scipy.ndimage.distance_transform_edt(~piece)
        depth = scipy.ndimage.distance_transform_edt(np.pad(piece, 1))[1:-1, 1:-1, 1:-1]
        core = depth >= min(measure.core_depth, depth.max())
        shell = (outside > measure.shell[0]) & (outside <= measure.shell[1]) & is_tissue
        near = (outside > 0) & (outside <= measure.air_reach)
        margins = np.sort(margin[wide][piece])
        level = values[core].mean()
        rows.append(
            (
                margins[-measure.top_voxels :].mean(),
                margins.mean(),
                values[shell].std() if shell.any() else 0.0,
                (near & ~is_tissue).sum() / max(1, near.sum()),
                _on_border(piece, wide, pieces.shape) / margins.size,
                _roundness(piece),
                ranks[core].mean() - ranks[shell].mean() if shell.any() else 0.0,
                level - bright,
                level - brightest,
            )
        )
    return np.array(rows, dtype=np.float64).reshape(-1, len(FEATURES))


def fit_judge(
    features: NDArray[np.float64],
    is_tumour: NDArray[np.bool_],
    logit: float,
    penalty: float = 10.0,
    measure: PieceMeasure = PieceMeasure(),
) -> dict[str, Any]:
    """Fit the logistic regression of a `PieceJudge`.

    Parameters
    ----------
    features : ndarray, shape (N, len(FEATURES))
    is_tumour : ndarray of bool, shape (N,)
        Both kinds must be there.
    logit : float
        At which the pieces were drawn.
    penalty : float
        Of half the sum of the squared weights, against the sum of the losses of all pieces.
    measure : PieceMeasure
        That of the features.

    Returns
    -------
    dict
        Content of ``pieces.json``.
    """
    mean, scale = features.mean(axis=0), features.std(axis=0)
    scale[scale < SMALLEST_SCALE] = 1.0  # the same for all pieces: it tells nothing, and gets no weight
    standard = np.clip((features - mean) / scale, -measure.limit, measure.limit)
    design = np.hstack([standard, np.ones((len(standard), 1))])
    sign = np.where(is_tumour, 1.0, -1.0)
    shrunk = np.append(np.full(len(FEATURES), penalty), 0.0)

    def loss(weights: NDArray[np.float64]) -> tuple[float, NDArray[np.float64]]:
        along = sign * (design @ weights)
        slope = -sign * scipy.special.expit(-along)
        value = np.logaddexp(0.0, -along).sum() + 0.5 * (shrunk * weights**2).sum()
        return float(value), design.T @ slope + shrunk * weights

    weights = scipy.optimize.minimize(loss, np.zeros(design.shape[1]), jac=True, method="L-BFGS-B").x
    rows: Mapping[str, Any] = {
        name: {"mean": round(float(m), 5), "scale": round(float(s), 5), "weight": round(float(w), 5)}
        for name, m, s, w in zip(FEATURES, mean, scale, weights[:-1], strict=True)
    }
    return {
        "logit": round(logit, 4),
        "bias": round(float(weights[-1]), 5),
        "measure": {**asdict(measure), "shell": list(measure.shell)},
        "features": rows,
    }


def _boxes(pieces: NDArray[np.integer[Any]]) -> list[tuple[slice, ...]]:
    found: list[tuple[slice, ...]] = scipy.ndimage.find_objects(pieces.astype(np.int32))
    return found


def _on_border(piece: NDArray[np.bool_], box: tuple[slice, ...], shape: tuple[int, ...]) -> int:
    # Voxels on the six faces of the volume; one on an edge counts for each of its faces.
    faces = []
    for axis, (side, size) in enumerate(zip(box, shape, strict=True)):
        faces += [piece.take(0, axis)] if side.start == 0 else []
        faces += [piece.take(-1, axis)] if side.stop >= size else []
    return sum(int(face.sum()) for face in faces)


def _roundness(piece: NDArray[np.bool_]) -> float:
    places = np.argwhere(piece)
    if len(places) < 2:
        return 1.0
    # A voxel is no point: 1/12 is the variance of its own extent.
    variances = np.linalg.eigvalsh(np.cov(places.T, bias=True) + np.eye(3) / 12)
    return float(variances[0] / variances[-1])
