"""What the program and its decoder processes say to each other.

A request is a length (4 bytes), that many bytes of JSON, and the frame; an answer is a status byte, a
length (4 bytes), and the pixels (little endian, behind 4 bytes that name their type) or a message.
"""

from __future__ import annotations

OK, FAILED = b"K", b"F"
