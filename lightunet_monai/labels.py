"""The label table: which structure an integer in a label map stands for.

The only list of structures is in the bundle's ``metadata.json``; this module gives it a type.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from .errors import BundleError

LESION = 1
"""Value of the lesion in a label map and its channel in the logits, in every model; 0 is background, further ones are
tissues."""

LARGEST_VALUE = 255
"""Of a label; label maps are 8-bit."""

DEFAULT_MODEL = "breast-ct"
"""The model that ``inference.json`` alone describes; the others stand under ``models`` in ``metadata.json``."""

ANATOMY_CATEGORIES = frozenset({"91723000", "123037004", "85756007"})
"""SNOMED CT categories of normal structures (anatomical structure in its two codes, tissue): never lesions."""

FIBROGLANDULAR_CODES = frozenset({"1342375003"})
ADIPOSE_CODES = frozenset({"89749009", "55603005"})
SKIN_CODES = frozenset({"82038008", "39937001"})
"""SNOMED CT types of these structures: those of the breast (DICOM CID 7163), and fat and skin of any region."""


_AS_SHIPPED = "Use the bundle as shipped."


@dataclass(frozen=True)
class Code:
    """A coded concept as DICOM writes it.

    Parameters
    ----------
    scheme : str
        Coding scheme designator, for example ``"SCT"`` (SNOMED CT).
    value : str
        Code value, for example ``"4147007"``.
    meaning : str
        Code meaning, for example ``"Mass"``.
    """

    scheme: str
    value: str
    meaning: str


@dataclass(frozen=True)
class Label:
    """One structure of a label map.

    Parameters
    ----------
    value : int
        The integer in the label map, 1 to 255 (0 is background).
    name : str
        Short lower-case name, for example ``"tumor"``.
    title : str
        What people read, for example ``"Breast mass"``.
    color : tuple of int
        Red, green, blue; 0 to 255.
    category, type : Code
        DICOM segmented property category and type.
    region : Code or None
        Anatomic region; laterality is not part of it.
    other_names : tuple of str
        What people call the same structure in segmentations of their own.
    other_types : tuple of Code
        Property types that they give it.
    """

    value: int
    name: str
    title: str
    color: tuple[int, int, int]
    category: Code
    type: Code
    region: Code | None = None
    other_names: tuple[str, ...] = ()
    other_types: tuple[Code, ...] = ()

    @property
    def is_lesion(self) -> bool:
        """Whether it stands for a finding and not for normal anatomy."""
        return self.category.value not in ANATOMY_CATEGORIES


@dataclass(frozen=True)
class LabelTable:
    """All structures of a label map, background left out, in the order of their values."""

    labels: tuple[Label, ...]

    def __iter__(self) -> Iterator[Label]:
        return iter(self.labels)

    def __len__(self) -> int:
        return len(self.labels)

    @property
    def values(self) -> tuple[int, ...]:
        """The integers a label map may hold besides 0."""
        return tuple(label.value for label in self.labels)

    def __getitem__(self, value: int) -> Label:
        for label in self.labels:
            if label.value == value:
                return label
        raise KeyError(value)

    @property
    def has_tissues(self) -> bool:
        """Whether normal structures are among them."""
        return not all(label.is_lesion for label in self.labels)

    @property
    def lesions(self) -> tuple[int, ...]:
        """The values that stand for a finding."""
        return tuple(label.value for label in self.labels if label.is_lesion)

    def values_of(self, codes: frozenset[str]) -> list[int]:
        """Give the values of the structures with one of these types."""
        return [label.value for label in self.labels if label.type.value in codes]

    def breast_density(self, voxels: Mapping[int, int]) -> float | None:
        """Volumetric glandular fraction: fibroglandular / (fibroglandular + adipose + lesions), by volume.

        That is the share of fibroglandular tissue in the volume of the breast without its skin (as in Tomography 2023;
        9(6):2039, doi:10.3390/tomography9060160). A lesion is part of the breast, but not of the fibroglandular tissue.

        Parameters
        ----------
        voxels : mapping
            Value to number of voxels; of both breasts where the volume shows both.

        Returns
        -------
        float or None
            0 to 1; None if the table lacks one of the tissues, or no voxel is labelled as either.
        """
        dense, fat = (self.values_of(codes) for codes in (FIBROGLANDULAR_CODES, ADIPOSE_CODES))
        glandular, adipose, tumour = (sum(voxels.get(v, 0) for v in values) for values in (dense, fat, self.lesions))
        if not dense or not fat or glandular + adipose == 0:
            return None
        return glandular / (glandular + adipose + tumour)

    @classmethod
    def shipped(cls, model: str | None = None) -> LabelTable:
        """Read the table of the bundle that comes with the package: inside of it, or beside it in a checkout.

        Parameters
        ----------
        model : str, optional
            As in `metadata_of`.

        Raises
        ------
        BundleError
            If there is none.
        """
        package = Path(__file__).resolve().parent
        for root in (package, package.parent):
            path = root / "monai_bundle" / "configs" / "metadata.json"
            if path.is_file():
                return cls.from_metadata(metadata_of(json.loads(path.read_text(encoding="utf-8")), model))
        raise BundleError("no bundle in or beside the package.", hint="Reinstall the package.")

    @classmethod
    def from_metadata(cls, metadata: Mapping[str, Any]) -> LabelTable:
        """Read the table from the content of a bundle's ``metadata.json``.

        Parameters
        ----------
        metadata : mapping
            ``network_data_format.outputs.pred.channel_def`` gives value and name,
            ``label_definitions`` gives title, colour and codes for each name.

        Returns
        -------
        LabelTable

        Raises
        ------
        BundleError
            If either part is missing or cannot be used, the two do not name the same structures, or the value
            `LESION` is none of a lesion.
        """
        try:
            channels = metadata["network_data_format"]["outputs"]["pred"]["channel_def"]
            definitions = metadata["label_definitions"]
        except KeyError as error:
            raise BundleError(f"metadata.json: the key {error} is missing.", hint=_AS_SHIPPED) from None
        except TypeError:
            raise BundleError("metadata.json: network_data_format is of another form.", hint=_AS_SHIPPED) from None
        try:
            names = {int(value): str(name) for value, name in channels.items() if int(value) != 0}
        except (AttributeError, ValueError) as error:
            raise BundleError(f"metadata.json: channel_def cannot be used: {error}.", hint=_AS_SHIPPED) from None
        wrong = [value for value in names if not 0 < value <= LARGEST_VALUE]
        if wrong:
            raise BundleError(f"metadata.json: channel_def has {wrong[0]}, expected 0 to {LARGEST_VALUE}.")
        if not isinstance(definitions, Mapping):
            kind = type(definitions).__name__
            raise BundleError(f"metadata.json: label_definitions: found {kind}, expected an object.", hint=_AS_SHIPPED)
        if set(names.values()) != set(definitions):
            raise BundleError(
                f"metadata.json: channel_def names {sorted(names.values())}, "
                f"label_definitions names {sorted(definitions)}.",
                hint="Both must list the same structures.",
            )
        table = cls(tuple(_label(value, name, definitions[name]) for value, name in sorted(names.items())))
        if LESION not in table.lesions:
            raise BundleError(
                f"metadata.json: channel_def has {names.get(LESION, 'nothing')} as {LESION}, expected a lesion; "
                f"found as lesions: {list(table.lesions)}.",
                hint=f"Channel {LESION} is the lesion in every model, with a category that is no normal structure; "
                "tissues come after it.",
            )
        return table


def default_model(metadata: Mapping[str, Any]) -> str:
    """Name the model that a bundle means where none is asked for."""
    return str(metadata.get("default_model", DEFAULT_MODEL))


def metadata_of(metadata: Mapping[str, Any], model: str | None = None) -> dict[str, Any]:
    """Give the metadata of one model of a bundle: what all share, with the model's own put over it.

    Parameters
    ----------
    metadata : mapping
        The content of ``metadata.json``.
    model : str, optional
        A key under ``models``, or `DEFAULT_MODEL`; the bundle's default model if it is left out.

    Returns
    -------
    dict
        Mappings are merged key by key, so that a model states only what differs; a ``channel_def`` from channel 0 on
        is a whole one, and replaces the other.
    """
    own = metadata.get("models", {}).get(model or default_model(metadata), {})
    return _merged(metadata, own.get("metadata", {}))


def _merged(below: Mapping[str, Any], above: Mapping[str, Any]) -> dict[str, Any]:
    merged = dict(below)
    for key, value in above.items():
        both = isinstance(value, Mapping) and isinstance(below.get(key), Mapping)
        is_whole = both and key == "channel_def" and "0" in value
        merged[key] = _merged(below[key], value) if both and not is_whole else value
    return merged


def _label(value: int, name: str, definition: Mapping[str, Any]) -> Label:
    try:
        red, green, blue = definition["color"]
        region = definition.get("region")
        return Label(
            value=value,
            name=name,
            title=definition["title"],
            color=(int(red), int(green), int(blue)),
            category=Code(**definition["category"]),
            type=Code(**definition["type"]),
            region=Code(**region) if region else None,
            other_names=tuple(map(str, definition.get("other_names", ()))),
            other_types=tuple(Code(**other) for other in definition.get("other_types", ())),
        )
    except (KeyError, TypeError, ValueError) as error:
        raise BundleError(
            f"metadata.json: the label {name} cannot be used: {type(error).__name__} {error}.",
            hint="It needs title, color (red, green, blue), category and type (scheme, value and meaning each).",
        ) from None
