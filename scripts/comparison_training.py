"""One run of scripts/compare_networks.py: train or tune on the training cases, score the test cases."""

from __future__ import annotations

import math
import statistics
import time
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any

import numpy as np
import torch
from classical_baselines import BASELINES, tune
from comparison_data import Case, Data, Samples, pick
from comparison_networks import NETWORKS, AnySize, two_classes
from monai.optimizers import WarmupCosineSchedule
from monai.utils import instantiate
from torch import Tensor, nn
from torch.utils.data import DataLoader

from lightunet_monai.evaluation import score_case
from lightunet_monai.networks.profile import profile

WARM_UP_RUNS = 2
"""Iterations and cases at the start whose seconds do not count, where there are more."""

CURVE_POINTS = 200
"""Points of the loss that are kept; each is the mean of its share of the iterations."""

WATCHED_CASES = 8
"""Test cases with a lesion that the learning curve follows. Nothing is chosen from the curve."""


@dataclass(frozen=True)
class Budget:
    """The same for every network.

    Parameters
    ----------
    iterations : int
    batch : int
        Samples an iteration.
    seed : int
        Of the first weights and of the samples.
    watch : int
        How often, at even distances, the watched cases are scored during training.
    tune_cases : int
        Training cases with a lesion on which the settings of a classical baseline are chosen.
    widths_divisor : int
        By which the widths of every network are divided, so that a CPU is enough; 1 leaves them.
    """

    iterations: int
    batch: int
    seed: int
    watch: int
    tune_cases: int
    widths_divisor: int


@dataclass
class Run:
    """What one network or baseline gave on one fold; goes into results.json.

    Parameters
    ----------
    cases : list of dict
        Of each test case: name, group, Dice (None without a lesion), predicted pieces that touch no lesion.
    parameters, trainable, madd : int
        0 for a baseline.
    seconds_iteration, seconds_case : float
        Medians; without drawing samples and without preprocessing.
    voxels_iteration : int
        Labelled pixels or voxels of one batch.
    losses, watched : list of (iteration, value)
    note : str
    settings : dict
        Of a baseline, as chosen on the training cases.
    """

    cases: list[dict[str, Any]] = field(default_factory=list)
    parameters: int = 0
    trainable: int = 0
    madd: int = 0
    seconds_iteration: float | None = None
    seconds_case: float | None = None
    voxels_iteration: int = 0
    losses: list[tuple[int, float]] = field(default_factory=list)
    watched: list[tuple[int, float]] = field(default_factory=list)
    note: str = ""
    settings: dict[str, Any] = field(default_factory=dict)

    def to_json(self) -> dict[str, Any]:
        """Give JSON values."""
        return asdict(self)


def run_network(
    name: str,
    data: Data,
    cases: tuple[Sequence[Case], Sequence[Case]],
    budget: Budget,
    device: torch.device,
    workers: int = 0,
) -> Run:
    """Train one network of the table on the training cases and score the test cases with its last weights."""
    entry, (train_cases, test_cases) = NETWORKS[name], cases
    torch.manual_seed(budget.seed)
    network = entry.build(budget.widths_divisor)
    costs = profile(network, entry.profile_shape)
    run = Run(parameters=costs.parameters, madd=costs.madd, note=entry.note(network))
    run.trainable = sum(p.numel() for p in network.parameters() if p.requires_grad)
    network = AnySize(network).to(device)
    samples = Samples(
        train_cases,
        data.random_transform(entry.spatial_dims),
        budget.iterations * budget.batch,
        budget.seed,
        entry.spatial_dims,
    )
    watched = pick([case for case in test_cases if case.has_lesion], WATCHED_CASES)

    def watch() -> float | None:
        masks = [predict(network, data, case, entry.spatial_dims, device) for case in watched]
        scores = [score(case, mask)["dice"] for case, mask in zip(watched, masks, strict=True)]
        return float(np.mean(scores)) if scores else None

    _train(network, samples, data, budget, device, workers, run, watch)
    seconds = []
    for case in test_cases:
        start = _clock(device)
        mask = predict(network, data, case, entry.spatial_dims, device)
        seconds.append(_clock(device) - start)
        run.cases.append(score(case, mask))
    run.seconds_case = _median(seconds)
    return run


def run_baseline(name: str, cases: tuple[Sequence[Case], Sequence[Case]], budget: Budget) -> Run:
    """Choose the settings of one baseline on training cases and score the test cases."""
    baseline, (train_cases, test_cases) = BASELINES[name], cases
    chosen = pick([case for case in train_cases if case.has_lesion], budget.tune_cases)
    if not chosen:
        raise ValueError(f"{name}: no training case with a lesion to choose the settings on")
    settings, reached = tune(
        baseline, [case.image[0].numpy() for case in chosen], [case.label[0].numpy() > 0 for case in chosen]
    )
    run = Run(settings=settings, note=f"mean Dice {reached:.3f} on the {len(chosen)} cases it was tuned on")
    seconds = []
    for case in test_cases:
        start = time.perf_counter()
        mask = baseline.segment(case.image[0].numpy(), **settings)
        seconds.append(time.perf_counter() - start)
        run.cases.append(score(case, torch.from_numpy(mask)))
    run.seconds_case = _median(seconds)
    return run


def _train(
    network: nn.Module,
    samples: Samples,
    data: Data,
    budget: Budget,
    device: torch.device,
    workers: int,
    run: Run,
    watch: Callable[[], float | None],
) -> None:
    # The numbers are the bundle's; the loop is as plain as can be, and the same for every network.
    recipe = data.recipe
    loss_function = recipe.get_parsed_content("train#loss")
    largest_norm = recipe.get_parsed_content("max_gradient_norm")
    inferer = recipe.get_parsed_content("train#inferer")
    parameters = [p for p in network.parameters() if p.requires_grad]
    optimizer = instantiate(
        recipe["train#optimizer#_target_"],
        "default",
        params=parameters,
        lr=recipe.get_parsed_content("learning_rate"),
        weight_decay=recipe.get_parsed_content("weight_decay"),
    )
    schedule = WarmupCosineSchedule(
        optimizer,
        warmup_steps=min(recipe["warmup_steps"], budget.iterations // 10),
        t_total=budget.iterations,
        warmup_multiplier=recipe["train#lr_scheduler#warmup_multiplier"],
    )
    points = {math.ceil(budget.iterations * (i + 1) / budget.watch) for i in range(budget.watch)}
    losses, seconds = [], []
    for iteration, (image, label) in enumerate(
        DataLoader(samples, batch_size=budget.batch, num_workers=workers, pin_memory=device.type == "cuda"), start=1
    ):
        network.train()
        start = _clock(device)
        image, label = image.to(device), label.to(device)
        with torch.autocast(device.type, torch.bfloat16, enabled=device.type == "cuda"):
            logits = inferer(image, network)
        loss = loss_function(two_classes(logits.float()), label)
        optimizer.zero_grad(set_to_none=True)
        loss.backward()
        torch.nn.utils.clip_grad_norm_(parameters, largest_norm)
        optimizer.step()
        schedule.step()
        losses.append(float(loss.detach()))
        seconds.append(_clock(device) - start)
        run.voxels_iteration = label.numel()
        if iteration in points:
            dice = watch()
            run.watched += [] if dice is None else [(iteration, dice)]
    run.seconds_iteration = _median(seconds)
    run.losses = _thinned(losses)


def predict(network: nn.Module, data: Data, case: Case, spatial_dims: int, device: torch.device) -> Tensor:
    """Give the mask (*spatial) of a case: where the lesion is more probable than not."""
    network.eval()

    def answer(x: Tensor) -> Tensor:
        with torch.autocast(device.type, torch.bfloat16, enabled=device.type == "cuda"):
            logits = network(x)
        return two_classes(logits.float())

    with torch.inference_mode():
        logits = data.logits(case, answer, spatial_dims, device)
        return (logits[1] > logits[0]).cpu()


def score(case: Case, mask: Tensor) -> dict[str, Any]:
    """Score one test case as ``lightunet evaluate`` does."""
    found, expected = mask.numpy(), case.label[0].numpy() > 0
    if found.ndim == 2:
        found, expected = found[..., None], expected[..., None]
    scored = score_case(case.name, found, expected, case.voxel_ml)
    return {
        "name": case.name,
        "group": case.group,
        "dice": scored.dice if case.has_lesion else None,
        "false_positives": scored.false_positives,
    }


def _clock(device: torch.device) -> float:
    if device.type == "cuda":
        torch.cuda.synchronize(device)
    return time.perf_counter()


def _median(seconds: Sequence[float]) -> float:
    return statistics.median(seconds[WARM_UP_RUNS:] if len(seconds) > WARM_UP_RUNS else seconds)


def _thinned(losses: Sequence[float]) -> list[tuple[int, float]]:
    parts = np.array_split(np.asarray(losses), min(CURVE_POINTS, len(losses)))
    ends = np.cumsum([len(part) for part in parts])
    return [(int(end), float(part.mean())) for end, part in zip(ends, parts, strict=True)]
