"""The key file of a closed cluster, alone and while the key changes; and certificates that are not trusted any more."""

import datetime as dt

import pytest
import trio

from p2pmodel.errors import ConfigError, StrangerError
from p2pmodel.network import Address
from p2pmodel.peering import DenyList, Identity, KeyRing, LiveMembership, Membership, Memberships, TlsSecure, new_join_token

OLD, NEW = new_join_token(), new_join_token()
NOON = 1_800_000_000.0


def test_a_key_ring_is_read_as_it_was_written():
    for ring in (KeyRing(NEW), KeyRing(NEW, OLD, NOON)):
        assert KeyRing.parse(ring.spell()) == ring
    assert KeyRing.parse(f"\n {NEW}  \n\n") == KeyRing(NEW)
    assert NEW not in repr(KeyRing(NEW, OLD, NOON))
    assert OLD not in repr(KeyRing(NEW, OLD, NOON))


def test_the_former_key_lets_nodes_in_until_its_time_is_over():
    ring = KeyRing(OLD).rotated(NEW, now=NOON, grace_s=60)
    assert ring.accepted(NOON + 59) == [NEW, OLD]
    assert ring.accepted(NOON + 60) == [NEW]
    with pytest.raises(ConfigError, match="already"):
        ring.rotated(new_join_token(), now=NOON + 59, grace_s=60)
    assert ring.rotated(OLD, now=NOON + 61, grace_s=5).accepted(NOON + 62) == [OLD, NEW]


@pytest.mark.parametrize(
    "text",
    [
        "",
        "{cut}",
        "{new} {old}",
        "{new}\n{old}",
        "{new}\n{old} until noon",
        "{new}\n{old} before 2027-01-01",
        "{new}\n{cut} until 2027-01-01T00:00:00+00:00",
        "{new}\n{new}\n{new}",
    ],
)
def test_a_key_file_with_a_mistake_is_refused_and_not_repeated(text):
    with pytest.raises(ConfigError) as caught:
        KeyRing.parse(text.format(new=NEW, old=OLD, cut=OLD[:-1]))
    said = str(caught.value) + caught.value.next_step
    assert not [token for token in (NEW, OLD) if token[8:20] in said]


class Pipe:
    """Two ends of a stream with addresses."""

    def __init__(self):
        self.ends = trio.testing.memory_stream_pair()
        for end, port in zip(self.ends, (1, 2), strict=True):
            end.remote, end.receive_into = Address("10.0.0.1", 3 - port), self._into(end)

    def _into(self, end):
        async def receive_into(buffer):
            data = await end.receive_some(len(buffer))
            buffer[: len(data)] = data
            return len(data)

        return receive_into


def secure(keys):
    identity = Identity.generate()
    current, *former = (Membership.closed(identity, {"old": OLD, "new": NEW}[key]) for key in keys.split())
    made = TlsSecure(current)
    made.renew(Memberships(current, *former))
    return made


async def meet(dialler, listener, under=b""):
    """Whether both ends take each other. `under`: what the dialler knows of the listener's keys."""
    here, there = Pipe().ends
    taken = []

    async def side(wrap, end, *known):
        try:
            stream, _ = await wrap(end, *known)
            await stream.send_all(b"!")
            taken.append(await stream.receive_some(1) == b"!")
        except (StrangerError, trio.BrokenResourceError):
            await end.aclose()

    async with trio.open_nursery() as nursery:
        nursery.start_soon(side, dialler.wrap_dialled, here, under)
        nursery.start_soon(side, listener.wrap_accepted, there)
    return taken == [True, True]


@pytest.mark.parametrize(
    ("dialler", "listener", "dials"),
    [
        ("old", "old", 1),
        ("new old", "new old", 1),
        ("new", "new old", 1),
        ("old", "new old", 1),
        ("new old", "new", 1),
        ("new old", "old", 2),  # it tries the new key first
        ("old", "new", None),
        ("new", "old", None),
    ],
)
async def test_nodes_before_during_and_after_a_change_of_keys_meet(dialler, listener, dials):
    one, two = secure(dialler), secure(listener)
    met = [await meet(one, two) for _ in range(3)]
    assert met == ([False] * 3 if dials is None else [False] * (dials - 1) + [True] * (4 - dials))


@pytest.mark.parametrize(("known", "meets"), [("old", True), ("new", False), ("another", False)])
async def test_a_dialler_that_knows_the_others_key_tries_no_other(known, meets):
    tags = {"old": Membership.closed(Identity.generate(), OLD).tag, "new": Membership.closed(Identity.generate(), NEW).tag}
    assert await meet(secure("new old"), secure("old"), bytes.fromhex(tags.get(known, "ab" * 8))) is meets


def test_trust_ends_with_the_authority_the_time_and_the_deny_list():
    now = dt.datetime(2026, 1, 1, tzinfo=dt.UTC)
    ours, theirs, others = (Membership.closed(Identity.generate(), token) for token in (NEW, NEW, OLD))
    assert Memberships(ours).trusts(theirs.certificate, now)
    assert not Memberships(ours).trusts(others.certificate, now)
    assert Memberships(ours, others).trusts(others.certificate, now)
    assert not Memberships(ours).trusts(theirs.certificate, dt.datetime(2200, 1, 1, tzinfo=dt.UTC))
    denied = DenyList(1, frozenset({theirs.certificate.serial_number}))
    assert not Memberships(ours, denied=denied).trusts(theirs.certificate, now)


async def test_what_cannot_be_read_any_more_stays_in_force(autojump_clock):
    identity = Identity.generate()
    files = [Memberships(Membership.closed(identity, NEW)), ConfigError("gone"), Memberships(Membership.closed(identity, OLD))]

    def load():
        found = files.pop(0) if len(files) > 1 else files[0]
        if isinstance(found, ConfigError):
            raise found
        return found

    async def inline(function):
        return function()

    live, seen = LiveMembership(load, inline), []
    with trio.move_on_after(11):
        await live.run(lambda memberships: seen.append(memberships.current.tag))
    old, new = (Membership.closed(identity, token).tag for token in (OLD, NEW))
    assert seen == [new, old]
