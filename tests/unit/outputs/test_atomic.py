import errno
import os
import shutil
import signal
import stat
import subprocess
import sys
import tempfile
import textwrap
from pathlib import Path

import pytest

from lightunet_monai.errors import OutputError
from lightunet_monai.outputs import atomic
from lightunet_monai.outputs.atomic import atomic_file, atomic_folder, check_folder

NAMES = ("labelmap.nii.gz", "findings.csv", "report.json")


def _fill(folder: Path, text: str, names: tuple[str, ...] = NAMES) -> None:
    for name in names:
        (folder / name).write_text(text)


def test_a_file_appears_when_the_block_ends(tmp_path: Path) -> None:
    target = tmp_path / "made" / "a.txt"
    with atomic_file(target) as part:
        part.write_text("new")
        assert not target.exists()
    assert target.read_text() == "new"
    assert os.listdir(target.parent) == ["a.txt"]


def test_an_error_in_the_block_leaves_the_old_file_and_nothing_else(tmp_path: Path) -> None:
    target = tmp_path / "a.txt"
    target.write_text("old")

    def write_half() -> None:
        with atomic_file(target) as part:
            part.write_text("half")
            raise RuntimeError("stop")

    with pytest.raises(RuntimeError, match="stop"):
        write_half()
    assert target.read_text() == "old"
    assert os.listdir(tmp_path) == ["a.txt"]


def test_a_file_that_cannot_be_written_is_an_output_error_with_a_hint(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(OutputError, match="cannot be written") as caught, atomic_file(tmp_path / "file" / "a.txt"):
        pass
    assert caught.value.reason == "not-writable"
    assert caught.value.hint


@pytest.mark.parametrize("is_new", [True, False])
def test_a_file_that_cannot_be_written_into_a_folder_is_named_as_it_would_be_called(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, is_new: bool
) -> None:
    folder = tmp_path / "case"
    if not is_new:
        folder.mkdir()

    def full(path: Path) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(atomic, "sync_file", full)
    with (
        pytest.raises(OutputError) as caught,
        atomic_folder(folder, NAMES) as room,
        atomic_file(room / "findings.json") as part,
    ):
        part.write_text("half")
    assert caught.value.message == f"{folder / 'findings.json'}: cannot be written: No space left on device."
    assert caught.value.reason == "not-writable"


def test_a_new_folder_appears_as_a_whole(tmp_path: Path) -> None:
    with atomic_folder(tmp_path / "case", NAMES) as room:
        _fill(room, "new")
        assert not (tmp_path / "case").exists()
    assert sorted(os.listdir(tmp_path / "case")) == sorted(NAMES)
    assert os.listdir(tmp_path) == ["case"]


def test_in_an_existing_folder_only_the_named_files_are_replaced(tmp_path: Path) -> None:
    _fill(tmp_path, "old")
    (tmp_path / "notes.txt").write_text("mine")
    with atomic_folder(tmp_path, NAMES) as room:
        _fill(room, "new", ("labelmap.nii.gz", "report.json"))
    assert (tmp_path / "labelmap.nii.gz").read_text() == "new"
    assert not (tmp_path / "findings.csv").exists()
    assert (tmp_path / "notes.txt").read_text() == "mine"


@pytest.mark.parametrize("content", ["nothing", "a result"])
def test_a_folder_on_another_file_system_is_written_into(tmp_path: Path, content: str) -> None:
    shared_memory = Path("/dev/shm")
    if not shared_memory.is_dir() or shared_memory.stat().st_dev == tmp_path.stat().st_dev:
        pytest.skip("there is no second file system")
    with tempfile.TemporaryDirectory(dir=shared_memory) as elsewhere:
        if content == "a result":
            _fill(Path(elsewhere), "old")
        (tmp_path / "case").symlink_to(elsewhere)

        check_folder(tmp_path / "case")
        with atomic_folder(tmp_path / "case", NAMES) as room:
            _fill(room, "new")

        assert {name: (Path(elsewhere) / name).read_text() for name in os.listdir(elsewhere)} == dict.fromkeys(
            NAMES, "new"
        )
        assert os.listdir(tmp_path) == ["case"]


def test_a_mount_point_is_written_into(tmp_path: Path) -> None:
    mount = ["unshare", "--mount", "sh", "-c", 'mount --bind "$0" "$0" && "$@"', str(tmp_path)]
    if shutil.which("unshare") is None or subprocess.run([*mount, "true"], capture_output=True, check=False).returncode:
        pytest.skip("mounting is not allowed here")
    program = textwrap.dedent(
        """
        import sys
        from pathlib import Path
        from lightunet_monai.outputs.atomic import atomic_folder, check_folder
        check_folder(Path(sys.argv[1]))
        with atomic_folder(Path(sys.argv[1]), ()) as room:
            (room / "report.json").write_text("new")
        """
    )
    subprocess.run([*mount, sys.executable, "-c", program, str(tmp_path)], check=True)
    assert {path.name: path.read_text() for path in tmp_path.iterdir()} == {"report.json": "new"}


@pytest.mark.parametrize("failing", range(6))
def test_a_failure_at_any_move_brings_the_old_result_back(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, failing: int
) -> None:
    folder = tmp_path / "case"
    folder.mkdir()
    _fill(folder, "old")
    calls = 0
    real = os.rename

    def rename(source: Path, target: Path) -> None:
        nonlocal calls
        calls += 1
        if calls == failing + 1:
            raise PermissionError(13, "file is open elsewhere")
        real(source, target)

    monkeypatch.setattr(atomic.os, "rename", rename)
    with pytest.raises(OutputError, match="file is open elsewhere"), atomic_folder(folder, NAMES) as room:
        _fill(room, "new")

    assert {name: (folder / name).read_text() for name in NAMES} == dict.fromkeys(NAMES, "old")
    assert os.listdir(tmp_path) == ["case"]


@pytest.mark.parametrize("lands", ["before the check", "after the check"])
def test_what_another_run_wrote_meanwhile_stays_if_it_is_to_be_refused(tmp_path: Path, lands: str) -> None:
    folder = tmp_path / "case"

    def other_run() -> None:
        folder.mkdir()
        _fill(folder, "theirs")

    def refuse() -> None:
        if folder.exists():
            raise OutputError("holds a result already")
        if lands == "after the check":
            other_run()

    def run() -> None:
        with atomic_folder(folder, NAMES, refuse=refuse) as room:
            _fill(room, "ours")
            if lands == "before the check":
                other_run()

    with pytest.raises(OutputError, match="holds a result"):
        run()
    assert {name: (folder / name).read_text() for name in NAMES} == dict.fromkeys(NAMES, "theirs")
    assert os.listdir(tmp_path) == ["case"]


def _fail_to_sync_folders(monkeypatch: pytest.MonkeyPatch, code: int) -> None:
    real = os.fsync

    def fsync(descriptor: int) -> None:
        if stat.S_ISDIR(os.fstat(descriptor).st_mode):
            raise OSError(code, os.strerror(code))
        real(descriptor)

    monkeypatch.setattr(atomic.os, "fsync", fsync)


@pytest.mark.skipif(os.name == "nt", reason="folders are not flushed")
@pytest.mark.parametrize("name", ["EINVAL", "EBADF", "ENOTSUP", "EOPNOTSUPP", "EACCES", "EPERM", "ENOSYS"])
def test_a_file_system_that_cannot_flush_a_folder_holds_results_all_the_same(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    _fail_to_sync_folders(monkeypatch, getattr(errno, name))
    with atomic_folder(tmp_path / "case", NAMES) as room:
        _fill(room, "new")
    with atomic_folder(tmp_path / "case", NAMES) as room:
        _fill(room, "newer")
    with atomic_file(tmp_path / "case" / "a.txt") as part:
        part.write_text("more")
    assert {path.name: path.read_text() for path in (tmp_path / "case").iterdir()} == {
        **dict.fromkeys(NAMES, "newer"),
        "a.txt": "more",
    }


@pytest.mark.skipif(os.name == "nt", reason="folders are not flushed")
@pytest.mark.parametrize("code", [errno.EIO, errno.ENOSPC])
def test_a_disk_that_fails_to_flush_a_folder_is_an_error(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, code: int
) -> None:
    _fail_to_sync_folders(monkeypatch, code)
    with pytest.raises(OutputError, match=os.strerror(code)), atomic_folder(tmp_path / "case", NAMES) as room:
        _fill(room, "new")
    assert os.listdir(tmp_path) == []


@pytest.mark.skipif(os.name == "nt", reason="kills a process")
def test_a_process_killed_while_writing_leaves_no_case_behind(tmp_path: Path) -> None:
    program = textwrap.dedent(
        f"""
        import time
        from pathlib import Path
        from lightunet_monai.outputs.atomic import atomic_folder
        with atomic_folder(Path({str(tmp_path / "case")!r}), ()) as room:
            (room / "report.json").write_text("half")
            print("ready", flush=True)
            time.sleep(60)
        """
    )
    with subprocess.Popen([sys.executable, "-c", program], stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == "ready\n"
        process.send_signal(signal.SIGKILL)
        process.wait(timeout=30)
    assert not (tmp_path / "case").exists()
    assert all(name.startswith(".") for name in os.listdir(tmp_path))


def test_a_file_in_the_place_of_the_folder_is_found_early(tmp_path: Path) -> None:
    (tmp_path / "case").write_text("")
    with pytest.raises(OutputError, match="is a file, expected a folder"):
        check_folder(tmp_path / "case")


def test_a_folder_that_cannot_be_made_is_found_early(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def mkdir(self: Path, *_: object, **__: object) -> None:
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(Path, "mkdir", mkdir)
    with pytest.raises(OutputError, match=r"new: cannot be written: Permission denied"):
        check_folder(tmp_path / "deep" / "new")


def test_checking_leaves_no_trace(tmp_path: Path) -> None:
    check_folder(tmp_path / "deep" / "new")
    assert os.listdir(tmp_path) == []
