"""A child process that decodes compressed planes: ``lightunet_monai.inputs._decode_worker``.

Decoders are C and C++ code, and a crafted file can crash them or make them eat memory; then this process
ends and the program that asked goes on. It reads requests from standard input and answers on standard
output (`decode_protocol`); importing this module does nothing.
"""

from __future__ import annotations

import contextlib
import json
import os
import struct
import sys
import tempfile
import warnings
from typing import Any, BinaryIO

import numpy as np
from pydicom.dataset import Dataset, FileMetaDataset
from pydicom.encaps import encapsulate
from pydicom.pixels import get_decoder

from .codestream import RLE, has_more_pixels
from .decode_protocol import FAILED, OK

_MEMORY_LIMIT_BYTES = 3 * 2**30
"""Address space: the libraries map about 1 GB, and JPEG 2000 needs some 500 MB for the largest plane."""

_JPEG_FAMILY = "1.2.840.10008.1.2.4."
_PREFERRED = {
    RLE: ("pylibjpeg", "pydicom"),
    **{f"{_JPEG_FAMILY}{number}": ("pyjpegls", "gdcm") for number in ("80", "81")},
    **{f"{_JPEG_FAMILY}{number}": ("pylibjpeg", "gdcm", "pillow") for number in ("90", "91", "201", "202", "203")},
    **{f"{_JPEG_FAMILY}{number}": ("gdcm", "pylibjpeg", "pillow") for number in ("50", "51", "57", "70")},
}
"""Decoders in the order of measured speed, by transfer syntax."""


_DECODER_ERRORS = (
    RuntimeError, ValueError, TypeError, LookupError, AttributeError, ArithmeticError,
    OSError, EOFError, BufferError, ImportError, struct.error,
)  # fmt: skip
"""What pydicom and its decoders raise on damaged pixels. Anything else ends this process, which the program that asked
tells as a crash of the decoder, with the name of the file."""

_PREFIX = "Unable to decode as exceptions were raised by all available plugins:"


def main() -> int:
    """Serve requests until standard input ends."""
    _limit_memory()
    answers = os.fdopen(os.dup(sys.stdout.fileno()), "wb")
    # Whatever a C library prints must not get between the answers.
    os.dup2(sys.stderr.fileno(), sys.stdout.fileno())
    requests = sys.stdin.buffer
    warnings.simplefilter("ignore")
    while head := requests.read(4):
        options = json.loads(requests.read(struct.unpack(">I", head)[0]))
        _answer(answers, options, requests.read(options["length"]))
    return 0


def _answer(answers: BinaryIO, options: dict[str, Any], frame: bytes) -> None:
    try:
        plane = decode(frame, options)
        expected = (options["rows"], options["columns"])
        if plane.shape != expected:
            raise ValueError(f"decoded to {plane.shape}, expected {expected}")
        payload, status = plane.astype(plane.dtype.newbyteorder("<"), copy=False).tobytes(), OK
        dtype = plane.dtype.newbyteorder("<").str.encode().ljust(4)
        payload = dtype + payload
    except MemoryError:
        payload, status = b"needs more memory than a plane may take", FAILED
    except _DECODER_ERRORS as error:  # the parent turns it into one of ours, with the name of the file
        payload, status = " ".join(str(error).split())[:300].encode() or b"unknown", FAILED
    answers.write(status + struct.pack(">I", len(payload)))
    answers.write(payload)
    answers.flush()


def decode(frame: bytes, options: dict[str, Any]) -> np.ndarray[Any, Any]:
    """Decode one frame.

    Parameters
    ----------
    frame : bytes
        The encapsulated frame.
    options : dict
        ``syntax``, ``rows``, ``columns``, ``bits_allocated``, ``bits_stored``, ``is_signed``.

    Returns
    -------
    ndarray of integers, shape (rows, columns)
    """
    syntax, errors = options["syntax"], []
    if syntax == RLE:
        expected = options["rows"] * options["columns"]
        if has_more_pixels(frame, expected):
            raise ValueError(f"a plane of more than {expected} pixels, the header says {expected}")
    for plugin in _PREFERRED.get(syntax, ()):
        with contextlib.suppress(NotImplementedError):
            decoder = get_decoder(syntax)
            if plugin not in decoder.available_plugins:
                continue
            try:
                array, _ = decoder.as_array(
                    encapsulate([frame], has_bot=False),
                    raw=True,
                    decoding_plugin=plugin,
                    rows=options["rows"],
                    columns=options["columns"],
                    samples_per_pixel=1,
                    photometric_interpretation="MONOCHROME2",
                    pixel_representation=int(options["is_signed"]),
                    bits_allocated=options["bits_allocated"],
                    bits_stored=options["bits_stored"],
                    number_of_frames=1,
                    pixel_keyword="PixelData",
                    index=0,
                )
                return np.asarray(array)
            except _DECODER_ERRORS as error:  # another decoder may do it
                errors.append(str(error).removeprefix(_PREFIX).strip())
    if syntax in {f"{_JPEG_FAMILY}{number}" for number in ("51", "53", "55")}:
        return _decode_by_gdcm_reader(frame, options)
    raise ValueError(errors[0] if errors else f"no decoder for {syntax}")


def _decode_by_gdcm_reader(frame: bytes, options: dict[str, Any]) -> np.ndarray[Any, Any]:
    """12-bit JPEG: GDCM decodes it from a file, but not through pydicom's plugin."""
    import gdcm  # an optional decoder

    with tempfile.TemporaryDirectory() as folder:
        path = os.path.join(folder, "plane.dcm")
        _write_plane(path, frame, options)
        reader = gdcm.ImageReader()
        reader.SetFileName(path)
        if not reader.Read():
            raise ValueError("not decodable")
        raw = reader.GetImage().GetBuffer()
    data = raw.encode("utf-8", "surrogateescape") if isinstance(raw, str) else bytes(raw)
    kind = f"<{'i' if options['is_signed'] else 'u'}{options['bits_allocated'] // 8}"
    return np.frombuffer(data, kind).reshape(options["rows"], options["columns"])


def _write_plane(path: str, frame: bytes, options: dict[str, Any]) -> None:
    dataset, meta = Dataset(), FileMetaDataset()
    meta.TransferSyntaxUID = options["syntax"]
    meta.MediaStorageSOPClassUID = dataset.SOPClassUID = "1.2.840.10008.5.1.4.1.1.2"
    meta.MediaStorageSOPInstanceUID = dataset.SOPInstanceUID = "2.25.1"
    dataset.Rows, dataset.Columns = options["rows"], options["columns"]
    dataset.SamplesPerPixel, dataset.PhotometricInterpretation = 1, "MONOCHROME2"
    dataset.BitsAllocated, dataset.BitsStored = options["bits_allocated"], options["bits_stored"]
    dataset.HighBit, dataset.PixelRepresentation = options["bits_stored"] - 1, int(options["is_signed"])
    dataset.PixelData = encapsulate([frame])
    dataset["PixelData"].VR = "OB"
    dataset.file_meta = meta
    dataset.save_as(path, enforce_file_format=True)


def _limit_memory() -> None:
    # No such limit on Windows; there the size checks before decoding have to do.
    with contextlib.suppress(ImportError, OSError, ValueError):
        import resource

        resource.setrlimit(resource.RLIMIT_AS, (_MEMORY_LIMIT_BYTES, _MEMORY_LIMIT_BYTES))
        resource.setrlimit(resource.RLIMIT_CORE, (0, 0))


if __name__ == "__main__":
    sys.exit(main())
