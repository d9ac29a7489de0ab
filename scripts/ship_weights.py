"""Put newly trained weights into a bundle: convolution weights in few bits, compressed, and their SHA-256 beside them.

    python scripts/ship_weights.py runs/model.pt
    python scripts/ship_weights.py runs/model.pt --model ultrasound --bundle my_bundle
    python scripts/ship_weights.py left_out/model.pt --left-out
    python scripts/ship_weights.py runs/model.pt --bits 7

Convolution weights become multiples of a power of two, nine bits with the sign, one step for each row of the first
axis: a weight moves by at most 1/256 of the largest one of its row (with seven bits by 1/64). Stored as float16 in a
compressed file they take about a bit more each; biases, batch norms and Swish slopes stay in float32. The file is a
plain state dict for `torch.load` (not for its ``mmap``).
Thresholds, int8 ranges and published figures belong to the stored file: calibrate, measure and evaluate after this.
"""

from __future__ import annotations

import argparse
import hashlib
import io
import json
import zipfile
from pathlib import Path

import torch

from lightunet_monai.inference.bundle_files import LEFT_OUT_WEIGHTS, find_bundle, read_metadata, weights_path
from lightunet_monai.labels import DEFAULT_MODEL

BITS = 9
"""Of a convolution weight, the sign among them, unless told otherwise."""


def store(source: Path, target: Path, bits: int = BITS, other: Path | None = None) -> str:
    """Write a plain state dict, convolution weights rounded and in float16, and give the SHA-256 of the file.

    With `other` the mean of both is written, entry by entry: of weights of which one was trained on from the other.

    Raises
    ------
    ValueError
        If an entry is no tensor, the two are of different networks, or a weight does not fit into float16.
    """
    state = _read(source)
    if other is not None:
        second = _read(other)
        if {name: value.shape for name, value in state.items()} != {name: v.shape for name, v in second.items()}:
            raise ValueError(f"{other}: entries of another network, expected those of {source}")
        state = {n: (v + second[n]) / 2 if v.is_floating_point() else v for n, v in _in_float32(state).items()}
    stored = {}
    for name, value in state.items():
        half = _rounded(value, bits).half() if value.ndim > 1 and value.is_floating_point() else value
        if not torch.isfinite(half).all():
            raise ValueError(f"{source}: {name} has values beyond float16")
        stored[name] = half.clone()
    part = target.with_name(target.name + ".part")
    plain = io.BytesIO()
    torch.save(stored, plain)
    _compress(plain, part)
    part.replace(target)
    return hashlib.sha256(target.read_bytes()).hexdigest()


def _read(path: Path) -> dict[str, torch.Tensor]:
    state: dict[str, torch.Tensor] = torch.load(path, map_location="cpu", weights_only=True)
    for name, value in state.items():
        if not isinstance(value, torch.Tensor):
            raise ValueError(f"{path}: {name} is {type(value).__name__}, expected a plain state dict of tensors")
    return state


def _in_float32(state: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    return {name: value.float() if value.is_floating_point() else value for name, value in state.items()}


def _rounded(value: torch.Tensor, bits: int) -> torch.Tensor:
    rows = value.float().flatten(1)
    largest = rows.abs().amax(dim=1, keepdim=True).clamp_min(torch.finfo(torch.float16).tiny)
    step = 2.0 ** (largest.log2().ceil() - (bits - 1))
    return ((rows / step).round() * step).reshape(value.shape)


def _compress(source: io.BytesIO, target: Path) -> None:
    """Write the same archive again, its entries deflated and without the time of day."""
    with zipfile.ZipFile(source) as stored, zipfile.ZipFile(target, "w") as compressed:
        for entry in stored.infolist():
            same = zipfile.ZipInfo(entry.filename)
            compressed.writestr(same, stored.read(entry), zipfile.ZIP_DEFLATED, 9)


def main(arguments: list[str] | None = None) -> int:
    """Store the weights and stamp the bundle."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("weights", type=Path, help="a plain state dict, as training writes it")
    parser.add_argument("--model", default=DEFAULT_MODEL, help=f"which model of the bundle ({DEFAULT_MODEL})")
    parser.add_argument("--bundle", type=Path, help="the bundle's folder (the shipped one)")
    parser.add_argument(
        "--left-out",
        action="store_true",
        help="weights of train_left_out.json; their SHA-256 goes into inference.json",
    )
    parser.add_argument("--average", type=Path, metavar="FILE", help="store the mean of the weights and these")
    parser.add_argument(
        "--bits",
        type=int,
        choices=range(5, 12),
        default=BITS,
        help=f"of a convolution weight, the sign among them ({BITS})",
    )
    given = parser.parse_args(arguments)
    root = find_bundle(given.bundle)
    if given.left_out:
        file, key = root / "configs" / "inference.json", "left_out_sha256"
        known = json.loads(file.read_text(encoding="utf-8"))[key]
        target = root / LEFT_OUT_WEIGHTS
    else:
        file, key = root / "configs" / "metadata.json", "weights_sha256"
        metadata = read_metadata(root)
        models = [DEFAULT_MODEL, *metadata["models"]]
        if given.model not in models:
            parser.error(f"--model: found {given.model}, expected one of {', '.join(models)}")
        owner = metadata if given.model == DEFAULT_MODEL else metadata["models"][given.model]["metadata"]
        known = owner[key]
        target = weights_path(root, given.model)
    # Replaced in the text, so that nothing else in the file changes.
    text = file.read_text(encoding="utf-8")
    before = f'"{key}": "{known}"'
    if text.count(before) != 1:
        raise SystemExit(f"{file}: {before} found {text.count(before)} times, expected once")
    sha256 = store(given.weights, target, given.bits, given.average)
    file.write_text(text.replace(before, f'"{key}": "{sha256}"'), encoding="utf-8")
    print(f"{target}: {target.stat().st_size / 1e6:.2f} MB, SHA-256 {sha256}")
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
