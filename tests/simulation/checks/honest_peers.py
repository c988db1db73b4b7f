"""No honest peer is ever banned, whatever it handed on in good faith: chunks travel with their first signer."""


def check(world):
    names = {node.id: node for node in world.nodes if node.number not in world.plan.liars}
    for node in world.nodes:
        for ban in node.bans():
            if ban.source in names:
                yield f"{node} banned {names[ban.source]}: {ban.why}"
