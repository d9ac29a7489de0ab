"""Runs the bundle's parts on one image."""

from __future__ import annotations

import copy
import math
import re
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn

from ..errors import DeviceMemoryError, InferenceError, LightUNetError, UnsupportedImageError, find_own_error
from ..options import RunOptions
from ..segmentation import DOUBTFUL, DoubtfulPiece, Provenance, Segmentation
from ..sources import DicomSeries, ImageFile, ImageSource
from .bundle import BundleParts, open_bundle
from .bundle_files import calibration_warnings, find_bundle
from .engines import Engine, choose_engine
from .memory import Load, MemoryLadder, find_out_of_memory, smallest_window

Progress = Callable[[str, float], None]
"""Called with (stage, fraction done); stages are "prepare", "infer" and "restore"."""

_ADDRESS = re.compile(r" (?:object )?at 0x[0-9a-fA-F]+")
"""In the name that Python gives an object; it says nothing to people."""


@dataclass
class Prediction:
    """What one image gave.

    Parameters
    ----------
    segmentation : Segmentation
    seconds : dict
        Seconds per step.
    warnings : list of str
        What happened on the way that a reader of the result should know.
    """

    segmentation: Segmentation
    seconds: dict[str, float] = field(default_factory=dict)
    warnings: list[str] = field(default_factory=list)


class Predictor:
    """The model, opened once, for any number of images.

    >>> predictor = Predictor()
    >>> segmentation = predictor.segment("study/").segmentation

    Parameters
    ----------
    bundle : path, optional
        A bundle's folder; the shipped one by default.
    options : RunOptions, optional
        What this run varies.
    threshold : float, optional
        Operating threshold in place of the bundle's.
    sure_threshold : float, optional
        Highest probability that a piece must reach in place of the bundle's; 0 asks for none.
    model : str, optional
        A model of the bundle by name, such as ``"ultrasound"`` for 2-D images; the bundle's own choice by default.

    Raises
    ------
    BundleError, WeightsError
        If the bundle cannot be opened.
    """

    def __init__(
        self,
        bundle: str | Path | None = None,
        options: RunOptions | None = None,
        *,
        threshold: float | None = None,
        sure_threshold: float | None = None,
        model: str | None = None,
    ) -> None:
        self.options = options or RunOptions()
        if self.options.threads is not None:
            torch.set_num_threads(self.options.threads)
        self.parts: BundleParts = open_bundle(
            bundle, self.options, threshold=threshold, sure_threshold=sure_threshold, model=model
        )
        self.engine: Engine = choose_engine(
            self.parts.network, self.parts.device, self.options, int8_ranges=self.parts.int8_ranges
        )
        self._ladder = _ladder(self.parts)
        self._warnings = calibration_warnings(find_bundle(bundle), self.parts.weights_sha256, model)

    def segment(
        self,
        image: str | Path | ImageSource | torch.Tensor | NDArray[Any],
        *,
        source: ImageSource | None = None,
        with_probability: bool = False,
        progress: Progress | None = None,
    ) -> Prediction:
        """Segment one image.

        Parameters
        ----------
        image : path, ImageSource, MetaTensor, tensor or array
            A path or source is loaded by the bundle. A volume (1, X, Y, Z) in Hounsfield units, a `MetaTensor` with its
            affine, is used as it is, if a patient can have that size; for a model of 2-D images an image
            (1, X, Y, 1) is, whose spacing is not known without an affine.
        source : ImageSource, optional
            Where a volume in memory came from.
        with_probability : bool
            Also give the probability of a lesion on the source's grid.
        progress : callable, optional
            Told (stage, fraction done).

        Returns
        -------
        Prediction
            Its segmentation lies on the grid of the source.

        Raises
        ------
        InputError
            If the image is refused.
        DeviceMemoryError
            If it does not fit into the device's memory.
        InferenceError
            If the network gives logits that are no finite numbers.
        """
        _check_source(source)
        tell = progress or (lambda stage, fraction: None)
        seconds: dict[str, float] = {}
        with torch.inference_mode(), _own_errors():
            with _timed(seconds, "prepare"):
                tell("prepare", 0.0)
                case = self.parts.preprocessing({"image": image, "source": None})
            with _timed(seconds, "infer"):
                volume = case["image"].as_tensor()[None]
                case["pred"] = self._run_network(volume, tell)[0]
            with _timed(seconds, "restore"):
                tell("restore", 0.0)
                after = self.parts.postprocessing(case)
                restored = after["pred"]
                probability = self.parts.probability(case)["pred"] if with_probability else None
                tell("restore", 1.0)
        is_picture = "has_spacing" in restored.meta
        return Prediction(
            segmentation=Segmentation(
                label_map=restored.as_tensor()[0].cpu().numpy(),
                affine=np.asarray(restored.affine, dtype=np.float64),
                labels=self.parts.labels,
                source=source or case.get("source") or _source_of(image),
                provenance=self._provenance(),
                probability=None if probability is None else probability.as_tensor()[0].cpu().numpy(),
                is_picture=is_picture,
                has_spacing=bool(restored.meta.get("has_spacing", True)),
                doubtful=() if is_picture else self._not_drawn(after.get(DOUBTFUL, ())),
            ),
            seconds=seconds,
            warnings=[
                *case["image"].meta.get("warnings", []),
                *self._warnings,
                *self.engine.warnings,
                *self._ladder.steps,
            ],
        )

    def _not_drawn(self, pieces: Sequence[DoubtfulPiece]) -> tuple[DoubtfulPiece, ...]:
        """Of the pieces that the model was not sure of, those that are not too small to be drawn.

        A threshold below that at which pieces are drawn takes all of them in again.
        """
        settings: dict[str, Any] = self.parts.settings
        if settings.get("threshold", 0.5) < settings.get("piece_threshold", 0.0):
            return ()
        smallest = math.pi / 6 * settings.get("minimum_diameter", 0.0) ** 3 / 1000.0
        return tuple(piece for piece in pieces if piece.volume_ml >= smallest)

    def _run_network(self, volume: torch.Tensor, tell: Progress) -> torch.Tensor:
        parts, engine = self.parts, self.engine
        try:
            logits = self._ladder.run(lambda load: self._infer(volume, load, tell))
        except BaseException:  # the CPU that a case came down to is kept for the next only if it helped
            self.parts, self.engine = parts, engine
            raise
        _check_finite(logits, self.engine)
        return logits

    def _infer(self, volume: torch.Tensor, load: Load, tell: Progress) -> torch.Tensor:
        if load.device == "cpu" and self.parts.device.type != "cpu":
            self._move_to_cpu()
        logits: torch.Tensor = self.parts.inferer(
            _upload(volume, load.device),
            self.engine,
            progress=lambda done, total: tell("infer", done / max(1, total)),
            sw_batch_size=load.sw_batch_size,
            roi_size=load.roi_size,
        )
        return logits

    def _move_to_cpu(self) -> None:
        device = torch.device("cpu")
        network = _copy_to_cpu(self.parts.network)
        self.parts = replace(self.parts, network=network, device=device)
        self.engine = choose_engine(network, device, replace(self.options, engine=None, precision=None))

    def _blending(self) -> dict[str, object]:
        # Exact windows change no voxel, blended ones do.
        inferer: Any = self.parts.inferer
        return {} if inferer.overlap is None else {"overlap": inferer.overlap, "roi_size": list(inferer.roi_size)}

    def _provenance(self) -> Provenance:
        metadata = self.parts.metadata
        return Provenance(
            model_name=str(metadata["name"]),
            model_version=str(metadata["version"]),
            weights_sha256=self.parts.weights_sha256,
            engine=self.engine.name,
            precision=self.engine.precision,
            device=str(self.parts.device),
            settings={**self.parts.settings, **self._blending(), "engine_reason": self.engine.reason},
        )


def _upload(volume: torch.Tensor, device: str) -> torch.Tensor:
    # From page-locked memory a GPU fetches by itself; kernels that need the volume wait on the device.
    if torch.device(device).type == "cuda" and volume.device.type == "cpu":
        return volume.pin_memory().to(device, non_blocking=True)
    return volume.to(device)


def _ladder(parts: BundleParts) -> MemoryLadder:
    inferer: Any = parts.inferer
    load = Load(inferer.sw_batch_size, tuple(inferer.roi_size), str(parts.device))
    return MemoryLadder(load, smallest=smallest_window(inferer.halo) if inferer.overlap is None else None)


def _copy_to_cpu(network: nn.Module) -> nn.Module:
    """Copy a network from a device that may be full: nothing of the copy lies there in between."""
    on_cpu: dict[int, Any] = {id(value): nn.Parameter(value.detach().cpu(), False) for value in network.parameters()}
    on_cpu.update((id(value), value.detach().cpu()) for value in network.buffers())
    return copy.deepcopy(network, on_cpu)


def _check_finite(logits: torch.Tensor, engine: Engine) -> None:
    # The sum needs no memory and hardly time; it may also overflow.
    if bool(torch.isfinite(logits.sum())):
        return
    count = logits.numel() - int(torch.isfinite(logits).sum())
    if count:
        reference = engine.name == "torch"
        raise InferenceError(
            f"the network gave {count} of {logits.numel()} logits that are no finite numbers, "
            f"with engine {engine.name} in {engine.precision}.",
            hint="Check the values of the volume." if reference else "Use --engine torch --precision float32.",
            reason="not-a-number",
        )


def _check_source(source: object) -> None:
    # Taken for what it says, it would fail only when the results are written.
    if source is not None and not isinstance(source, (ImageFile, DicomSeries)):
        raise UnsupportedImageError(
            f"source: found {type(source).__name__}, expected an ImageSource.",
            hint="Give ImageFile(Path(...)), or what choose_series(discover_sources(...)) gives.",
        )


def _source_of(image: str | Path | ImageSource | torch.Tensor | NDArray[Any]) -> ImageSource:
    if isinstance(image, (str, Path)):
        return ImageFile(Path(image))
    if isinstance(image, (ImageFile, DicomSeries)):
        return image
    return ImageFile(Path(str(getattr(image, "meta", {}).get("filename_or_obj", "volume"))))


@contextmanager
def _timed(seconds: dict[str, float], step: str) -> Iterator[None]:
    start = time.perf_counter()
    yield
    seconds[step] = seconds.get(step, 0.0) + time.perf_counter() - start


@contextmanager
def _own_errors() -> Iterator[None]:
    # MONAI wraps what a transform raises in a RuntimeError; the cause is what the user has to read.
    try:
        yield
    except LightUNetError:
        raise
    except (RuntimeError, MemoryError) as error:
        raise find_own_error(error) or _memory_error(error) or InferenceError(_describe(error)) from error


def _memory_error(error: BaseException) -> DeviceMemoryError | None:
    """Say that memory ran out beside the network, which `MemoryLadder` guards; None where another thing happened."""
    cause = find_out_of_memory(error)
    if cause is None:
        return None
    said = str(cause).partition("\n")[0] or type(cause).__name__
    hint = "Close other programs, or use a machine with more memory."
    if isinstance(cause, torch.OutOfMemoryError):
        hint = "Close other programs that use the device, or give --device cpu."
    return DeviceMemoryError(
        f"memory ran out while the volume was prepared or the label map restored: {said}", hint=hint
    )


def _describe(error: BaseException) -> str:
    """Name the transform and what it raised: the text of a foreign error may quote a header, and so a patient."""
    wrapper, raised = error, error
    while raised.__cause__ is not None:
        wrapper, raised = raised, raised.__cause__
    return _ADDRESS.sub("", f"{error}" if raised is error else f"{wrapper}: {type(raised).__name__}.")
