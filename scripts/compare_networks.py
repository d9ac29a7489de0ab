"""Networks and classical methods side by side: same data, same recipe, same budget.

    .venv/bin/python scripts/compare_networks.py --data ultrasound FOLDER -o OUT
    .venv/bin/python scripts/compare_networks.py --data simulated DATALIST [--test-data DATALIST] -o OUT
    .venv/bin/python scripts/compare_networks.py --data ultrasound FOLDER -o OUT --quick     a smoke run, minutes

Writes OUT/results.json, OUT/table.md and OUT/curves.png. What is finished is kept: the same command goes on after a
stop, and another list of --networks adds to the table. On CUDA in bfloat16. See docs/comparison.md.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import os
import sys
import warnings
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).parent))

import numpy as np
import torch
from classical_baselines import BASELINES
from comparison_data import IMAGE_FILES, VOLUME_FILES, Data, SimulatedData, UltrasoundData, recipe_hash
from comparison_networks import NETWORKS, MissingExtraError
from comparison_training import Budget, run_baseline, run_network

from lightunet_monai.errors import LightUNetError

SCHEMA = 1
RESAMPLES = 2000
"""Of the bootstrap."""

REFERENCE = "unet"
"""Ratios say how many times less than this network."""

FULL = {"iterations": 4000, "batch": 16, "size": 256, "watch": 8, "tune_cases": 24, "train_cases": None}
FULL["test_cases"] = None
QUICK = {"iterations": 3, "batch": 2, "size": 128, "watch": 1, "tune_cases": 3, "train_cases": 12, "test_cases": 6}
"""What an option is when it is not given; with --quick."""


def main(arguments: Sequence[str] | None = None) -> int:
    options = _parse(arguments)
    warnings.filterwarnings("ignore", message="Num foregrounds 0")  # a volume without a lesion: background is drawn
    try:
        return compare(options)
    except LightUNetError as error:
        print(f"error: {error.message} {error.hint or ''}".rstrip(), file=sys.stderr)
        return 2


def compare(options: argparse.Namespace) -> int:
    """Run what is not finished yet, one network and fold after another; write the results after each."""
    device = torch.device(options.device or ("cuda" if torch.cuda.is_available() else "cpu"))
    data = _open_data(options)
    folds = options.folds if options.folds is not None else data.folds[: 1 if options.quick else None]
    budget = Budget(
        options.iterations, options.batch, options.seed, options.watch, options.tune_cases, options.divide_widths
    )
    results = _open_results(options.output / "results.json", _recipe(options), _machine(device))
    for fold in folds:
        key = "all" if fold is None else str(fold)
        waiting = [name for name in options.networks if key not in results["runs"].get(name, {})]
        if not waiting:
            continue
        cases = data.split(fold, (options.train_cases, options.test_cases))
        print(f"fold {key}: {len(cases[0])} training cases, {len(cases[1])} test cases", flush=True)
        for name in waiting:
            if name in NETWORKS and NETWORKS[name].spatial_dims not in data.spatial_dims:
                print(f"  {name}: left out, these data have no third dimension")
                continue
            try:
                if name in NETWORKS:
                    run = run_network(name, data, cases, budget, device, options.workers)
                else:
                    run = run_baseline(name, cases, budget)
            except MissingExtraError as error:
                print(f"  {name}: left out: {error}")
                continue
            results["runs"].setdefault(name, {})[key] = run.to_json()
            _write(options.output, results, options.seed)
            pace = f"{run.seconds_iteration:.3g} s an iteration, " if run.seconds_iteration is not None else ""
            print(f"  {name}: done, {pace}{run.seconds_case:.3g} s a case. {run.note}".rstrip(), flush=True)
    if not results["runs"]:
        print("error: nothing was run.", file=sys.stderr)
        return 2
    _write(options.output, results, options.seed)
    print((options.output / "table.md").read_text(encoding="utf-8"))
    return 0


def _parse(arguments: Sequence[str] | None) -> argparse.Namespace:
    every = [*NETWORKS, *BASELINES]
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument(
        "--data", nargs=2, required=True, metavar=("KIND", "PATH"), help="simulated DATALIST, or ultrasound FOLDER"
    )
    parser.add_argument("--test-data", type=Path, metavar="DATALIST", help="test cases of 'simulated', another list")
    parser.add_argument("-o", "--output", type=Path, required=True, metavar="OUT", help="folder of the results")
    parser.add_argument(
        "--networks", type=lambda text: text.split(","), default=every, metavar="A,B", help=f"of {', '.join(every)}"
    )
    parser.add_argument(
        "--folds", type=lambda text: [int(k) for k in text.split(",")], metavar="0,1", help="(all of the data)"
    )
    for name, text in (
        ("iterations", "training iterations of each network"),
        ("batch", "samples an iteration"),
        ("size", "longest side of ultrasound images, pixels"),
        ("watch", "points of the learning curve"),
        ("tune-cases", "training cases the classical methods are tuned on"),
        ("train-cases", "at most so many training cases a fold"),
        ("test-cases", "at most so many test cases a fold"),
    ):
        full, quick = (values[name.replace("-", "_")] for values in (FULL, QUICK))
        parser.add_argument(
            f"--{name}", type=_positive, metavar="N", help=f"{text} ({full or 'all'}; --quick: {quick})"
        )
    parser.add_argument(
        "--divide-widths", type=_positive, default=1, metavar="N", help="divide all numbers of channels, for a CPU (1)"
    )
    parser.add_argument("--seed", type=int, default=0, metavar="N", help="of weights and samples (0)")
    parser.add_argument("--device", help="cpu, cuda or cuda:1")
    parser.add_argument("--workers", type=int, default=0, metavar="N", help="processes that draw samples (0)")
    parser.add_argument(
        "--quick", action="store_true", help="a smoke run: shows that all runs, says nothing of accuracy"
    )
    options = parser.parse_args(arguments)
    for name, value in (QUICK if options.quick else FULL).items():
        if getattr(options, name) is None:
            setattr(options, name, value)
    unknown = [name for name in options.networks if name not in every]
    if unknown:
        parser.error(f"option --networks: found {unknown[0]!r}, expected some of {', '.join(every)}")
    if options.data[0] not in ("simulated", "ultrasound"):
        parser.error(f"option --data: found {options.data[0]!r}, expected simulated or ultrasound")
    if options.test_data and options.data[0] != "simulated":
        parser.error("option --test-data: only for simulated data; the ultrasound images have folds")
    return options


def _positive(text: str) -> int:
    value = int(text)
    if value < 1:
        raise argparse.ArgumentTypeError(f"{value} found, at least 1 expected")
    return value


def _open_data(options: argparse.Namespace) -> Data:
    kind, path = options.data
    if kind == "simulated":
        return SimulatedData(Path(path), options.test_data, options.output / "cache" / recipe_hash(VOLUME_FILES))
    return UltrasoundData(Path(path), options.size)


def _recipe(options: argparse.Namespace) -> dict[str, Any]:
    # What must be the same for results to stand in one table.
    kind, path = options.data
    names = ("iterations", "batch", "seed", "watch", "tune_cases", "divide_widths", "train_cases", "test_cases")
    listed = [Path(path) / "index.csv" if kind == "ultrasound" else Path(path), options.test_data]
    recipe = {name: getattr(options, name) for name in names}
    if kind == "ultrasound":
        recipe["size"] = options.size
    content = b"".join(file.read_bytes() for file in listed if file is not None and file.is_file())
    bundle = recipe_hash(IMAGE_FILES if kind == "ultrasound" else VOLUME_FILES)
    return {"data": kind, "data_sha256": hashlib.sha256(content).hexdigest()[:16], "bundle": bundle, **recipe}


def _machine(device: torch.device) -> str:
    name = torch.cuda.get_device_name(device) if device.type == "cuda" else f"{torch.get_num_threads()} CPU threads"
    return f"{name}, torch {torch.__version__}, {'bfloat16' if device.type == 'cuda' else 'float32'}"


def _open_results(path: Path, recipe: dict[str, Any], machine: str) -> dict[str, Any]:
    if not path.exists():
        return {"schema": SCHEMA, "recipe": recipe, "machine": machine, "runs": {}}
    results: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
    for key, expected in {"schema": SCHEMA, "recipe": recipe, "machine": machine}.items():
        if results.get(key) != expected:
            raise LightUNetError(
                f"{path}: holds results of another run: {key} is {results.get(key)}, expected {expected}.",
                hint="Name another folder with -o, or repeat the options.",
            )
    return results


def _write(folder: Path, results: dict[str, Any], seed: int) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    order = [name for name in (*NETWORKS, *BASELINES) if name in results["runs"]]
    results["table"] = {name: summarize(results["runs"][name], seed) for name in order}
    _replace(folder / "table.md", format_table(results))
    draw_curves(results["runs"], folder / "curves.png")
    _replace(folder / "results.json", json.dumps(results, indent=1) + "\n")


def _replace(path: Path, text: str) -> None:
    part = path.with_name(f".part-{path.name}")
    part.write_text(text, encoding="utf-8")
    os.replace(part, path)


def summarize(runs: Mapping[str, Mapping[str, Any]], seed: int) -> dict[str, Any]:
    """One row of the table from the folds of one network: each test case counts once."""
    cases = [case for run in runs.values() for case in run["cases"]]
    first = next(iter(runs.values()))
    with_lesion = [case for case in cases if case["dice"] is not None]
    clean = [case["false_positives"] for case in cases if case["dice"] is None]
    row = {key: first[key] for key in ("parameters", "trainable", "madd", "voxels_iteration")}
    return {
        **row,
        "note": "; ".join(dict.fromkeys(run["note"] for run in runs.values() if run["note"])),
        "folds": sorted(runs),
        "lesion_cases": len(with_lesion),
        "dice": float(np.mean([case["dice"] for case in with_lesion])) if with_lesion else None,
        "dice_95": bootstrap(with_lesion, seed),
        "clean_cases": len(clean),
        "false_alarms": float(np.mean([count > 0 for count in clean])) if clean else None,
        "seconds_iteration": _mean_of(runs, "seconds_iteration"),
        "seconds_case": _mean_of(runs, "seconds_case"),
    }


def bootstrap(cases: Sequence[Mapping[str, Any]], seed: int) -> tuple[float, float] | None:
    """95 % interval of the mean Dice; near-duplicates, which share a group, are drawn together."""
    groups: dict[str, list[float]] = {}
    for case in cases:
        groups.setdefault(case["group"], []).append(case["dice"])
    if len(groups) < 2:
        return None
    sums, counts = (np.array([f(scores) for scores in groups.values()]) for f in (sum, len))
    drawn = np.random.default_rng(seed).integers(len(groups), size=(RESAMPLES, len(groups)))
    low, high = np.quantile(sums[drawn].sum(axis=1) / counts[drawn].sum(axis=1), [0.025, 0.975])
    return float(low), float(high)


def _mean_of(runs: Mapping[str, Mapping[str, Any]], key: str) -> float | None:
    values = [run[key] for run in runs.values() if run[key] is not None]
    return float(np.mean(values)) if values else None


def format_table(results: Mapping[str, Any]) -> str:
    """Give the Markdown table."""
    recipe, rows = results["recipe"], results["table"]
    base = rows.get(REFERENCE, {})
    counted = {(len(row["folds"]), row["lesion_cases"], row["clean_cases"]) for row in rows.values()}
    lines = [
        f"{recipe['data']}: {recipe['iterations']} iterations of {recipe['batch']} samples, seed {recipe['seed']}; "
        f"{_reductions(recipe)}{results['machine']}.",
        "",
        "| | Dice (95 % interval) | lesion cases | false alarms on clean cases | parameters | trained | "
        "multiply-adds, G | pixels an iteration | seconds an iteration | seconds a case |",
        "|---|---|---|---|---|---|---|---|---|---|",
    ]
    for name, row in rows.items():
        interval = f" ({row['dice_95'][0]:.3f}-{row['dice_95'][1]:.3f})" if row["dice_95"] else ""
        dice = "-" if row["dice"] is None else f"{row['dice']:.3f}{interval}"
        alarms = "-" if row["false_alarms"] is None else f"{row['false_alarms']:.0%} of {row['clean_cases']}"
        cells = [_title(name), dice, str(row["lesion_cases"]), alarms]
        for key, form, unit in (
            ("parameters", "{:,}", 1),
            ("trainable", "{:,}", 1),
            ("madd", "{:.1f}", 1e9),
            ("voxels_iteration", "{:,}", 1),
            ("seconds_iteration", "{:.3g}", 1),
            ("seconds_case", "{:.3g}", 1),
        ):
            cells.append(
                _cell(row[key], base.get(key), form, unit, compared=key not in ("trainable", "voxels_iteration"))
            )
        lines.append(f"| {' | '.join(cells)} |")
    lines += ["", "In brackets: how many times less than the plain U-Net."] if base else []
    if len(counted) > 1:
        lines += ["", "**The rows do not rest on the same cases yet: some folds are still missing.**"]
    lines += [f"\n{_title(name)}: {row['note']}." for name, row in rows.items() if row["note"]]
    return "\n".join(lines) + "\n"


def _reductions(recipe: Mapping[str, Any]) -> str:
    divisor = recipe["divide_widths"]
    fixed = [entry.title for entry in NETWORKS.values() if entry.has_fixed_widths]
    return f"numbers of channels divided by {divisor} (not of {', '.join(fixed)}); " if divisor > 1 else ""


def _cell(value: float | None, base: float | None, form: str, unit: float, *, compared: bool) -> str:
    if not value:
        return "-"
    ratio = f" ({base / value:.2f})" if base and compared else ""
    return form.format(value / unit if unit != 1 else value) + ratio


def _title(name: str) -> str:
    return NETWORKS[name].title if name in NETWORKS else BASELINES[name].title


def draw_curves(runs: Mapping[str, Mapping[str, Mapping[str, Any]]], path: Path) -> None:
    """Draw loss and Dice of the watched cases over the iterations, a line a network, the mean over its folds."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    figure = Figure(figsize=(10, 4), layout="constrained")
    canvas = FigureCanvasAgg(figure)
    left, right = figure.subplots(1, 2)
    for name, entry in NETWORKS.items():
        folds = list(runs.get(name, {}).values())
        for axes, key, marker in ((left, "losses", ""), (right, "watched", "o")):
            drawn = [fold[key] for fold in folds if fold[key]]  # a fold without a lesion has no Dice to follow
            if drawn:
                curves = np.array(drawn, dtype=float).mean(axis=0)
                axes.plot(curves[:, 0], curves[:, 1], marker=marker, label=entry.title)
    left.set(xlabel="iteration", ylabel="loss on the training samples")
    right.set(xlabel="iteration", ylabel="Dice of the watched test cases", ylim=(0, 1))
    if left.lines:
        left.legend(fontsize="small")
    part = path.with_name(f".part-{path.name}")
    canvas.print_png(part)
    os.replace(part, path)


if __name__ == "__main__":
    sys.exit(main())
