"""Lies cost the hub little, and whoever found its file wrong found out who had lied."""

from simulation.deceit import FILES_MAX


def check(world):
    [fault] = world.plan.faults
    kind = "one" if fault.kind == "liar" else "half"
    files = world.hub.bytes_sent / sum(world.plan.sizes.values())
    if files > FILES_MAX[kind]:
        yield f"the hub sent {files:.2f} files, more than {FILES_MAX[kind]}"
    liars = {world.nodes[number].id for number in fault.nodes}
    for number, node in enumerate(world.nodes):
        caught = liars & {ban.source for ban in node.bans()}
        if number not in fault.nodes and node.delivery.downloads.statistics.mismatches and not caught:
            yield f"{node} found its file wrong and banned nobody"
