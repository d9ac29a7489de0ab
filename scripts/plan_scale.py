"""How many studies an hour N workers do, and what holds them back: a simulation with measured step times.

    .venv/bin/python scripts/plan_scale.py                                   the table of docs/scale.md
    .venv/bin/python scripts/plan_scale.py --infer 1.0 --storage 5000        a GPU at 1 s, storage of 5 GB/s
    .venv/bin/python scripts/plan_scale.py --workers 8 --price 2.5           8 workers at 2.50 an hour each

Each worker reads, computes and writes with one case in each stage at a time, as `lightunet batch` does. All of them
share the bandwidth of the storage; the ledger takes one short transaction after the other. Times vary from study to
study by a log-normal factor, and a worker is away for --restart seconds after --mtbf hours on average.
"""

from __future__ import annotations

import argparse
import heapq
import math
import random
import sys
from dataclasses import dataclass

WORKERS = (1, 2, 4, 8, 16, 32, 64, 128, 256, 512, 1000)


@dataclass
class Plan:
    decode: float
    infer: float
    finish: float
    read_mb: float
    write_mb: float
    storage: float
    ledger: float
    spread: float
    mtbf: float
    restart: float
    seed: int


@dataclass
class Figures:
    per_hour: float
    busy: float
    storage: float
    ledger: float

    @property
    def limit(self) -> str:
        shares = {"workers": self.busy, "storage": self.storage, "ledger": self.ledger}
        return max(shares, key=lambda name: shares[name])


def simulate(workers: int, plan: Plan, studies_each: int = 40) -> Figures:
    """Run ``workers`` x ``studies_each`` studies; the first fifth is warm-up and not counted."""
    draws = random.Random(plan.seed)
    storage = ledger = 0.0  # when each is free again
    read_free, infer_free, write_free = ([0.0] * workers for _ in range(3))
    down = [draws.expovariate(1 / (plan.mtbf * 3600)) for _ in range(workers)]
    total = workers * studies_each
    ends, work = [], 0.0
    queue = [(0.0, worker) for worker in range(workers)]
    heapq.heapify(queue)
    storage_busy = ledger_busy = 0.0
    for _ in range(total):
        now, worker = heapq.heappop(queue)
        factor = draws.lognormvariate(-(plan.spread**2) / 2, plan.spread)
        if now > down[worker]:  # it died: what it had is done again later, by whoever is free
            now = down[worker] + plan.restart
            down[worker] = now + draws.expovariate(1 / (plan.mtbf * 3600))
        ledger = max(ledger, now) + plan.ledger
        begin = max(read_free[worker], ledger)
        moved = plan.read_mb * factor / plan.storage
        storage = max(storage, begin) + moved  # first come, first served: the sum of all is what counts
        loaded = max(storage, begin + moved) + plan.decode * factor
        read_free[worker] = loaded
        computed = max(loaded, infer_free[worker]) + plan.infer * factor
        infer_free[worker] = computed
        storage = max(storage, begin) + plan.write_mb / plan.storage
        end = max(computed, write_free[worker]) + plan.finish * factor + plan.write_mb / plan.storage
        write_free[worker] = end
        ledger_busy += 2 * plan.ledger
        storage_busy += moved + plan.write_mb / plan.storage
        work += plan.infer * factor
        ends.append(end)
        heapq.heappush(queue, (max(loaded, computed - plan.infer * factor), worker))
    ends.sort()
    first = total // 5
    span = ends[-1] - ends[first]
    share = (total - first) / total
    return Figures(
        per_hour=3600.0 * (total - first - 1) / span,
        busy=min(1.0, work * share / (span * workers)),
        storage=min(1.0, storage_busy * share / span),
        ledger=min(1.0, ledger_busy * share / span),
    )


def _number(text: str) -> float:
    value = float(text)
    if not 0.0 <= value < math.inf:
        raise argparse.ArgumentTypeError(f"{text} found, a finite number of 0 or more expected")
    return value


def _positive(text: str) -> float:
    value = _number(text)
    if value == 0.0:
        raise argparse.ArgumentTypeError(f"{text} found, a number above 0 expected")
    return value


def _workers(text: str) -> int:
    value = int(text)
    if value < 1:
        raise argparse.ArgumentTypeError(f"{value} found, at least 1 expected")
    return value


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--decode", type=_number, default=0.5, help="seconds: reading from memory, decoding, checks")
    parser.add_argument("--infer", type=_number, default=1.0, help="seconds: resampling, network, restoring")
    parser.add_argument("--finish", type=_positive, default=1.5, help="seconds: measuring, picture, writing")
    parser.add_argument("--read-mb", type=_number, default=168.0, help="of a study (512 x 512 x 320, uncompressed)")
    parser.add_argument("--write-mb", type=_number, default=2.0, help="of its results")
    parser.add_argument("--storage", type=_positive, default=2000.0, help="MB a second, of all workers together")
    parser.add_argument("--ledger", type=_number, default=0.003, help="seconds of one flushed transaction")
    parser.add_argument("--spread", type=_number, default=0.4, help="log-normal spread of the size of studies")
    parser.add_argument("--mtbf", type=_positive, default=200.0, help="hours between two losses of a worker")
    parser.add_argument("--restart", type=_number, default=60.0, help="seconds until it is back")
    parser.add_argument("--price", type=_number, default=0.0, help="of a worker an hour; adds a column")
    parser.add_argument("--workers", type=_workers, nargs="+", default=list(WORKERS))
    parser.add_argument("--seed", type=int, default=0)
    arguments = parser.parse_args()
    fields = {name: getattr(arguments, name) for name in Plan.__dataclass_fields__}
    plan = Plan(**fields)
    alone = simulate(1, plan, 2000).per_hour
    price = " price a study |" if arguments.price else ""
    print(f"| workers | studies an hour | of ideal | computing | storage | ledger | held back by |{price}")
    print("|---|---|---|---|---|---|---|" + ("---|" if price else ""))
    for workers in arguments.workers:
        found = simulate(workers, plan)
        cost = f" {workers * arguments.price / found.per_hour:.4f} |" if price else ""
        per_hour = math.floor(found.per_hour + 0.5)
        print(
            f"| {workers} | {per_hour} | {found.per_hour / (workers * alone):.0%} | {found.busy:.0%} "
            f"| {found.storage:.0%} | {found.ledger:.0%} | {found.limit} |{cost}"
        )
    return 0


if __name__ == "__main__":
    sys.exit(main())
