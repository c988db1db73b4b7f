"""No honest peer is ever rested. A mirror that corrupts can make one look false (what it read there was): those worlds are left out."""


def check(world):
    if world.plan.has("hub_corrupts"):
        return
    liars = {number for fault in world.plan.faults if fault.kind in {"liar", "flipper"} for number in fault.nodes}
    names = {node.id: node for number, node in enumerate(world.nodes) if number not in liars}
    for node in world.nodes:
        for rested in node.rested():
            if rested in names:
                yield f"{node} rested {names[rested]}"
