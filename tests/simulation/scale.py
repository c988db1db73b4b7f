"""Import this before anything else of p2pmodel: in a simulation a mebibyte has 1 KiB, so a chunk has 4.

Every size that is cut from the mebibyte shrinks alike, so all thresholds keep their proportions while a chunk costs
microseconds instead of milliseconds. Counts, times and the wire's frames stay as they are.
"""

import sys

from p2pmodel import limits

SHRINK = 1024
_SIZES = ("MIB", "CHUNK_BYTES", "TWO_NAMES_BYTES_MAX", "SMALL_RANGE_BYTES", "LARGE_BLOB_BYTES", "XET_CHUNK_BYTES_MAX")

assert "p2pmodel.content" not in sys.modules, "the simulation needs a process of its own: python -m tests.simulation"
for _name in _SIZES:
    setattr(limits, _name, getattr(limits, _name) // SHRINK)
limits.XET_CHUNK_BYTES_MAX -= (
    28  # nothing in so little says where to cut, so all pieces have it: they are to reach across chunks
)
