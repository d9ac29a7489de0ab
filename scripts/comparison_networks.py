"""The networks that scripts/compare_networks.py compares: one table, and what each needs to be built."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
from monai.networks.nets import AttentionUnet, BasicUNetPlusPlus
from torch import Tensor, nn
from torch.nn import functional as F

from lightunet_monai.networks import PAPER_WIDTHS, LightUNet, UNet

MULTIPLE = 32
"""Every 2-D input is filled up to a multiple of this: the deepest network here halves a slice five times."""

IMAGENET_MEAN, IMAGENET_STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)
"""Of the photographs the ResNet was trained on, red, green and blue in [0, 1]."""

RESNET_CLASSES = 21
LESION = 1
"""The class that is the lesion, of 2 or of 21."""


class MissingExtraError(RuntimeError):
    """A network of the table needs a package that is not here."""


@dataclass(frozen=True)
class Entry:
    """One row of the table.

    Parameters
    ----------
    title : str
        In the tables that people read.
    build : callable
        Gives the network with its first weights; draws them from torch's generator. Called with the number by which
        the widths (numbers of channels) are divided; 1 gives those of the network's own paper.
    spatial_dims : int
        2: slices or images of three channels; 3: volumes of one channel.
    has_fixed_widths : bool
        Whether its widths cannot be divided: the encoder is a published one.
    note : callable
        A remark for the output, asked after the network was built.
    """

    title: str
    build: Callable[[int], nn.Module]
    spatial_dims: int = 2
    has_fixed_widths: bool = False
    note: Callable[[nn.Module], str] = lambda network: ""

    @property
    def profile_shape(self) -> tuple[int, ...]:
        """Channels and size at which multiply-adds are counted: 65,536 pixels or voxels in each case."""
        return (3, 256, 256) if self.spatial_dims == 2 else (1, 16, 64, 64)


class FirstOutput(nn.Module):
    """The only output of a network that gives a list of outputs.

    Parameters
    ----------
    network : Module
    """

    def __init__(self, network: nn.Module) -> None:
        super().__init__()
        self.network = network

    def forward(self, x: Tensor) -> Tensor:
        return self.network(x)[0]


class FrozenResNetUNet(nn.Module):
    """U-Net with a ResNet-34 encoder whose parameters are fixed; 21 classes, input in [0, 1].

    With the weights of ImageNet if they are in the local cache of Hugging Face, else random ones. The running
    statistics of its batch norms are no parameters: they follow the training data.
    """

    def __init__(self) -> None:
        super().__init__()
        smp = import_segmentation_models()
        self.weights = "imagenet" if _has_local_imagenet(smp) else None
        self.unet = smp.Unet("resnet34", encoder_weights=self.weights, in_channels=3, classes=RESNET_CLASSES)
        for parameter in self.unet.encoder.parameters():
            parameter.requires_grad_(False)
        self.register_buffer("mean", torch.tensor(IMAGENET_MEAN)[:, None, None], persistent=False)
        self.register_buffer("std", torch.tensor(IMAGENET_STD)[:, None, None], persistent=False)

    def forward(self, x: Tensor) -> Tensor:
        return self.unet((x - self.mean) / self.std)


class AnySize(nn.Module):
    """Fill the input with zeros up to a multiple, cut the logits back.

    Parameters
    ----------
    network : Module
    multiple : int
    """

    def __init__(self, network: nn.Module, multiple: int = MULTIPLE) -> None:
        super().__init__()
        self.network = network
        self.multiple = multiple

    def forward(self, x: Tensor) -> Tensor:
        size = x.shape[2:]
        missing = [extra for n in reversed(size) for extra in (0, -n % self.multiple)]
        logits = self.network(F.pad(x, missing) if any(missing) else x)
        return logits[(..., *(slice(n) for n in size))]


def import_segmentation_models():
    """Give segmentation-models-pytorch, or say how to get it."""
    try:
        import segmentation_models_pytorch
    except (ImportError, RuntimeError) as error:  # a torchvision made for another torch raises RuntimeError
        raise MissingExtraError(
            f"the network 'resnet34' needs segmentation-models-pytorch, which cannot be imported ({error}). "
            "Install the extra: pip install 'lightunet_monai[comparison]'."
        ) from error
    return segmentation_models_pytorch


def _has_local_imagenet(smp) -> bool:
    from huggingface_hub import try_to_load_from_cache

    settings = smp.encoders.encoders["resnet34"]["pretrained_settings"]["imagenet"]
    found = [
        try_to_load_from_cache(settings["repo_id"], name, revision=settings["revision"])
        for name in ("config.json", "model.safetensors")
    ]
    return all(isinstance(path, str) for path in found)


def _resnet_note(network: nn.Module) -> str:
    assert isinstance(network, FrozenResNetUNet)
    return "encoder frozen, weights of ImageNet" if network.weights else "encoder frozen with RANDOM weights"


def _narrowed(widths: Sequence[int], divisor: int) -> tuple[int, ...]:
    return tuple(width // divisor for width in widths)


NETWORKS = {
    "unet": Entry("plain U-Net", lambda n: UNet(widths=_narrowed((64, 128, 256, 512, 1024), n))),
    "light": Entry("LightUNet, beta learned", lambda n: LightUNet(widths=_narrowed(PAPER_WIDTHS, n))),
    "light_fixed": Entry(
        "LightUNet, beta fixed", lambda n: LightUNet(widths=_narrowed(PAPER_WIDTHS, n), learnable_beta=False)
    ),
    "attention": Entry(
        "Attention U-Net",
        lambda n: AttentionUnet(2, 3, 2, channels=_narrowed((64, 128, 256, 512, 1024), n), strides=(2, 2, 2, 2)),
    ),
    "unet_plus_plus": Entry(
        "U-Net++",
        lambda n: FirstOutput(BasicUNetPlusPlus(2, 3, 2, features=_narrowed((32, 64, 128, 256, 512, 32), n))),
    ),
    "light_3d": Entry(
        "LightUNet, 3-D windows",
        lambda n: LightUNet(3, in_channels=1, widths=_narrowed(PAPER_WIDTHS, n)),
        spatial_dims=3,
    ),
    "resnet34": Entry(
        "ResNet-34 U-Net, 21 classes", lambda n: FrozenResNetUNet(), has_fixed_widths=True, note=_resnet_note
    ),
}
"""Name on the command line: how it is built. Undivided widths are those of each network's own paper."""


def two_classes(logits: Tensor) -> Tensor:
    """Logits (B, K, ...) as (B, 2, ...): background and lesion, with the same probability of the lesion.

    Of more than two classes all that are not the lesion are background: log-sum-exp adds their probabilities.
    """
    if logits.shape[1] == 2:
        return logits
    others = torch.cat([logits[:, :LESION], logits[:, LESION + 1 :]], dim=1)
    return torch.stack([others.logsumexp(dim=1), logits[:, LESION]], dim=1)
