"""The real bundle made small: its own configuration, a narrow network, random weights."""

from __future__ import annotations

import json
import shutil
from dataclasses import asdict
from pathlib import Path

import torch
from monai.data import MetaTensor

from lightunet_monai.inference.bundle import open_bundle
from lightunet_monai.inference.bundle_files import weights_path
from lightunet_monai.inference.engine import input_channels
from lightunet_monai.networks import LightUNet
from lightunet_monai.options import RunOptions
from lightunet_monai.transforms.channels import lesion_margin
from lightunet_monai.transforms.piece_judge import FEATURES, PieceMeasure
from tests.builders.volume import make_voxels

SHIPPED = Path(__file__).resolve().parents[2] / "monai_bundle"
WIDTHS = (8, 16, 32, 64)


def tiny_bundle(folder: Path, *, seed: int = 0) -> Path:
    """Copy the shipped bundle with weights drawn from a seed, narrow, smaller windows, thresholds that they reach.

    Parameters
    ----------
    folder : Path
        Made; must not exist.
    seed : int
        Of the weights.

    Returns
    -------
    Path
        The bundle's folder.
    """
    shutil.copytree(SHIPPED, folder, ignore=shutil.ignore_patterns("*.pt"))
    config = json.loads((folder / "configs" / "inference.json").read_text())
    config["network_def"]["widths"] = list(WIDTHS)
    config["inferer"]["roi_size"] = [160, 160]
    config["left_out_network_def"]["widths"] = list(WIDTHS)
    config.update(threshold=0.5, piece_threshold=0.5, sure_threshold=0.6, left_out_sha256="")
    (folder / "configs" / "inference.json").write_text(json.dumps(config, indent=4))
    for name in ("pieces.json", "pieces_tissues.json"):
        (folder / "configs" / name).write_text(json.dumps(mild_judge()))
    tissues = json.loads((folder / "configs" / "tissues.json").read_text())
    tissues.update(threshold=0.5, piece_threshold=0.5, sure_threshold=0.5, temperature=1.0)
    (folder / "configs" / "tissues.json").write_text(json.dumps(tissues, indent=4))
    picture = json.loads((folder / "configs" / "image2d.json").read_text())
    picture["network_def#widths"] = list(WIDTHS)
    (folder / "configs" / "image2d.json").write_text(json.dumps(picture, indent=4))
    metadata = json.loads((folder / "configs" / "metadata.json").read_text())
    metadata["weights_sha256"] = ""
    for model in metadata["models"].values():
        model["metadata"]["weights_sha256"] = ""
    (folder / "configs" / "metadata.json").write_text(json.dumps(metadata, indent=4))
    (folder / "models").mkdir(exist_ok=True)
    channels = 2 * config["neighbours"] + 1
    torch.save(random_network(seed, channels).state_dict(), folder / "models" / "model.pt")
    torch.save(random_network(seed + 3, 5).state_dict(), folder / "models" / "left_out.pt")
    torch.save(random_network(seed + 1).state_dict(), folder / "models" / "ultrasound.pt")
    torch.save(random_network(seed + 2, channels, 5).state_dict(), folder / "models" / "tissues.pt")
    return folder


def spread_tissues(bundle: Path, volume: MetaTensor) -> None:
    """Rescale the last layer of the model with tissues so that every label occurs in a volume (1, X, Y, Z)."""
    parts = open_bundle(bundle, RunOptions(engine="torch", device="cpu"), model="tissues")
    image = parts.preprocessing({"image": volume})["image"].as_tensor()
    with torch.inference_mode():
        logits = parts.inferer(image[None], parts.network)[0]
    state = parts.network.state_dict()
    logits = logits[:, image[0] > 0]
    scale, mean = 2 / logits.std(dim=1), logits.mean(dim=1)
    state["outc.weight"] *= scale[:, None, None, None]
    state["outc.bias"] = (state["outc.bias"] - mean) * scale
    margin = lesion_margin((logits - mean[:, None]) * scale[:, None])
    state["outc.bias"][1] -= margin.quantile(0.8)
    torch.save(state, weights_path(bundle, "tissues"))


def judge_content(
    logit: float = -3.0, bias: float = 0.0, measure: dict[str, object] | None = None, **weights: float
) -> dict[str, object]:
    """Content of ``pieces.json``: features as they are measured, with these weights; 0 for the others."""
    assert set(weights) <= set(FEATURES)
    features = {name: {"mean": 0.0, "scale": 1.0, "weight": weights.get(name, 0.0)} for name in FEATURES}
    return {"logit": logit, "bias": bias, "measure": measure or asdict(PieceMeasure()), "features": features}


def mild_judge() -> dict[str, object]:
    """Content of ``pieces.json``: about the highest logit, and a little of all else that pieces are judged by."""
    weights = dict.fromkeys(FEATURES, 0.05) | {"highest_margin": 1.0}
    return judge_content(logit=0.0, bias=0.5, **weights)


def random_network(seed: int = 0, in_channels: int = 3, out_channels: int = 2) -> LightUNet:
    """A narrow network with weights and batch statistics unlike the initial ones, and a logit that changes sign."""
    generator = torch.Generator().manual_seed(seed)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)  # of what is not drawn below: biases
        network = LightUNet(in_channels=in_channels, out_channels=out_channels, widths=WIDTHS).eval()
    with torch.no_grad():
        for name, value in network.state_dict().items():
            if name.endswith("running_var"):
                value.uniform_(0.5, 1.5, generator=generator)
            elif name.endswith("running_mean"):
                value.normal_(0, 0.2, generator=generator)
            elif value.dim() > 1:
                value.normal_(0, 0.12, generator=generator)
        _spread(network)
    return network


def _spread(network: LightUNet) -> None:
    # On slices of a volume of the tests, the logit of the last class against the first varies by 3 and is positive
    # in a quarter of the tissue: label maps that are neither empty nor full, in many pieces.
    volume = torch.from_numpy(make_voxels((48, 44, 40)).astype("float32"))
    brightness = ((volume + 160) / 300).clamp(0.02, 1.0) * (volume > -400)
    reach = input_channels(network) // 2
    slices = torch.stack([brightness[:, :, z - reach : z + reach + 1].movedim(2, 0) for z in range(4, 36, 4)])
    margin = network(slices).diff(dim=1)[:, -1][slices[:, 1] > 0]
    scale = 3.0 / margin.std()
    shift = network.outc.bias[-1] - network.outc.bias[-2]
    network.outc.weight.mul_(scale)
    network.outc.bias[-1] = network.outc.bias[-2] - scale * (margin.quantile(0.75) - shift)
