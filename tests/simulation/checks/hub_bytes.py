"""The hub sends each byte once for all nodes when nothing goes wrong, and never much more than without any peers."""

from collections import Counter

from p2pmodel.content import chunk_size, chunks_covering

CALM = 1.02  # × what is wanted
LOST = 1.5  # × what all nodes want one by one: with faults some of it is read again


def check(world):
    sent = world.hub.bytes_sent
    bound = _calm(world) if world.plan.calm else _troubled(world)
    if sent > bound:
        yield f"the hub sent {sent} bytes, more than {bound:.0f}"


def _calm(world):
    """What a client read as a part, or gave up, is not shared: nobody says that he holds it once he has stopped."""
    jobs = world.plan.jobs
    private = sum(_own_read(world, outcome) for outcome in world.outcomes.values())
    return CALM * sum(world.wanted(jobs).values()) + private


def _own_read(world, outcome):
    job = outcome.job
    if outcome.given_up:
        return sum(world.wanted([job]).values())
    if job.path is None or job.stop - job.start == len(world.contents[job.path]):
        return 0
    size = len(world.contents[job.path])
    return sum(chunk_size(size, chunk) for chunk in chunks_covering(job.start, job.stop))


def _troubled(world):
    jobs_of = Counter()
    for node in range(world.plan.nodes):
        mine = [job for job in world.plan.jobs if job.node == node]
        jobs_of[node] = sum(world.wanted(mine).values())
    return LOST * jobs_of.total()
