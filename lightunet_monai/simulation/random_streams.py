"""One independent stream of random numbers for every part of a case.

    streams = RandomStreams(seed=7)
    streams.part("breast").uniform(50.0, 160.0)

A part's numbers depend on the seed and on the part's name only, so a new part does not reshuffle the others.
"""

from __future__ import annotations

import zlib

import numpy as np


class RandomStreams:
    """Random generators named by part.

    Parameters
    ----------
    seed : int
        Not negative; the seed of the case.
    """

    def __init__(self, seed: int) -> None:
        self.seed = seed
        self._generators: dict[str, np.random.Generator] = {}

    def part(self, name: str) -> np.random.Generator:
        """Return the generator of one part, the same object at every call."""
        if name not in self._generators:
            sequence = np.random.SeedSequence([self.seed, zlib.crc32(name.encode())])
            self._generators[name] = np.random.Generator(np.random.PCG64(sequence))
        return self._generators[name]
