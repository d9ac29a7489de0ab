"""Time and peak memory, ours beside others in the same run.

    .venv/bin/python scripts/benchmark.py all             everything; writes docs/benchmarks.md and its picture
    .venv/bin/python scripts/benchmark.py all --quick     the same with fewer and smaller cases (minutes)
    .venv/bin/python scripts/benchmark.py engines         one part: engines, windows, networks, scaling, resampling,
                                                          study, segment or start; prints its table

Each figure is the median of several runs after a warm-up; ways that are compared take turns, and one that takes
longer than half a minute runs once. nnU-Net takes part where it is installed (see docs/benchmarks.md). Machines
differ and share their cores: compare ratios. CPU seconds are those of all cores together, and depend less on
what else the machine does.
"""

from __future__ import annotations

import argparse
import os
import sys
import time
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent))

from benchmark_figures import SLOW_SECONDS, Measured, can_draw, draw

PARTS = {
    "engines": ("Engines", "network"),
    "windows": ("Windows: exact tiling beside MONAI's and nnU-Net's sliding windows", "network"),
    "networks": ("LightUNet beside the plain U-Net", "network"),
    "scaling": ("Time against tissue", "network"),
    "resampling": ("Before and after the network, beside MONAI's transforms", "study"),
    "study": ("A whole study, beside MONAI's transforms and sliding windows", "study"),
    "segment": ("The whole command, seconds by step", "study"),
    "start": ("Start", "study"),
}
"""Name of a part: its title, and the script that holds it."""

PAGE = Path(__file__).resolve().parents[1] / "docs" / "benchmarks.md"
PICTURE = "images/benchmarks.png"
"""Beside the page."""

BEGIN, END = "<!-- begin of what scripts/benchmark.py wrote -->", "<!-- end -->"


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("what", choices=("all", *PARTS, "child"), metavar="PART", help=f"all, {', '.join(PARTS)}")
    parser.add_argument("--quick", action="store_true", help="fewer and smaller cases")
    parser.add_argument("--runs", type=int, help="runs of each way (default: 3, with --quick 1)")
    parser.add_argument("--threads", type=int, default=os.cpu_count())
    parser.add_argument("--note", default="", help="a sentence for the page, such as what else the machine did")
    for name in ("--way", "--volume", "--spacing", "--labels"):
        parser.add_argument(name, help=argparse.SUPPRESS)
    parser.add_argument("--network", action="store_true", help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    arguments.runs = arguments.runs or (1 if arguments.quick else 3)
    if arguments.what == "child":
        import benchmark_study

        return benchmark_study.child(arguments)
    import torch

    torch.set_num_threads(arguments.threads)
    names = list(PARTS) if arguments.what == "all" else [arguments.what]
    done: dict[str, Measured] = {}
    begin = time.perf_counter()
    for name in names:
        part_begin = time.perf_counter()
        done[name] = _measure(name, arguments)
        now = time.perf_counter()
        print(_text(name, done[name]), end="\n\n")
        print(f"{name}: {now - part_begin:.0f} s, so far {(now - begin) / 60:.1f} minutes", end="\n\n", flush=True)
        if arguments.what == "all":  # after each part: a run that is stopped leaves what it measured
            _write_page(done, arguments, now - begin)
    return 0


def _measure(name: str, arguments: argparse.Namespace) -> Measured:
    import importlib

    measured: Measured = getattr(importlib.import_module(f"benchmark_{PARTS[name][1]}"), name)(arguments)
    return measured


def _text(name: str, measured: Measured) -> str:
    return "\n".join([f"## {PARTS[name][0]}", "", f"`scripts/benchmark.py {name}`", "", *measured.lines])


def _write_page(done: dict[str, Measured], arguments: argparse.Namespace, seconds: float) -> None:
    import importlib.metadata

    from benchmark_network import processor

    versions = ", ".join(
        f"{name} {importlib.metadata.version(name)}"
        for name in ("torch", "monai", "openvino", "onnxruntime", "nnunetv2")
        if _has(name)
    )
    how = f"Measured with `scripts/benchmark.py all{' --quick' if arguments.quick else ''}` on {processor()}, "
    how += f"{arguments.threads} threads, {versions}, in {seconds / 60:.0f} minutes. "
    how += "One run" if arguments.runs == 1 else f"Medians of {arguments.runs} runs"
    how += f" after a warm-up; a way whose first run takes longer than {SLOW_SECONDS:.0f} s, ours or not, runs once. "
    how = f"{how}{arguments.note}".rstrip()
    blocks = [how, *(_text(name, measured) for name, measured in done.items())]
    if can_draw(done):
        draw(done, PAGE.parent / PICTURE, arguments.threads)
        blocks.insert(1, f"![Seconds of each way over one volume, and of the network against tissue]({PICTURE})")
    text = "\n\n".join(blocks)
    page = PAGE.read_text(encoding="utf-8")
    before, after = page.split(BEGIN)[0], page.split(END)[1]
    PAGE.write_text(f"{before}{BEGIN}\n\n{text}\n\n{END}{after}", encoding="utf-8")


def _has(package: str) -> bool:
    import importlib.util

    return importlib.util.find_spec(package) is not None


if __name__ == "__main__":
    sys.exit(main())
