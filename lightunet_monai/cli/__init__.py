"""The command line: one module a subcommand, each with ``add_arguments`` and ``run``.

Results and progress go to standard output, log lines to standard error. Exit codes: 0 all done, 1 a case failed,
2 wrong use.
"""

from __future__ import annotations

import argparse
import atexit
import contextlib
import gc
import importlib
import io
import logging
import os
import sys
from collections.abc import Sequence
from typing import NoReturn

from .. import __version__
from ..errors import LightUNetError, UsageError
from .progress import end_bar

COMMANDS = {
    "segment": "segment one study: label map, report and picture",
    "export": "write an edited label map as DICOM SEG, SR, RTSTRUCT and more, on its source",
    "batch": "segment many studies, unattended; a ledger survives any crash",
    "inspect": "show what is in a folder or file, and what the model is",
    "simulate": "make labelled breast CT volumes, NIfTI or DICOM",
    "datalist": "list volumes and label maps for training",
    "train": "train or fine-tune the model on labelled cases",
    "evaluate": "compare label maps with references: lesion and voxel figures",
    "calibrate": "fit the temperature and choose the operating threshold",
    "profile": "parameters, operations and memory of the networks",
}
"""Name of a subcommand, which is also its module here, and one line of help."""

QUICK_START = ("segment", "export")
"""Commands that never train: their process leaves out most of MONAI when it starts."""

RESEARCH_ONLY = "Research use only, not for diagnosis."
DISCLAIMER = f"{RESEARCH_ONLY} The shipped weights were trained on simulated breast CT volumes."


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command line.

    Parameters
    ----------
    argv : sequence of str, optional
        Arguments without the program's name; those of the process by default.

    Returns
    -------
    int
        Exit code.
    """
    _prepare_streams()
    parser = _parser()
    words = list(sys.argv[1:] if argv is None else argv)
    chosen = next((word for word in words if not word.startswith("-")), None)
    commands = parser.add_subparsers(dest="command", metavar="COMMAND", required=True)
    for name, summary in COMMANDS.items():
        sub = commands.add_parser(name, help=summary, description=summary[0].upper() + summary[1:] + ".")
        if name == chosen:  # only the chosen command's module is imported: --help stays quick
            module = importlib.import_module(f".{name.replace('-', '_')}", __name__)
            module.add_arguments(sub)
            sub.set_defaults(run=module.run)
    if argv is None and chosen in QUICK_START:  # the process is this command's alone
        gc.disable()  # imports make hundreds of thousands of objects that stay; `segment` turns it on again
        importlib.import_module("..inference.startup", __name__).quicken_monai()
    arguments = parser.parse_args(words)
    logging.basicConfig(
        stream=sys.stderr,
        level=logging.DEBUG if arguments.verbose else logging.WARNING,
        format="%(levelname)s %(message)s",
    )
    try:
        return int(arguments.run(arguments))
    except LightUNetError as error:
        print_error(error)
        return 2 if isinstance(error, UsageError) else 1
    except KeyboardInterrupt:
        end_bar()
        print("stopped", file=sys.stderr)
        return 130
    except BrokenPipeError:
        return 1


def _prepare_streams() -> None:
    """Give a stream that the caller closed an empty one; what cannot be encoded is printed with escapes, as in JSON."""
    for name, mode in (("stdin", "r"), ("stdout", "w"), ("stderr", "w")):
        if getattr(sys, name) is None:
            setattr(sys, name, open(os.devnull, mode, encoding="utf-8"))  # noqa: SIM115 (as long as the process)
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="backslashreplace")


def run_process() -> NoReturn:
    """Run the command line as this process, and end the process.

    Taking PyTorch's objects apart one by one at the end costs half a second that the user waits for: what must be done
    is done (functions registered with `atexit`, output written), and the rest is left to the operating system.
    """
    try:
        code = main()
    except SystemExit as error:  # argparse: wrong use, --help, --version
        if error.code and not isinstance(error.code, int):
            print(error.code, file=sys.stderr)
        code = error.code if isinstance(error.code, int) else int(bool(error.code))
    code = _flush_output(code)
    if set(sys.argv[1:]).isdisjoint(QUICK_START):
        sys.exit(code)
    atexit._run_exitfuncs()
    for stream in (sys.stdout, sys.stderr):
        with contextlib.suppress(OSError, ValueError):  # whoever read it is gone
            stream.flush()
    os._exit(code)


def _flush_output(code: int) -> int:
    """Write what is still buffered, and give the exit code: Python would report a closed pipe as 120, with a trace."""
    try:
        sys.stdout.flush()
    except OSError as error:
        is_closed_pipe = isinstance(error, BrokenPipeError)  # such as that of `head`, which has read enough
        if not is_closed_pipe:
            print(f"error: standard output cannot be written: {error.strerror}.", file=sys.stderr)
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())  # the interpreter flushes again
        return code if is_closed_pipe else code or 1
    return code


def print_error(error: LightUNetError) -> None:
    """Write an error as one line, with its hint, to standard error."""
    end_bar()
    print(f"error: {' '.join(str(error).split())}", file=sys.stderr)


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="lightunet", description=f"Tumour label maps of breast CT volumes. {DISCLAIMER}"
    )
    parser.add_argument("--version", action="version", version=f"lightunet {__version__}")
    parser.add_argument("-v", "--verbose", action="store_true", help="log what is going on to standard error")
    return parser
