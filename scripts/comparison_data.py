"""The two data sets of scripts/compare_networks.py: simulated breast CT and breast ultrasound.

Everything that changes a voxel of a volume, the loss and the optimiser's numbers come from the bundle's configuration.
"""

from __future__ import annotations

import copy
import csv
import hashlib
import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import torch
from monai.bundle import ConfigParser
from monai.data import PersistentDataset
from monai.inferers import sliding_window_inference
from monai.transforms import Compose, RandCropByPosNegLabeld, SpatialPadd
from PIL import Image
from torch import Tensor
from torch.utils.data import Dataset

from lightunet_monai.errors import UnreadableFileError
from lightunet_monai.training import AugmentBatch
from lightunet_monai.transforms import RandSampleSlicesd, list_labelled_cases

CONFIGS = Path(__file__).resolve().parents[1] / "monai_bundle" / "configs"
VOLUME_FILES = (CONFIGS / "inference.json", CONFIGS / "train.json")
IMAGE_FILES = (*VOLUME_FILES, CONFIGS / "image2d.json", CONFIGS / "train_image2d.json")

HELD_OUT_EVERY = 5
"""Of a datalist that names only training cases, each fifth is a test case."""

OVERLAP_3D = 0.25
"""Of the 3-D windows at inference, blended with Gaussian weights (MONAI's usual value)."""

KEYS = ("image", "label")

Logits = Callable[[Tensor], Tensor]


@dataclass(frozen=True)
class Case:
    """One labelled volume or image.

    Parameters
    ----------
    name : str
    group : str
        Cases of one group are near-duplicates.
    image : Tensor
        (1, X, Y, Z) on the model's grid, or (1, H, W); float32 in [0, 1].
    label : Tensor
        Of the same shape, uint8, 1 is a lesion.
    voxel_ml : float
        Volume of a voxel; of an image, where no spacing is known, 1.
    """

    name: str
    group: str
    image: Tensor
    label: Tensor
    voxel_ml: float

    @property
    def has_lesion(self) -> bool:
        """Whether the reference holds one."""
        return bool(self.label.any())


class Data(Protocol):
    """What the comparison asks of a data set."""

    folds: tuple[int | None, ...]
    spatial_dims: tuple[int, ...]
    recipe: ConfigParser

    def split(self, fold: int | None, most: tuple[int | None, int | None] = (None, None)) -> Any:
        """Training and test cases, two lists; of many at most so many, evenly picked."""

    def random_transform(self, spatial_dims: int) -> Compose:
        """One case, `KEYS`, becomes a training sample, or a list with one."""

    def logits(self, case: Case, network: Logits, spatial_dims: int, device: torch.device) -> Tensor:
        """Logits (2, *spatial) of a whole case."""


def open_recipe(files: Sequence[Path]) -> ConfigParser:
    """The bundle's training configuration; entries are taken out by their ids."""
    parser = ConfigParser()
    parser.read_config([str(path) for path in files])
    parser["bundle_root"] = str(files[0].resolve().parents[1])
    parser["neighbours"] = 1  # three channels, as the published networks have
    return parser


def recipe_hash(files: Sequence[Path]) -> str:
    """Changes when the bundle's configuration does."""
    return hashlib.sha256(b"".join(path.read_bytes() for path in files)).hexdigest()[:16]


class SimulatedData:
    """Volumes of a datalist on the model's grid, through the bundle's own preprocessing.

    Parameters
    ----------
    datalist : Path
        As ``lightunet simulate`` or ``lightunet datalist`` writes it.
    test_datalist : Path, optional
        Where the test cases are. Else they are the sections "testing" or "validation" of the first list, else
        each fifth of its training cases.
    cache : Path
        Folder for the preprocessed volumes.
    """

    folds: tuple[int | None, ...] = (None,)
    spatial_dims = (2, 3)

    def __init__(self, datalist: Path, test_datalist: Path | None, cache: Path) -> None:
        self.recipe = open_recipe(VOLUME_FILES)
        self.datalist = datalist
        self.test_datalist = test_datalist
        self.cache = cache
        self.inferer = self.recipe.get_parsed_content("inferer")

    def split(self, fold: int | None, most: tuple[int | None, int | None] = (None, None)) -> Any:
        """Training and test cases; of many at most so many, evenly picked."""
        train, test = self._listed(fold)
        both = {item["image"] for item in train} & {item["image"] for item in test}
        if both:
            raise UnreadableFileError(f"{self.datalist}: {min(both)} is both a training and a test case.")
        return [self._load(pick(items, count)) for items, count in zip((train, test), most, strict=True)]

    def _listed(self, fold: int | None) -> tuple[list[dict[str, Any]], list[dict[str, Any]]]:
        train = list_labelled_cases(self.datalist, "training", fold)
        if fold is not None:
            return train, list_labelled_cases(self.datalist, "validation", fold)
        source = self.test_datalist or self.datalist
        for section in ("testing", "test", "validation"):
            try:
                return train, list_labelled_cases(source, section)
            except UnreadableFileError:
                continue
        if self.test_datalist is not None:
            return train, list_labelled_cases(self.test_datalist, "training")
        test = train[::HELD_OUT_EVERY]
        return [item for item in train if item not in test], test

    def _load(self, items: list[dict[str, Any]]) -> list[Case]:
        preprocessing = self.recipe.get_parsed_content("preprocessing")
        voxel_ml = math.prod(self.recipe.get_parsed_content("model_spacing")) / 1000
        cases = []
        for item, ready in zip(items, PersistentDataset(items, preprocessing, self.cache), strict=True):
            image, label = ready["image"], ready["label"]
            name = Path(item["image"]).name
            cases.append(Case(name, name, _plain(image)[:1].float(), (_plain(label) > 0).to(torch.uint8), voxel_ml))
        return cases

    def random_transform(self, spatial_dims: int) -> Compose:
        """The bundle's; in three dimensions cubes are cut in place of slices, whose slices then change together."""
        sampler, augment = _sampler(self.recipe), _augmentation(self.recipe)
        if spatial_dims == 2:
            return Compose([sampler, partial(_augmented, augment)])
        edge = (sampler.roi_size[0] // 2,) * 3
        cube = RandCropByPosNegLabeld(
            KEYS,
            label_key="label",
            spatial_size=edge,
            pos=sampler.lesion_share,
            neg=1 - sampler.lesion_share,
            num_samples=1,
            image_key="image",
            image_threshold=sampler.tissue_threshold,
        )
        augment.roi_size = edge[:2]
        return Compose([SpatialPadd(KEYS, edge), cube, partial(_augmented, augment)])

    def logits(self, case: Case, network: Logits, spatial_dims: int, device: torch.device) -> Tensor:
        """By the bundle's inferer over slices in every direction; in three dimensions by MONAI's sliding windows."""
        volume = case.image[None].to(device)
        if spatial_dims == 2:
            return self.inferer(volume, network)[0]
        roi = (_sampler(self.recipe).roi_size[0],) * 3
        return sliding_window_inference(volume, roi, 1, network, overlap=OVERLAP_3D, mode="gaussian")[0]


class UltrasoundData:
    """Images of a folder with index.csv (id, class, group, fold), images/ID.png and masks/ID.png.

    Parameters
    ----------
    folder : Path
    size : int
        Longest side, pixels.
    """

    spatial_dims = (2,)

    def __init__(self, folder: Path, size: int) -> None:
        self.recipe = open_recipe(IMAGE_FILES)
        self.folder = folder
        self.size = size
        try:
            with (folder / "index.csv").open(newline="", encoding="utf-8") as file:
                self.rows = list(csv.DictReader(file))
            fold_of = {row["group"]: row["fold"] for row in self.rows}
            self.folds: tuple[int | None, ...] = tuple(sorted({int(row["fold"]) for row in self.rows}))
        except (OSError, KeyError, ValueError) as error:
            raise UnreadableFileError(
                f"{folder}: no index.csv with the columns id, class, group, fold ({error!r})."
            ) from error
        mixed = sorted({row["group"] for row in self.rows if row["fold"] != fold_of[row["group"]]})
        if mixed:
            raise UnreadableFileError(f"{folder}: group {mixed[0]} is in several folds; near-duplicates must not be.")

    def split(self, fold: int | None, most: tuple[int | None, int | None] = (None, None)) -> Any:
        """The images of the other folds, and those of this one; of many at most so many, evenly picked."""
        train = [row for row in self.rows if int(row["fold"]) != fold]
        test = [row for row in self.rows if int(row["fold"]) == fold]
        return [[self._load(row) for row in pick(rows, count)] for rows, count in zip((train, test), most, strict=True)]

    def _load(self, row: dict[str, str]) -> Case:
        image_path = self.folder / "images" / f"{row['id']}.png"
        mask_path = self.folder / "masks" / f"{row['id']}.png"
        if row["class"] != "normal" and not mask_path.exists():
            raise UnreadableFileError(f"{mask_path}: missing, and the image is not of class normal.")
        with Image.open(image_path) as picture:
            ratio = self.size / max(picture.size)
            size = tuple(max(1, round(side * ratio)) for side in picture.size)
            grey = np.array(picture.convert("L").resize(size, Image.Resampling.BILINEAR), np.float32) / 255
        mask = np.zeros(grey.shape, np.uint8)
        if mask_path.exists():
            with Image.open(mask_path) as picture:
                mask = np.array(picture.convert("L").resize(size, Image.Resampling.NEAREST)) > 0
        label = torch.from_numpy(np.asarray(mask, np.uint8))[None]
        return Case(row["id"], row["group"], torch.from_numpy(grey)[None], label, voxel_ml=1.0)

    def random_transform(self, spatial_dims: int) -> Compose:
        """The bundle's for 2-D images, on whole images."""
        augment = _augmentation(self.recipe)
        augment.roi_size = (self.size, self.size)
        augment.flip_probability = augment.flip_probability[::-1]  # the bundle has columns first, here rows are
        return Compose([SpatialPadd(KEYS, augment.roi_size), partial(_augmented, augment)])

    def logits(self, case: Case, network: Logits, spatial_dims: int, device: torch.device) -> Tensor:
        """Of the whole image at once; its grey is red, green and blue."""
        return network(three_channels(case.image[None].to(device)))[0]


class Samples(Dataset):
    """Training samples by their number: the same number gives the same sample, whichever network asks.

    Parameters
    ----------
    cases : sequence of Case
    transform : Compose
        Random; its state is set anew for each sample.
    count : int
        Samples in all; the cases are gone through in a new random order each time.
    seed : int
    spatial_dims : int
    """

    def __init__(self, cases: Sequence[Case], transform: Compose, count: int, seed: int, spatial_dims: int) -> None:
        self.cases = cases
        self.transform = transform
        self.count = count
        self.seed = seed
        self.spatial_dims = spatial_dims

    def __len__(self) -> int:
        return self.count

    def __getitem__(self, index: int) -> tuple[Tensor, Tensor]:
        if not 0 <= index < self.count:
            raise IndexError(index)
        pass_number, place = divmod(index, len(self.cases))
        case = self.cases[np.random.RandomState((self.seed, pass_number)).permutation(len(self.cases))[place]]
        seed = int(np.random.RandomState((self.seed, index, 1)).randint(2**31))
        self.transform.set_random_state(seed=seed)
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed)
            sample = self.transform({"image": case.image, "label": case.label})
        sample = sample[0] if isinstance(sample, list) else sample
        image, label = sample["image"].float(), sample["label"].float()
        return (three_channels(image[None])[0] if self.spatial_dims == 2 else image), label


def three_channels(images: Tensor) -> Tensor:
    """Give (B, 1, H, W) as (B, 3, H, W); what has three channels stays."""
    return images.expand(-1, 3, -1, -1) if images.shape[1] == 1 else images


def pick(items: Sequence[Any], count: int | None) -> list[Any]:
    """At most so many, evenly spaced, the first one always."""
    if count is None or len(items) <= count:
        return list(items)
    return [items[i * len(items) // count] for i in range(count)]


def _sampler(recipe: ConfigParser) -> RandSampleSlicesd:
    (sampler,) = recipe.get_parsed_content("train#random_transforms")
    assert isinstance(sampler, RandSampleSlicesd)
    return sampler


def _augmentation(recipe: ConfigParser) -> AugmentBatch:
    augment = recipe.get_parsed_content("train#augmentation")
    assert isinstance(augment, AugmentBatch)
    return copy.copy(augment)


def _augmented(augment: AugmentBatch, sample: Any) -> dict[str, Tensor]:
    # A slice (C, H, W) or a cube (1, D, H, W), whose slices are taken for channels; a batch of one either way.
    image, label = _plain(sample["image"]), _plain(sample["label"])
    height, width = image.shape[-2:]
    changed = augment.augment(image.reshape(1, -1, height, width), label.reshape(1, -1, height, width))
    shapes = (*image.shape[:-2], *augment.roi_size), (*label.shape[:-2], *augment.roi_size)
    return {key: x.reshape(shape) for key, x, shape in zip(KEYS, changed, shapes, strict=True)}


def _plain(x: Any) -> Tensor:
    return x.as_tensor() if hasattr(x, "as_tensor") else torch.as_tensor(x)
