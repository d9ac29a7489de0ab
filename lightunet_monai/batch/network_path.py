"""Does a folder lie on a network file system?"""

from __future__ import annotations

import re
from pathlib import Path

_KINDS = ("nfs", "cifs", "smb", "lustre", "gpfs", "ceph", "fuse.", "9p", "beegfs", "glusterfs")
_OCTAL = re.compile(r"\\([0-7]{3})")


def is_network_path(path: Path, mounts: Path = Path("/proc/mounts")) -> bool:
    """Say whether a folder lies on a network file system; False where the system does not tell."""
    try:
        lines = mounts.read_text(encoding="utf-8", errors="replace").splitlines()
    except OSError:
        return False
    place, best = str(path.resolve()), ("", "")
    for line in lines:
        _, point, kind, *_ = [*line.split(), "", "", ""]
        point = _OCTAL.sub(lambda found: chr(int(found[1], 8)), point)  # a space is written as \040
        if (place == point or place.startswith(point.rstrip("/") + "/")) and len(point) >= len(best[0]):
            best = (point, kind)
    return best[1].startswith(_KINDS)
