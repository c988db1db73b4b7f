"""Once the faults are over, every job ends; one that nothing went wrong for never saw an error."""


def check(world):
    for outcome in world.outcomes.values():
        if outcome.ended is None:
            yield f"never ended: {outcome.job} after {dict(outcome.errors)}, {world.nodes[outcome.job.node].delivery.status()}"
        elif world.plan.calm and outcome.errors:
            yield f"{outcome.job} met {dict(outcome.errors)} though nothing was wrong"
