"""When nobody wants anything any more, everything is given back. File descriptors and tasks are counted after the end."""

from p2pmodel.limits import BUFFERS


def check(world):
    for node in world.nodes:
        if not node.up:
            yield f"{node} is not up"
            continue
        yield from _delivery(node)
        yield from _peering(world, node)


def _delivery(node):
    delivery, buffers = node.delivery, node.around.buffers
    if delivery.downloads.active:
        yield f"{node} still downloads {[str(each.blob.id) for each in delivery.downloads.active]}"
    if delivery._herald._wanted:
        yield f"{node} still has watchers {delivery._herald._wanted}"
    if delivery._herald._arrived:
        yield f"{node} still has news to tell"
    if taken := BUFFERS - buffers._places.value:
        yield f"{node} holds {taken} buffers"


def _peering(world, node):
    linked = set(node.peering.linked())
    for other in world.others(node):
        if other.id not in linked:
            yield f"{node} has no link to {other}"
    streams = node.cable.open_streams()
    if len(streams) != len(linked):
        yield f"{node} has {len(streams)} streams for {len(linked)} links"
