"""What can go wrong: each a context that the world enters when the fault begins and leaves when it is over."""

from contextlib import ExitStack, asynccontextmanager, contextmanager

SLOWER = 30


@contextmanager
def _set(target, name, value):
    setattr(target, name, value)
    yield
    setattr(target, name, type(value)())  # what it was: False or 0


def _on_hub(name, value):
    @asynccontextmanager
    async def fault(world, _fault):
        with _set(world.hub, name, value):
            yield

    return fault


@asynccontextmanager
async def hub_corrupts(world, fault):
    """A mirror flips a bit in the first answer for some chunks."""
    for content, count in world.chunks_drawn(fault, 3):
        world.hub.corrupt[content, count] = 1
    yield


@asynccontextmanager
async def crash(world, fault):
    """kill -9, and a start some time later."""
    [node] = world.named(fault)
    await node.crash()
    yield
    node.restart()


@asynccontextmanager
async def cut(world, fault):
    one, other = world.named(fault)
    world.network.cut(one.host, other.host)
    yield
    world.network.heal(one.host, other.host)


@asynccontextmanager
async def silence(world, fault):
    """Packets are lost and nobody is told."""
    one, other = world.named(fault)
    world.network.silence(one.host, other.host)
    yield
    world.network.heal(one.host, other.host)


@asynccontextmanager
async def alone(world, fault):
    """Partitioned from all peers; the hub is there."""
    [node] = world.named(fault)
    for other in world.others(node):
        world.network.silence(node.host, other.host)
    yield
    for other in world.others(node):
        world.network.heal(node.host, other.host)


@asynccontextmanager
async def asleep(world, fault):
    """What SIGSTOP looks like from outside: nothing leaves the node, nothing reaches it, its connections stand."""
    [node] = world.named(fault)
    async with alone(world, fault):
        with _set(node.upstreams, "cut", True):
            yield


@asynccontextmanager
async def no_hub(world, fault):
    [node] = world.named(fault)
    with _set(node.upstreams, "cut", True):
        yield


@asynccontextmanager
async def shut(world, fault):
    """A firewall lets nobody in; the links that stand are left alone."""
    [node] = world.named(fault)
    with _set(node.cable, "shut", True):
        yield


@asynccontextmanager
async def slow(world, fault):
    """A cable that gives a thirtieth of what the others give."""
    [node] = world.named(fault)
    lines = (node.cable.uplink, node.cable.downlink)
    for line in lines:
        line.rate /= SLOWER
    yield
    for line in lines:
        line.rate *= SLOWER


@asynccontextmanager
async def liar(world, fault):
    """Give false bytes with the digest of the false bytes, signed, as those do who mean it. Several cover each other."""
    with ExitStack() as lying:
        for node in world.named(fault):
            lying.enter_context(_set(node.lies, "share", fault.share))
            lying.enter_context(_set(node.lies, "sly", fault.sly))
            lying.enter_context(_set(node.lies, "frames", fault.frames))
            lying.enter_context(_set(node.lies, "conspires", fault.frames or len(fault.nodes) > 1))
        yield


@asynccontextmanager
async def flipper(world, fault):
    """Gives false bytes with the true digest, as bad memory does."""
    [node] = world.named(fault)
    with _set(node.lies, "flipped", fault.share):
        yield


@asynccontextmanager
async def rot(world, fault):
    """A bit flips on the disk."""
    [node] = world.named(fault)
    for content, index in world.chunks_drawn(fault, 2):
        if node.store.find(content):
            node.store.damage(content, index)
    yield


@asynccontextmanager
async def disk_full(world, fault):
    [node] = world.named(fault)
    with _set(node.store, "full", True):
        yield


FAULTS = {
    "hub_down": _on_hub("down", True),
    "hub_busy": _on_hub("patience_s", 3.0),
    "hub_breaks": _on_hub("breaks_every", 29),
    "hub_stalls": _on_hub("stalled", True),
    "hub_corrupts": hub_corrupts,
    "crash": crash,
    "cut": cut,
    "silence": silence,
    "alone": alone,
    "asleep": asleep,
    "no_hub": no_hub,
    "shut": shut,
    "slow": slow,
    "liar": liar,
    "flipper": flipper,
    "rot": rot,
    "disk_full": disk_full,
}
