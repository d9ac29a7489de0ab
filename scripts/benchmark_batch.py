"""A night's work in small: many studies, bad ones among them, one by one, in a batch, and in a batch that is killed.

    .venv/bin/python scripts/benchmark_batch.py WORK                100 simulated studies and 24 bad ones, made in WORK
    .venv/bin/python scripts/benchmark_batch.py WORK --bad FOLDER   the bad ones from a folder of hard studies
    .venv/bin/python scripts/benchmark_batch.py WORK --studies 12 --kills 4     smaller

Compares `lightunet batch` with running `lightunet segment` one study after the other (on `--alone` of them) and
watches the memory of all processes. Then runs are killed (kill -9 of the run or of a worker, at random moments), the
last one is left alone, and every label map is compared bit by bit with the undisturbed run. Prints a table.
"""

from __future__ import annotations

import argparse
import hashlib
import os
import random
import shutil
import signal
import statistics
import subprocess
import sys
import time
from pathlib import Path

from lightunet_monai.batch.ledger import Ledger
from lightunet_monai.batch.memory import resident_bytes

LIGHTUNET = [sys.executable, "-m", "lightunet_monai"]
BAD_STUDIES = 24
LIMIT = 200


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("work", type=Path)
    parser.add_argument("--studies", type=int, default=100)
    parser.add_argument("--size", type=int, default=96, help="most voxels along an axis of a study")
    parser.add_argument("--bad", type=Path, help="folder of studies that must be refused or survive")
    parser.add_argument("--alone", type=int, default=10, help="studies that are also done one by one")
    parser.add_argument("--kills", type=int, default=20)
    parser.add_argument("--jobs", type=int)
    arguments = parser.parse_args()

    root = make_studies(arguments)
    jobs = ["--jobs", str(arguments.jobs)] if arguments.jobs else []
    good = sorted(root.glob("good_*"))
    alone = time_alone(good[:: max(1, len(good) // arguments.alone)][: arguments.alone], arguments.work / "alone")
    seconds, memory = time_batch(root, arguments.work / "batch", jobs)
    with Ledger(arguments.work / "batch") as ledger:
        counts = ledger.counts()
    print(f"cases: {counts}")
    print("| way | cases | seconds a case | times faster |\n|---|---|---|---|")
    mean = statistics.mean(alone)
    print(f"| `lightunet segment`, one by one | {len(alone)} | {mean:.2f} | 1.0 |")
    each = seconds / counts["done"]  # the refused ones cost time too, and are not counted
    print(f"| `lightunet batch` | {counts['done']} | {each:.2f} | {mean / each:.1f} |")
    quarter = max(1, len(memory) // 4)
    first, last = statistics.median(memory[quarter : 2 * quarter]), statistics.median(memory[-quarter:])
    print(
        f"memory of all processes: peak {max(memory) >> 20} MB; median of the second quarter {int(first) >> 20} MB, "
        f"of the last {int(last) >> 20} MB"
    )
    killed, rounds = kill_until_done(root, arguments.work / "killed", jobs, arguments.kills, seconds)
    undisturbed, disturbed = label_maps(arguments.work / "batch"), label_maps(arguments.work / "killed")
    with Ledger(arguments.work / "killed") as ledger:
        again = ledger.counts()
        segmented = [line for line in ledger.audit_lines() if '"segmented"' in line]
    print(f"killed {killed} times in {rounds} runs: {again}")
    print(
        f"lost {len(undisturbed.keys() - disturbed.keys())}, doubled {len(segmented) - again['done']}, label maps that"
    )
    print(f"differ {sum(disturbed.get(key) != value for key, value in undisturbed.items())} of {len(undisturbed)}")
    return 0 if undisturbed == disturbed and counts == again else 1


def make_studies(arguments: argparse.Namespace) -> Path:
    """Simulated DICOM studies, and bad ones among them."""
    root = arguments.work / "studies"
    if root.exists():
        return root
    part = arguments.work / "simulated"
    command = ["simulate", "-n", str(arguments.studies), "--seed", "77", "--size", str(arguments.size)]
    subprocess.run([*LIGHTUNET, *command, "--format", "dicom", "--jobs", "2", "--quiet", "-o", str(part)], check=True)
    making = arguments.work / "making"
    shutil.rmtree(making, ignore_errors=True)
    making.mkdir()
    for number, study in enumerate(sorted((part / "images").iterdir())):
        shutil.copytree(study, making / f"good_{number:03d}")
    if arguments.bad:
        for number, study in enumerate(sorted(arguments.bad.iterdir())):
            copy = shutil.copytree if study.is_dir() else shutil.copy
            copy(study, making / f"bad_{number:03d}_{study.name}")
    else:
        for number in range(BAD_STUDIES):
            spoil(making / "good_000", making / f"bad_{number:03d}", number)
    os.rename(making, root)
    return root


def spoil(good: Path, bad: Path, number: int) -> None:
    """Copy a study and take away what makes it one."""
    shutil.copytree(good, bad)
    files = sorted(path for path in bad.rglob("*") if path.is_file())
    match number % 4:
        case 0:  # a gap
            files[len(files) // 2 + number // 4].unlink()
        case 1:  # a slice cut off in its pixels
            damaged = files[len(files) // 3 + number // 4]
            damaged.write_bytes(damaged.read_bytes()[: 2000 + number])
        case 2:  # no DICOM at all
            for path in files:
                path.write_bytes(b"no image" * number)
        case 3:  # half the slices, every other one from elsewhere
            for path in files[1 + number // 4 :: 2]:
                path.unlink()


def time_alone(studies: list[Path], out: Path) -> list[float]:
    """Seconds of the whole command for each study; the first is a warm-up."""
    shutil.rmtree(out, ignore_errors=True)
    seconds = []
    for index, study in enumerate([studies[0], *studies]):
        start = time.perf_counter()
        command = [*LIGHTUNET, "segment", str(study), "-o", str(out / f"{index}"), "--progress", "none"]
        subprocess.run(command, check=True, capture_output=True)
        seconds.append(time.perf_counter() - start)
    return seconds[1:]


def time_batch(root: Path, out: Path, more: list[str]) -> tuple[float, list[int]]:
    """Seconds of an undisturbed run, and the resident memory of its processes over time."""
    shutil.rmtree(out, ignore_errors=True)
    start, memory = time.perf_counter(), []
    process = start_batch(root, out, more)
    while process.poll() is None:
        memory.append(resident_bytes(process.pid))
        time.sleep(0.5)
    return time.perf_counter() - start, memory


def start_batch(root: Path, out: Path, more: list[str]) -> subprocess.Popen[bytes]:
    command = [*LIGHTUNET, "batch", str(root), "-o", str(out), "--progress", "none", *more]
    return subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)


def kill_until_done(root: Path, out: Path, more: list[str], kills: int, seconds: float) -> tuple[int, int]:
    """Kill runs and workers at random moments, so often; then let one come to its end."""
    shutil.rmtree(out, ignore_errors=True)
    moments, killed, rounds = random.Random(11), 0, 0
    while killed < kills and rounds < LIMIT:
        rounds += 1
        process = start_batch(root, out, more)
        time.sleep(moments.uniform(1.0, max(8.0, seconds / kills * 2)))
        workers = [pid for pid in children(process.pid)]
        if workers and moments.random() < 0.5:
            os.kill(moments.choice(workers), signal.SIGKILL)
            killed += 1
            time.sleep(moments.uniform(0.5, 6.0))
        if process.poll() is None:
            process.kill()
            killed += 1
        process.wait()
    start_batch(root, out, more).wait()
    return killed, rounds


def children(pid: int) -> list[int]:
    try:
        return [int(word) for word in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()]
    except OSError:
        return []


def label_maps(out: Path) -> dict[str, str]:
    return {
        path.parent.name: hashlib.sha256(path.read_bytes()).hexdigest()
        for path in (out / "cases").glob("*/labelmap.nii.gz")
    }


if __name__ == "__main__":
    sys.exit(main())
