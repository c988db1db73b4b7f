"""Why a hub was asked for a run of chunks: said by the decision itself, kept with the order, read by `p2pmodel why`."""

from __future__ import annotations

from enum import StrEnum


class HubReason(StrEnum):
    OWN_READ = "own_read"  # a client waits for bytes that only our own read of the hub may give it (DESIGN §9.1)
    DISTRUST = "distrust"  # the blob's own hash was wrong: what others gave is read again
    NO_PEERS = "no_peers"
    NOBODY_HOLDS = "nobody_holds"  # peers are there; none holds it and none else wants it
    MY_TURN = "my_turn"  # cold, wanted by several nodes, and this run falls to us
    PASSED_ON = "passed_on"  # cold; nobody whose turn came before ours took it
    STALLED = "stalled"  # a peer was asked and no byte came
    SLOW = "slow"  # peers hold it, and together they are slower than the hub
    REFUSED = "refused"  # peers hold it, and each of them failed to give it, or gave wrong bytes
