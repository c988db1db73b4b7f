"""What the flight recorder's records say of a file: which run of chunks came from whom, and why a hub was asked. Pure."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace

from p2pmodel.delivery.recorder import FALSE_VOUCHER, NO_ORDERS, OK, PROVEN, FlightRecord
from p2pmodel.swarm import HUB

Json = dict[str, object]


@dataclass(frozen=True, slots=True)
class Run:
    """Chunks [first, stop) that came from one source for one reason, in one order or in several next to each other."""

    first: int
    stop: int
    source: str
    place: str
    reason: str
    began: float  # Unix time of the first order
    bytes: int
    seconds: float  # of all its orders together: bytes/seconds is what one order got


@dataclass(slots=True)
class Tally:
    """What one source gave in all."""

    orders: int = 0
    failed: int = 0
    chunks: int = 0
    bytes: int = 0
    seconds: float = 0.0


def runs_of(flights: Iterable[FlightRecord]) -> list[Run]:
    """What came, by chunk. A chunk that came twice is in two runs."""
    merged: list[Run] = []
    came = (flight for flight in flights if flight.came)
    for flight in sorted(came, key=lambda flight: (flight.first, flight.at)):
        run = Run(
            first=flight.first,
            stop=flight.first + flight.came,
            source=flight.source,
            place=flight.place,
            reason=flight.reason,
            began=flight.at,
            bytes=flight.bytes,
            seconds=flight.seconds,
        )
        last = merged[-1] if merged else None
        if last is not None and _continues(last, run):
            merged[-1] = replace(
                last,
                stop=run.stop,
                began=min(last.began, run.began),
                bytes=last.bytes + run.bytes,
                seconds=last.seconds + run.seconds,
            )
        else:
            merged.append(run)
    return merged


def _continues(last: Run, run: Run) -> bool:
    return run.first == last.stop and (run.source, run.place, run.reason) == (last.source, last.place, last.reason)


def tally(flights: Iterable[FlightRecord]) -> dict[tuple[str, str], Tally]:
    """By (source, place)."""
    tallies: defaultdict[tuple[str, str], Tally] = defaultdict(Tally)
    for flight in flights:
        if flight.outcome in NO_ORDERS:
            continue
        each = tallies[flight.source, flight.place]
        each.orders += 1
        each.failed += flight.outcome != OK
        each.chunks += flight.came
        each.bytes += flight.bytes
        each.seconds += flight.seconds
    return dict(tallies)


def tell_file(flights: Sequence[FlightRecord]) -> Json:
    """A file's part of the report."""
    runs = runs_of(flights)
    false = [flight for flight in flights if flight.outcome == FALSE_VOUCHER]
    proofs = [flight for flight in flights if flight.outcome == PROVEN]
    flights = [flight for flight in flights if flight.outcome not in NO_ORDERS]
    failures: defaultdict[tuple[str, str, str], list[FlightRecord]] = defaultdict(list)
    for flight in flights:
        if flight.outcome != OK:
            failures[flight.source, flight.place, flight.outcome].append(flight)
    return {
        "recorded": len({chunk for run in runs for chunk in range(run.first, run.stop)}),
        "runs": [_tell_run(run) for run in runs],
        "failures": [
            {**_who(source, place), "outcome": outcome, "orders": len(failed), "last": max(each.at for each in failed)}
            for (source, place, outcome), failed in failures.items()
        ],
        "false_vouchers": [{**_who(each.source, each.place), "at": each.at, "chunks_left": each.count} for each in false],
        "proofs": [{**_who(each.source, each.place), "at": each.at, "pieces": each.count} for each in proofs],
    }


def tell_totals(flights: Sequence[FlightRecord]) -> Json:
    """Who gave how much, most first; and why hubs were asked."""
    reasons: defaultdict[str, Tally] = defaultdict(Tally)
    for flight in flights:
        if flight.source == HUB:
            reasons[flight.reason].orders += 1
            reasons[flight.reason].bytes += flight.bytes
    ranked = sorted(tally(flights).items(), key=lambda item: -item[1].bytes)
    return {
        "sources": [
            {
                **_who(source, place),
                "bytes": each.bytes,
                "chunks": each.chunks,
                "orders": each.orders,
                "failed": each.failed,
                "rate": _rate(each.bytes, each.seconds),
            }
            for (source, place), each in ranked
        ],
        "reasons": [{"reason": reason, "orders": each.orders, "bytes": each.bytes} for reason, each in reasons.items()],
    }


def _tell_run(run: Run) -> Json:
    return {
        "first": run.first,
        "last": run.stop - 1,
        **_who(run.source, run.place),
        "began": run.began,
        "bytes": run.bytes,
        "rate": _rate(run.bytes, run.seconds),
        "reason": run.reason,
    }


def _who(source: str, place: str) -> Json:
    """A peer by its id and address, a hub by its upstream's name."""
    if source == HUB:
        return {"kind": "hub", "source": place, "address": ""}
    return {"kind": "peer", "source": source, "address": place}


def _rate(count: int, seconds: float) -> float:
    """Bytes/s that an order got."""
    return round(count / seconds, 1) if seconds > 0 else 0.0
