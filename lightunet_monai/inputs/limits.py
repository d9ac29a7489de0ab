"""Bounds on what a file may ask of this machine: a study comes from outside and may be hostile.

Each bound is far above what real studies need, so that reaching one means a damaged or crafted file.
"""

from __future__ import annotations

MAX_FILES = 500_000
"""Files and archive members looked at in one discovery."""

MAX_HEADER_BYTES = 64 * 2**20
"""Header of one instance; an enhanced CT with 4000 frames needs about 16 MB."""

MAX_VALUE_BYTES = 64 * 2**10
"""One header value that is kept; the longest kept real one is an image type of some hundred bytes."""

MAX_NESTING = 32
"""Sequences within sequences; a structured report reaches about 12, an image 5."""

MAX_PLANE_SIDE = 8192
"""Rows or columns of one plane; the largest CT reconstructions have 4096."""

MAX_VOLUME_VOXELS = 2**31
"""Voxels of one volume: 4 GiB as int16, four times 1024 x 1024 x 512."""

MAX_FRAMES = 65_536
"""Frames of one instance."""

MAX_ARCHIVE_BYTES = 32 * 2**30
"""Unpacked size of one zip archive, as it declares it."""

MAX_MEMBER_BYTES = 4 * 2**30
"""Unpacked size of one archive member."""

MAX_ARCHIVE_RATIO = 200
"""Unpacked over packed size of a whole archive above `RATIO_MATTERS_BYTES`; CT packs about 2:1."""

RATIO_MATTERS_BYTES = 256 * 2**20
"""Below this unpacked size a high ratio does no harm."""

MAX_REPORT_BYTES = 16 * 2**20
"""A report of an earlier run; one with a hundred lesions has some 100 kB."""

MAX_INFLATED_EXTRA_BYTES = 2**20
"""What a deflated instance may hold after its header and pixels."""

MAX_IMAGE_PIXELS = 2**26
"""Pixels of one 2-D image: 8192 x 8192; the largest mammograms have 4096 x 5625."""

MIN_IMAGE_SIDE = 16
"""Rows or columns of one 2-D image; the network halves an image three times."""
