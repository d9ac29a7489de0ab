"""Every error this package raises on purpose.

::

    LightUNetError
      InputError                what the user handed in
        NoImageFoundError         nothing readable at this path
        UnreadableFileError       damaged or unsupported encoding
        SeriesNotFoundError       the asked-for series is not here
        AmbiguousSeriesError      several could be meant; they are listed
        GeometryError             gaps, mixed orientation or spacing, tilted gantry, missing position
        UnsupportedImageError     wrong modality, dimensions, colour, localiser
      UsageError                wrong options or arguments
      BundleError               the model is incomplete or contradicts itself
        WeightsError              missing or not for this network
      InferenceError            the network could not be run
        DeviceMemoryError         did not fit; the hint says what makes room
      OutputError               exists already, not writable, cannot express this label map

An error has a message (what, found, expected), a ``hint`` (the next step) and a ``reason``, a short
stable word for programs. Messages may hold paths and UIDs, never patient names or identifiers.

    try:
        segmentation = predictor.segment(source)
    except LightUNetError as error:
        print(error.message, error.hint)
"""

from __future__ import annotations


class LightUNetError(Exception):
    """The root of all errors of this package.

    Parameters
    ----------
    message : str
        One line: the file or series, what was found and what was expected, with units.
    hint : str, optional
        One line: what to do next. Defaults to the one of the class.
    reason : str, optional
        A short stable word for programs, such as ``"gap"``. Defaults to the one of the class.
    """

    default_reason = "error"
    default_hint = ""

    def __init__(self, message: str, *, hint: str = "", reason: str | None = None) -> None:
        super().__init__(message)
        self.message = message
        self.hint = hint or self.default_hint
        self.reason = reason or self.default_reason

    def __str__(self) -> str:
        return f"{self.message} ({self.hint})" if self.hint else self.message

    def __reduce__(self) -> tuple[object, ...]:
        # Keyword-only arguments would be lost when an error crosses a process boundary.
        return _rebuild, (type(self), self.message, self.hint, self.reason)


def find_own_error(error: BaseException) -> LightUNetError | None:
    """Return the error of this package behind another one, or None: MONAI wraps what a transform raises."""
    cause: BaseException | None = error
    while cause is not None and not isinstance(cause, LightUNetError):
        cause = cause.__cause__ or cause.__context__
    return cause


def _rebuild(kind: type[LightUNetError], message: str, hint: str, reason: str) -> LightUNetError:
    return kind(message, hint=hint, reason=reason)


class InputError(LightUNetError):
    """Something is wrong with what the user handed in."""

    default_reason = "input"


class NoImageFoundError(InputError, FileNotFoundError):
    """Nothing readable was found at this path."""

    default_reason = "no-image"


class UnreadableFileError(InputError):
    """A file is damaged, truncated or encoded in a way that cannot be decoded."""

    default_reason = "unreadable"
    default_hint = "Copy or export the file again."


class SeriesNotFoundError(InputError, LookupError):
    """The series that was asked for is not here."""

    default_reason = "series-not-found"


class AmbiguousSeriesError(InputError):
    """Several volumes could be meant; the message lists them."""

    default_reason = "ambiguous"


class GeometryError(InputError):
    """The slices do not form one regular volume."""

    default_reason = "geometry"


class UnsupportedImageError(InputError):
    """The image is not of the kind this tool works on."""

    default_reason = "unsupported"


class UsageError(LightUNetError, ValueError):
    """An option or argument has a value that cannot be used."""

    default_reason = "usage"


class BundleError(LightUNetError):
    """The model bundle is incomplete or contradicts itself."""

    default_reason = "bundle"


class WeightsError(BundleError):
    """The weights are missing or belong to another network."""

    default_reason = "weights"


class InferenceError(LightUNetError):
    """The network could not be run."""

    default_reason = "inference"


class DeviceMemoryError(InferenceError):
    """The work did not fit into the memory of the device."""

    default_reason = "device-memory"


class OutputError(LightUNetError):
    """A result exists already, cannot be written, or cannot be expressed in the format asked for."""

    default_reason = "output"
