"""When nothing goes wrong the hub sends each byte once for all nodes; with faults never much more than without any peers.

What a calm world may cost besides: a small range of a large file is read by whoever wants it, and of each body that is cut
off when its reader leaves, a chunk that is not complete.
"""

from p2pmodel.content import chunk_size, chunks_covering
from p2pmodel.limits import CHUNK_BYTES, SMALL_RANGE_BYTES
from p2pmodel.swarm import HUB_STREAMS

CALM = 1.02  # × what is wanted
TROUBLED = 1.5  # × what all nodes want one by one: what was lost is read again
DECEIVED = 3.0  # the same where a blob's hash turns out wrong: what others gave is read again, and in the end all of it


def check(world):
    sent, jobs = world.hub.bytes_sent, world.plan.jobs
    if world.plan.calm:
        bound = CALM * sum(world.wanted(jobs).values()) + sum(_besides(world, outcome) for outcome in world.outcomes.values())
    else:
        each = [world.wanted([job for job in jobs if job.node == node]) for node in range(world.plan.nodes)]
        factor = DECEIVED if world.plan.has("liar", "hub_corrupts") else TROUBLED
        bound = factor * sum(sum(wanted.values()) for wanted in each) + _in_vain(world)
    if sent > bound:
        yield f"the hub sent {sent} bytes, more than {bound:.0f}"


def _in_vain(world):
    """A full disk shows at the first write: what the lanes had read by then is read again when the client asks again."""
    tries = sum(outcome.errors["StoreFullError"] for outcome in world.outcomes.values())
    return tries * (HUB_STREAMS + 1) * CHUNK_BYTES  # and the lane for what is urgent


def _besides(world, outcome):
    job, cut_off = outcome.job, 0
    if outcome.given_up or not job.whole(world.plan):
        cut_off = HUB_STREAMS * CHUNK_BYTES * len(world.wanted([job]))
    if job.path is None or job.stop - job.start > SMALL_RANGE_BYTES:
        return cut_off
    size = world.plan.sizes[job.path]
    return cut_off + sum(chunk_size(size, chunk) for chunk in chunks_covering(job.start, job.stop))
