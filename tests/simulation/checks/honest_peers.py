"""No honest peer is ever banned, whatever it handed on in good faith: chunks travel with their first signer."""

LIARS = {"flipper", "liar", "conspiracy"}


def check(world):
    false = {number for fault in world.plan.faults if fault.kind in LIARS for number in fault.nodes}
    names = {node.id: node for number, node in enumerate(world.nodes) if number not in false}
    for node in world.nodes:
        for ban in node.bans():
            if ban.source in names:
                yield f"{node} banned {names[ban.source]}: {ban.why}"
