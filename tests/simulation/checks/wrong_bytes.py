"""No reader got a wrong byte, and what a store holds as sealed is what the hub published, rotten disks aside."""


def check(world):
    for job in world.wrong_reads:
        yield f"wrong bytes for {job}"
    for node in world.nodes:
        for state in node.store.blobs():
            if state.sealed:
                yield from _wrong_chunks(world, node, state)


def _wrong_chunks(world, node, state):
    truth = world.hub.files[state.blob.id]
    if world.plan.has("rot") and not _intact(node, state):
        return  # it would be found before it is served, and it was just dropped
    if node.bytes_of(state.blob) != truth:
        yield f"{node} sealed wrong bytes of {state.blob}"


def _intact(node, state):
    stored = node.store.open(state.blob, private=state.private)
    try:
        return all(stored.check(index) for index in stored.held.copy())
    finally:
        stored.close()
