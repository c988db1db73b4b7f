"""Lies cost the hub little, and whoever found its file wrong found out who had lied."""

from simulation.deceit import FILES_MAX

WRONG_MAX = 3  # chunks that a node takes from one that flips bits before it is banned


def check(world):
    [fault] = world.plan.faults
    kind = "flips" if fault.kind == "flipper" else "one" if len(fault.nodes) == 1 else "half"
    files = world.hub.bytes_sent / sum(world.plan.sizes.values())
    if files > FILES_MAX[kind]:
        yield f"the hub sent {files:.2f} files, more than {FILES_MAX[kind]}"
    liars = {world.nodes[number].id for number in fault.nodes}
    for number, node in enumerate(world.nodes):
        caught = liars & {ban.source for ban in node.bans()}
        if number not in fault.nodes and node.delivery.downloads.statistics.mismatches and not caught:
            yield f"{node} found its file wrong and banned nobody"
        wrong = node.delivery.downloads.statistics.chunks.get(("peer", "wrong"), 0)
        if kind == "flips" and wrong > WRONG_MAX:
            yield f"{node} was given {wrong} wrong chunks"
