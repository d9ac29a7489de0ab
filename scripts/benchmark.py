"""Time and peak memory, ours beside others in the same run.

    .venv/bin/python scripts/benchmark.py all             everything; writes docs/benchmarks.md (an hour on two cores)
    .venv/bin/python scripts/benchmark.py all --quick     the same with fewer and smaller cases (minutes)
    .venv/bin/python scripts/benchmark.py engines         one part: engines, windows, networks, scaling, resampling,
                                                          study, segment or start; prints its table

Each figure is the median of several runs after a warm-up; ways that are compared take turns. Machines
differ and share their cores: compare ratios. CPU seconds are those of all cores together, and depend less on
what else the machine does.
"""

from __future__ import annotations

import argparse
import os
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent))

PARTS = {
    "engines": ("Engines", "network"),
    "windows": ("Windows: exact tiling beside MONAI's sliding windows", "network"),
    "networks": ("LightUNet beside the plain U-Net", "network"),
    "scaling": ("Time against tissue", "network"),
    "resampling": ("Before and after the network, beside MONAI's transforms", "study"),
    "study": ("A whole study, beside MONAI's transforms and sliding windows", "study"),
    "segment": ("The whole command, seconds by step", "study"),
    "start": ("Start", "study"),
}
"""Name of a part: its title, and the script that holds it."""

PAGE = Path(__file__).resolve().parents[1] / "docs" / "benchmarks.md"
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
    done: list[str] = []
    for name in names:
        done.append(_part(name, arguments))
        if arguments.what == "all":  # after each part: a run that is stopped leaves what it measured
            _write_page("\n\n".join(done), arguments)
    return 0


def _part(name: str, arguments: argparse.Namespace) -> str:
    import importlib

    title, script = PARTS[name]
    lines = getattr(importlib.import_module(f"benchmark_{script}"), name)(arguments)
    text = "\n".join([f"## {title}", "", f"`scripts/benchmark.py {name}`", "", *lines])
    print(text, end="\n\n", flush=True)
    return text


def _write_page(text: str, arguments: argparse.Namespace) -> None:
    import importlib.metadata

    from benchmark_network import processor

    versions = ", ".join(
        f"{name} {importlib.metadata.version(name)}"
        for name in ("torch", "monai", "openvino", "onnxruntime")
        if _has(name)
    )
    how = f"Measured with `scripts/benchmark.py all{' --quick' if arguments.quick else ''}` on {processor()}, "
    how += f"{arguments.threads} threads, {versions}; medians of {arguments.runs} runs. {arguments.note}".rstrip()
    page = PAGE.read_text(encoding="utf-8")
    before, after = page.split(BEGIN)[0], page.split(END)[1]
    PAGE.write_text(f"{before}{BEGIN}\n\n{how}\n\n{text}\n\n{END}{after}", encoding="utf-8")


def _has(package: str) -> bool:
    import importlib.util

    return importlib.util.find_spec(package) is not None


if __name__ == "__main__":
    sys.exit(main())
