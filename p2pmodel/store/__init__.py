"""The node's disk: every blob one ordinary file, written at its chunks' offsets, sealed once its own hash was right.

`Store` is the port that delivery works through; `Store.open` gives a `DiskBlob`, one live object per blob. `Layout` says
where things lie and keeps a second daemon out, `Image` knows in memory what the files say, `Keeping` moves both together,
`Index` (SQLite) remembers what the files cannot say, a `Journal` which chunks of a partial blob are durable and who signed for
them, `CacheTree` shows sealed files as a Hugging Face cache, `export` hands them out. `FlightFiles` keeps the lines of the
flight recorder.
`MemoryStore` is the same port without a disk, for tests and simulations: it loses what was not committed when told to.

Left to others: which chunks to fetch, whose bytes to believe, the blob's own hash of what arrives (delivery), and when to
call `commit`. Nothing here hashes on the write path, or syncs on it.
"""

from p2pmodel.store.flights import FlightFiles
from p2pmodel.store.image import StoreStatistics
from p2pmodel.store.memory import MemoryStore
from p2pmodel.store.store import Store

__all__ = ["FlightFiles", "MemoryStore", "Store", "StoreStatistics"]
