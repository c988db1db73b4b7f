"""Delivery: a chunk's way from a source to a client. Use cases only: trio tasks and deadlines, nothing of the OS.

Begin with `ports`: what this room needs of the world and what it offers to the doors. `Delivery` is the front desk.
Behind it: `Catalog` (repo + revision + path → blob), `Downloads` (which blobs are on their way in), `Download` (one of
them: one `Swarm` to ask), `Lanes` (the tasks that fetch for it), `Arrivals` (a chunk's last steps), `Sealing` (the blob's own
hash, in order), `BlobReader` (a range for a client), `Fetch` (a whole snapshot), `Seeding` and `Herald` (answering and
telling peers).
Left to others: who is asked for which chunk (swarm), bytes on the wire (peering, upstream), bytes on the disk (store).
"""

from p2pmodel.delivery.buffers import Buffers
from p2pmodel.delivery.delivery import Delivery

__all__ = ["Buffers", "Delivery"]
