"""Plan: what a cluster will need, by simulation of the very policy that runs.

`simulate(Scenario(...))` lets any number of nodes bring one model in, in virtual time, and returns an `Outcome`. Each `Member`
asks a real `Swarm` what to do; bytes are flows that share cables and the hub's line (`flows`), messages are delays, control
bytes the sizes of real frames (`frames`). Nothing is sent, written or hashed, so a thousand nodes take half a minute.
`line` has what large clusters need beyond today's policy. `verdict` says what an outcome means, `units` reads "25Gbit".
Left to others: whole nodes over a simulated wire, faults included (tests/simulation), and real ones (the lab).
"""

from p2pmodel.plan import units, verdict
from p2pmodel.plan.scenario import Outcome, Scenario
from p2pmodel.plan.simulation import simulate

__all__ = ["Outcome", "Scenario", "simulate", "units", "verdict"]
