"""Unique identifiers for new DICOM objects and for lesions.

A derived UID is ``2.25.`` followed by a version-5 UUID as a decimal number (DICOM PS3.5 B.2). The UUID is made from the
SHA-256 of the facts that identify the object, one a line: the same facts give the same UID on every machine.
"""

from __future__ import annotations

import hashlib
import uuid
from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime

import numpy as np

from lightunet_monai.segmentation import Segmentation
from lightunet_monai.sources import DicomSeries

from .lesions import LesionMask

NAMESPACE = uuid.UUID("6f0d8a52-6c6b-5d1e-9a40-4c6b8a1f7d21")
"""Fixed once for this project; another value would change every derived UID."""

_NO_SETTINGS = frozenset(("engine_reason",))
"""What a report says of a run and changes no voxel: an engine that is named is the same one when it is chosen."""


@dataclass(frozen=True)
class Stamp:
    """Where an object gets its time and its UIDs from.

    Parameters
    ----------
    clock : callable
        Gives the time of creation.
    new_uid : callable
        Takes the role of the UID (such as ``"seg.instance"``) and gives a UID.
    """

    clock: Callable[[], datetime]
    new_uid: Callable[[str], str]

    @classmethod
    def random(cls, clock: Callable[[], datetime] = datetime.now) -> Stamp:
        """UIDs that never repeat."""
        return cls(clock, lambda role: f"2.25.{uuid.uuid4().int}")

    @classmethod
    def derived(cls, segmentation: Segmentation, clock: Callable[[], datetime] = datetime.now) -> Stamp:
        """UIDs that repeat when the same model makes the same label map from the same source."""
        facts = (*_source_facts(segmentation), *_model_facts(segmentation), _content_hash(segmentation))
        return cls(clock, lambda role: derived_uid(*facts, role))


def derived_uid(*facts: str) -> str:
    """Give the UID of these facts; their order matters.

    >>> derived_uid("a", "b") == derived_uid("a", "b")
    True
    """
    # The name of a file need not be text.
    digest = hashlib.sha256("\n".join(facts).encode("utf-8", "surrogateescape")).hexdigest()
    return f"2.25.{uuid.uuid5(NAMESPACE, digest).int}"


def lesion_tracking_uid(segmentation: Segmentation, lesion: LesionMask) -> str:
    """Give the tracking UID of a lesion: the same in SEG and SR, and in a rerun that finds the same voxels."""
    shape = " ".join(str(number) for number in (*lesion.start, *lesion.mask.shape))
    voxels = hashlib.sha256(np.packbits(lesion.mask).tobytes()).hexdigest()
    return derived_uid(*_source_facts(segmentation), *_model_facts(segmentation), "lesion", shape, voxels)


def _source_facts(segmentation: Segmentation) -> tuple[str, ...]:
    source = segmentation.source
    if isinstance(source, DicomSeries):
        frames = (f"{item.sop_instance_uid} {'' if item.frame is None else item.frame}" for item in source.slices)
        return source.series_uid, hashlib.sha256("\n".join(frames).encode()).hexdigest()
    return (source.name,)


def _model_facts(segmentation: Segmentation) -> tuple[str, ...]:
    provenance = segmentation.provenance
    settings = sorted(f"{key}={value!r}" for key, value in provenance.settings.items() if key not in _NO_SETTINGS)
    if provenance.algorithm_type != "AUTOMATIC":
        settings.append(provenance.algorithm_type)
    return provenance.model_name, provenance.model_version, provenance.weights_sha256, *settings


def _content_hash(segmentation: Segmentation) -> str:
    digest = hashlib.sha256(np.ascontiguousarray(segmentation.label_map).data)
    digest.update(np.ascontiguousarray(segmentation.affine).tobytes())
    if segmentation.probability is not None:
        digest.update(np.ascontiguousarray(segmentation.probability).data)
    return digest.hexdigest()
