"""No honest peer is ever rested.

Left out are worlds with false bytes that somebody vouches for: whoever hands them on in good faith still looks like their
author, until chunks travel with their first signer.
"""


def check(world):
    if world.plan.has("hub_corrupts", "liar"):
        return
    flippers = {number for fault in world.plan.faults if fault.kind == "flipper" for number in fault.nodes}
    names = {node.id: node for number, node in enumerate(world.nodes) if number not in flippers}
    for node in world.nodes:
        for rested in node.rested():
            if rested in names:
                yield f"{node} rested {names[rested]}"
