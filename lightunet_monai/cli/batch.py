"""``lightunet batch``: many studies, unattended; and ``lightunet batch status``: where such a run is."""

from __future__ import annotations

import argparse
import math
import os
import signal
import sys
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ..errors import UsageError
from . import DISCLAIMER
from .progress import print_event
from .run_options import add_run_options, number, run_options, study_path

if TYPE_CHECKING:
    from ..batch.driver import Progress
    from ..batch.ledger import CaseRow, Ledger
    from ..batch.pool import Pool
    from ..batch.task import WorkerPlan
    from ..batch.units import Shard, Unit

TELL_SECONDS = 2.0
SUMMARY_SECONDS = 60.0
"""A run that watches writes its summary this often, if something has changed."""

HIGHEST_PORT = 65535

CLUSTERS = ("local", "slurm", "kubernetes")


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the arguments of this subcommand."""
    parser.add_argument(
        "root",
        nargs="+",
        type=study_path,
        metavar="ROOT",
        help="folder of studies, a study, datalist (.json) or table (.csv with a column image); or: status OUT",
    )
    parser.add_argument("-o", "--output", type=Path, metavar="OUT", help="ledger, results, summary and logs")
    parser.add_argument("-f", "--formats", default="nifti", metavar="NAME,...", help="as in segment (nifti)")
    parser.add_argument("--depth", type=int, default=1, metavar="N", help="studies are N levels below ROOT (1)")
    parser.add_argument("--shard", default="1/1", metavar="I/N", help="only part I of N, for several machines")
    parser.add_argument("--dry-run", action="store_true", help="list what would be done, and end")
    parser.add_argument("--root", dest="where", type=Path, metavar="ROOT", help="status: say where failed cases lie")
    work = parser.add_argument_group("how the work is done")
    work.add_argument("--jobs", type=int, metavar="N", help="worker processes (one for each GPU or CPU core)")
    work.add_argument("--max-memory", type=_positive, metavar="MB", help="memory of all workers together")
    work.add_argument("--timeout", type=_positive, metavar="S", help="seconds of work on one case")
    work.add_argument("--retries", type=int, default=2, metavar="N", help="further attempts where one may help (2)")
    work.add_argument("--retry-failed", action="store_true", help="try again what an earlier run gave up")
    cluster = parser.add_argument_group("on a cluster (extra 'cluster')")
    cluster.add_argument("--scheduler", metavar="ADDRESS", help="of a running dask scheduler, such as tcp://host:8786")
    cluster.add_argument("--cluster", choices=CLUSTERS, help="start workers there; --jobs says how many")
    cluster.add_argument("--cluster-file", type=Path, metavar="FILE", help="kubernetes: YAML of the DaskCluster")
    watch = parser.add_argument_group("watching a folder")
    watch.add_argument("--watch", action="store_true", help="go on for ever: new studies are done when complete")
    watch.add_argument("--quiet", type=float, default=60.0, metavar="S", help="complete: unchanged for S seconds (60)")
    watch.add_argument("--interval", type=_positive, default=10.0, metavar="S", help="seconds between two looks (10)")
    watch.add_argument("--metrics-port", type=int, metavar="PORT", help="Prometheus metrics on 127.0.0.1:PORT")
    result = parser.add_argument_group("results")
    result.add_argument("--deidentify", action="store_true", help="DICOM results without their patients (PS3.15)")
    for flag in ("--deterministic-uids", "--keep-empty-frames", "--assume-hu", "--regularize"):
        result.add_argument(flag, action="store_true", help="as in segment")
    parser.add_argument(
        "--progress", choices=("auto", "bar", "json", "none"), default="auto", help="a line, or JSON lines for programs"
    )
    add_run_options(parser)


def run(arguments: argparse.Namespace) -> int:
    """Run a batch, list what it would do, or tell where one is."""
    if arguments.root[0] == Path("status") and len(arguments.root) == 2:
        return _status(arguments.root[1], arguments)
    if len(arguments.root) != 1:
        raise UsageError(f"found {len(arguments.root)} folders, expected one ROOT, or: status OUT.")
    (root,) = arguments.root
    if arguments.dry_run:
        return _list(root, arguments)
    if arguments.output is None:
        raise UsageError("option -o: found none, expected the folder of the results.")
    if os.name == "nt":
        raise UsageError("batch: found Windows, expected Linux or macOS.", hint="Use WSL, or 'segment' for each study.")
    if arguments.max_memory and not Path("/proc/self/statm").exists():
        raise UsageError("option --max-memory: found no /proc, from which the memory of processes is read.")
    return _Run(root, arguments).run()


class _Run:
    """One call of the command."""

    def __init__(self, root: Path, arguments: argparse.Namespace) -> None:
        self.root, self.arguments = root, arguments
        self.formats = _formats(arguments)
        _check_options(arguments)
        _check_model(arguments)
        self.options = run_options(arguments)
        self.shard = _shard(arguments)
        self.look = _look(root, arguments)
        if arguments.deidentify:
            from ..batch.deidentify import check_available

            check_available()
        self.line = _Line(arguments.progress)

    def run(self) -> int:
        from ..batch.driver import Batch, plan_folder
        from ..batch.feed import Watch
        from ..batch.journal import Journal, Metrics
        from ..batch.lease import Owner
        from ..batch.ledger import Ledger
        from ..batch.publish import remove_work
        from ..batch.summary import write_summary

        arguments = self.arguments
        self.look()  # a root that is not there ends it here
        out, owner = plan_folder(arguments.output), Owner.of_this_process()
        with Ledger(out, owner) as ledger:
            ledger.check_settings(_settings(arguments, self.formats))
            journal = Journal(out, owner.run)
            metrics = None if arguments.metrics_port is None else Metrics(arguments.metrics_port, os.getpid())
            pool = self._open_pool(self._plan(out, owner.run, ledger))
            summary = _NowAndThen(lambda: write_summary(ledger))

            def tell(event: str, facts: dict[str, Any]) -> None:
                self.line.note(event, facts)
                if event != "progress":
                    journal.write(event, facts)
                elif arguments.watch:
                    summary.perhaps(facts["state"].counts)
                if metrics is not None:
                    metrics.note(event, facts)

            watch = Watch(arguments.interval, arguments.quiet) if arguments.watch else None
            batch = Batch(
                self.look, ledger, pool, arguments.retries, arguments.retry_failed, watch, tell, self.shard.holds
            )
            journal.write("begin", {"run": owner.run, "metrics_port": metrics.port if metrics else None})
            try:
                state = batch.run(_stop_on_signals())
            finally:
                pool.close()
                remove_work(out, owner.run)
                if metrics is not None:
                    metrics.close()
                ledger.check_in_place()
                ledger.give_back()
                page = write_summary(ledger)
                journal.write("end", {"counts": ledger.counts()})
                journal.close()
        self.line.end(state)
        if arguments.progress == "json":
            print_event("done", summary=str(page), counts=state.counts)
        else:
            print(_said(state.counts))
            print(f"summary: {page}")
            print(DISCLAIMER)
        is_over = state.is_surveyed or arguments.watch
        left = state.counts["found"] + state.counts["running"]
        return 0 if is_over and not state.counts["failed"] + left else 1

    def _plan(self, out: Path, run: str, ledger: Ledger) -> WorkerPlan:
        import secrets

        from ..batch.settings import CaseSettings
        from ..batch.task import WorkerPlan

        arguments = self.arguments
        settings = CaseSettings(
            formats=self.formats,
            keep_empty_frames=arguments.keep_empty_frames,
            deterministic_uids=arguments.deterministic_uids,
            assume_hu=arguments.assume_hu,
            regularize=arguments.regularize,
        )
        return WorkerPlan(
            out,
            run,
            settings,
            bundle=arguments.bundle.resolve() if arguments.bundle else None,
            options=self.options,
            threshold=arguments.threshold,
            deidentify=ledger.setting("uid-secret", secrets.token_hex(32)) if arguments.deidentify else "",
            timeout=arguments.timeout or 0.0,
            model=arguments.model,
        )

    def _open_pool(self, plan: WorkerPlan) -> Pool:
        arguments = self.arguments
        if arguments.scheduler or arguments.cluster:
            return self._open_cluster(plan)
        from ..batch.control_groups import usable_cores
        from ..batch.pool import LocalPool, default_jobs

        cores = usable_cores()
        max_memory = int((arguments.max_memory or 0.0) * 1e6)
        jobs = arguments.jobs or default_jobs(cores, arguments.device, max_memory)
        threads = arguments.threads or max(1, cores // jobs)
        return LocalPool(
            plan,
            jobs=jobs,
            threads=threads,
            timeout=arguments.timeout or 0.0,
            max_memory=max_memory,
        )

    def _open_cluster(self, plan: WorkerPlan) -> Pool:
        from ..batch.cluster import open_cluster
        from ..batch.cluster_start import ClusterSettings

        arguments = self.arguments
        workers = arguments.jobs or 1
        settings = ClusterSettings(
            workers=workers,
            threads=arguments.threads or 1,
            memory_bytes=int((arguments.max_memory or 0.0) * 1e6 / workers),
            specification=arguments.cluster_file,
        )
        pool = open_cluster(arguments.scheduler or arguments.cluster, plan, settings)
        if pool.dashboard_link:
            print(f"dashboard: {pool.dashboard_link}", file=sys.stderr)
        return pool


def _settings(arguments: argparse.Namespace, formats: Sequence[str]) -> dict[str, Any]:
    """What changes a result: one output folder holds results of one kind."""
    return {
        "formats": sorted(formats),
        "model": _fingerprint(arguments.bundle, arguments.model),
        "threshold": arguments.threshold,
        "overlap": arguments.overlap,
        "assume-hu": arguments.assume_hu,
        "regularize": arguments.regularize,
        "keep-empty-frames": arguments.keep_empty_frames,
        "deterministic-uids": arguments.deterministic_uids,
        "deidentify": arguments.deidentify,
    }


def _formats(arguments: argparse.Namespace) -> tuple[str, ...]:
    """Names of the formats; refuses one that is unknown."""
    from ..outputs.formats import check_formats, choose_formats

    names = tuple(name.strip() for name in arguments.formats.split(",") if name.strip())
    check_formats(choose_formats(names), None)
    return names


def _check_options(arguments: argparse.Namespace) -> None:
    """Refuse values out of range, and options that would do nothing."""
    if arguments.scheduler and arguments.cluster:
        raise UsageError("options --scheduler and --cluster: found both, expected one of them.")
    if arguments.cluster_file and arguments.cluster != "kubernetes":
        raise UsageError("option --cluster-file: is for --cluster kubernetes alone.")
    if arguments.where is not None:
        raise UsageError("option --root: is for 'batch status OUT' alone.")
    port = arguments.metrics_port
    if port is not None and not 0 <= port <= HIGHEST_PORT:
        raise UsageError(f"option --metrics-port: found {port}, expected 1 to {HIGHEST_PORT}, or 0 for a free one.")
    if arguments.depth < 1:
        raise UsageError(f"option --depth: found {arguments.depth}, expected 1 or more.")
    if arguments.retries < 0 or (arguments.jobs is not None and arguments.jobs < 1) or not arguments.quiet >= 0:
        raise UsageError("options --jobs, --retries, --quiet: found a value below its least (1, 0, 0).")


def _check_model(arguments: argparse.Namespace) -> None:
    """Refuse a model that the bundle has not, and one for pictures."""
    if not arguments.model:
        return
    from ..inference.bundle_files import find_bundle, read_metadata, takes_pictures

    if takes_pictures(read_metadata(find_bundle(arguments.bundle)), arguments.model):
        raise UsageError(
            f"option --model: found {arguments.model}, which is for single 2-D images, expected a model for volumes.",
            hint="Use 'segment' for each image.",
        )


def _fingerprint(bundle: Path | None, model: str | None) -> str:
    """Name a model by its configuration and weights, wherever they lie."""
    import hashlib

    from ..inference.bundle_files import find_bundle, model_files

    digest = hashlib.sha256()
    for path in model_files(find_bundle(bundle), model):
        digest.update(path.read_bytes() if path.is_file() else b"")
    return digest.hexdigest()[:16]


def _look(root: Path, arguments: argparse.Namespace) -> Callable[[], Iterator[Unit]]:
    from ..batch.units import list_units

    shard = _shard(arguments)
    return lambda: list_units(root, depth=max(1, arguments.depth), shard=shard, out=arguments.output)


def _shard(arguments: argparse.Namespace) -> Shard:
    from ..batch.units import Shard

    first, separator, second = arguments.shard.partition("/")
    if not (separator and first.isdecimal() and second.isdecimal()):  # ² is a digit, and no number
        raise UsageError(f"option --shard: found {arguments.shard!r}, expected I/N such as 1/4.")
    return Shard(int(first), int(second))


def _list(root: Path, arguments: argparse.Namespace) -> int:
    from ..batch.preview import STATES, preview

    formats = _formats(arguments)
    _check_options(arguments)  # what the run would refuse as wrong use
    _check_model(arguments)
    counts = dict.fromkeys(STATES, 0)
    for case in preview(
        _look(root, arguments)(),
        arguments.output,
        lambda: _settings(arguments, formats),
        retry_failed=arguments.retry_failed,
        assume_hu=arguments.assume_hu,
        regularize=arguments.regularize,
    ):
        counts[case.state] += 1
        print(f"{case.state:<8} {case.key}  {case.path}  {case.why}".rstrip())
    print(_said(counts))
    return 0


def _status(out: Path, arguments: argparse.Namespace) -> int:
    from ..batch.ledger import Ledger

    places: dict[str, Unit] = {}
    if arguments.where is not None:
        places = {unit.place: unit for unit in _look(arguments.where, arguments)()}
    with Ledger(out) as ledger:
        counts = ledger.counts()
        shown = [row for row in ledger.cases() if row.state in ("running", "failed") and row.superseded_by is None]
        dead = ledger.dead_runs()
    # Nobody is at what a killed run had begun; the next run takes it back.
    cases = [row for row in shown if row.state == "failed" or row.run not in dead]
    counts["running"] -= len(shown) - len(cases)
    counts["found"] += len(shown) - len(cases)
    if arguments.progress == "json":
        rows = [
            {
                "case": row.key,
                "state": row.state,
                "attempts": row.attempts,
                "given_up": _is_given_up(row),
                "reason": row.reason,
                "message": row.message,
            }
            for row in cases
        ]
        print_event("status", counts=counts, cases=rows)
        return 0
    print(_said(counts))
    for row in cases:
        where = f"  {places[row.place].path}" if row.place in places else ""
        again = ", to be tried again" if row.state == "failed" and not _is_given_up(row) else ""
        print(f"{row.state:<8} {row.key}  attempt {row.attempts}{again}{where}  {row.message}")
    return 0


def _is_given_up(row: CaseRow) -> bool:
    """Whether a case is not tried again of itself."""
    return row.state == "failed" and row.final


def _said(counts: dict[str, int]) -> str:
    return ", ".join(f"{count} {state}" for state, count in counts.items() if count) or "no volume"


def _positive(text: str) -> float:
    value = number(text)
    if not 0 < value < math.inf:
        raise argparse.ArgumentTypeError(f"{text} is no finite number above 0")
    return value


def _stop_on_signals() -> threading.Event:
    """First signal: finish what has been begun. Second: end at once; the ledger takes the cases back."""
    stop = threading.Event()

    def on_signal(*_: object) -> None:
        if stop.is_set():
            raise KeyboardInterrupt
        stop.set()
        print("stopping after the cases that have been begun; once more ends at once", file=sys.stderr)

    for kind in (signal.SIGINT, signal.SIGTERM):
        signal.signal(kind, on_signal)
    return stop


class _Line:
    """Tells where a run is: one line that is rewritten, or JSON lines."""

    def __init__(self, kind: str) -> None:
        self.kind = ("bar" if sys.stderr.isatty() else "none") if kind == "auto" else kind
        self._last, self._told = 0.0, ""

    def note(self, event: str, facts: dict[str, Any]) -> None:
        if event == "progress":
            self._tell(facts["state"])
        elif self.kind == "json":
            print_event(event, **facts)

    def _tell(self, state: Progress) -> None:
        now = time.monotonic()
        told = _said(state.counts)
        if self.kind == "none" or told == self._told or now - self._last < TELL_SECONDS:
            return
        self._last, self._told = now, told
        left = state.seconds_left
        if self.kind == "json":
            seconds = None if left is None else round(left)
            print_event("progress", **state.counts, per_hour=round(state.per_hour, 1), seconds_left=seconds)
            return
        rest = "" if left is None else f", {left / 60:.0f} min left{'' if state.is_surveyed else ' of those found'}"
        print(f"\r{told}; {state.per_hour:.0f} an hour{rest}\033[K", file=sys.stderr, end="", flush=True)

    def end(self, state: Progress) -> None:
        if self.kind == "bar":
            print(f"\r{_said(state.counts)}; {state.per_hour:.0f} an hour\033[K", file=sys.stderr)


class _NowAndThen:
    """Does something when counts have changed, but not all the time."""

    def __init__(self, do: Callable[[], object]) -> None:
        self._do = do
        self._last = time.monotonic()
        self._counts: dict[str, int] = {}

    def perhaps(self, counts: dict[str, int]) -> None:
        if counts != self._counts and time.monotonic() - self._last >= SUMMARY_SECONDS:
            self._last, self._counts = time.monotonic(), dict(counts)
            self._do()
