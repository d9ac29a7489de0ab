"""A PACS takes our objects over C-STORE and STOW-RS and gives them back unchanged."""

import json
import shlex
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from lightunet_monai.outputs import FORMATS, write_case
from tests.builders.segmentation import make_case

PLUGIN = Path("/usr/share/orthanc/plugins/libOrthancDicomWeb.so")
SESSION = Path(__file__).parents[1] / "builders" / "orthanc_session.py"


def _namespace() -> list[str]:
    """A command that runs another one in a network of its own; the test is skipped where that is not allowed."""
    for command in (["unshare", "--net"], ["unshare", "--map-root-user", "--net"]):
        if shutil.which("unshare") and shutil.which("ip"):
            probe = [*command, "ip", "link", "set", "lo", "up"]
            if subprocess.run(probe, capture_output=True, check=False).returncode == 0:
                return command
    pytest.skip("network namespaces are not allowed here")


@pytest.mark.parametrize("source", ["jpeg-ls", "multi-frame"])
def test_orthanc_stores_every_object_and_gives_it_back_unchanged(tmp_path: Path, source: str) -> None:
    pytest.importorskip("pynetdicom")
    pytest.importorskip("dicomweb_client")
    if shutil.which("Orthanc") is None or not PLUGIN.exists():
        pytest.skip("Orthanc with DICOMweb is not installed; scripts/setup_test_tools.sh installs it")
    namespace = _namespace()
    case = make_case(tmp_path, source)
    formats = [name for name, item in FORMATS.items() if item.needs_series]
    folder = tmp_path / "objects"
    write_case(folder, case.segmentation, formats=formats, volume=case.volume_hu)
    for number, path in enumerate(sorted(case.folder.iterdir())):
        shutil.copy(path, folder / f"source{number:03d}.dcm")

    client = f"ip link set lo up && exec {shlex.join([sys.executable, str(SESSION), str(folder)])}"
    done = subprocess.run([*namespace, "sh", "-c", client], capture_output=True, text=True, timeout=180, check=False)

    assert done.returncode == 0, done.stdout + done.stderr
    result = json.loads(done.stdout.splitlines()[-1])
    assert result["c_store"] == [0] * result["count"]
    assert result["changed_after_c_store"] == []
    assert result["modalities"] == ["CT", "RTSTRUCT", "SEG", "SR"]
    assert result["stow_failures"] == 0
    assert result["changed_after_stow"] == []
