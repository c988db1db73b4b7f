"""The network of a simulation: hosts with a cable each, and a rule for every directed path between two of them.

A stream's bytes leave in segments. Each waits its turn on the sender's uplink and on the receiver's downlink, then
travels for the path's delay. A sender waits while WINDOW_BYTES are under way. Faults are set from outside:

  silence(a, b)  nothing arrives, nobody is told (a pulled cable, a stopped process); what was under way arrives later
  cut(a, b)      streams break, dials are refused, until `heal`
  kill(host)     all its streams break and nobody listens there
"""

import math
from collections import Counter, deque
from dataclasses import dataclass

import trio

from p2pmodel.network import Address, ByteStream
from p2pmodel.peering import SECURE_FIRST_BYTE

SEGMENT_BYTES = 4096
WINDOW_BYTES = 4 * SEGMENT_BYTES
SMALL_BYTES = 512  # a control frame does not wait for its own turn, it only takes it from others


class Bell:
    """Whoever waits looks again when it rings."""

    def __init__(self):
        self._event = trio.Event()

    def ring(self):
        self._event.set()
        self._event = trio.Event()

    async def wait(self, until=math.inf):
        if until == math.inf:  # most waits: a scope costs as much as the rest
            return await self._event.wait()
        with trio.move_on_at(until):
            await self._event.wait()
        return None


class Line:
    """One direction of a cable: what goes through it waits its turn."""

    def __init__(self, rate):
        self.rate = rate  # bytes/s
        self._free_at = 0.0

    def book(self, count, now):
        """When the last of so many bytes is through."""
        self._free_at = max(self._free_at, now) + count / self.rate
        return self._free_at

    async def carry(self, count):
        await trio.sleep_until(self.book(count, trio.current_time()))


@dataclass
class Path:
    """The rule for what one host sends another."""

    delay: float
    silent: bool = False
    cut: bool = False


class SimulatedNetwork:
    def __init__(self, *, delay, trace):
        self.hosts = {}
        self.trace = trace
        self._delay = delay
        self._paths = {}
        self.changed = Bell()

    def host(self, name, *, rate):
        made = self.hosts[name] = Host(self, name, rate)
        return made

    def path(self, source, target):
        return self._paths.setdefault((source, target), Path(self._delay))

    def both_ways(self, one, other):
        return self.path(one, other), self.path(other, one)

    # Faults

    def silence(self, one, other):
        for path in self.both_ways(one, other):
            path.silent = True

    def cut(self, one, other):
        for path in self.both_ways(one, other):
            path.cut = True
        self._break_streams({one, other})

    def heal(self, one, other):
        for path in self.both_ways(one, other):
            path.silent = path.cut = False
        self.changed.ring()
        for stream in self.streams():
            stream.bell.ring()

    def kill(self, host):
        self.hosts[host].listening.clear()
        for stream in self.hosts[host].open_streams():
            stream.break_both()

    def _break_streams(self, pair):
        for stream in self.streams():
            if {stream.local.host, stream.remote.host} == pair:
                stream.break_both()

    def streams(self):
        return [stream for host in self.hosts.values() for stream in host.open_streams()]


class Host:
    """A node's `Network`, and its cable."""

    def __init__(self, network, name, rate):
        self.network = network
        self.name = name
        self.uplink = Line(rate)
        self.downlink = Line(rate)
        self.listening = {}
        self.shut = False  # a firewall: what is open stays open, nobody comes in
        self.sent = Counter()  # bytes by "control" and "data"
        self.received = Counter()
        self._streams = {}
        self._ports = 40_000

    def open_streams(self):
        return list(self._streams)

    async def dial(self, address):
        network = self.network
        there, back = network.both_ways(self.name, address.host)
        await trio.sleep(there.delay + back.delay)
        while there.silent or back.silent:
            await network.changed.wait()
        accept = network.hosts[address.host].listening.get(address.port) if address.host in network.hosts else None
        refused = there.cut or not accept or network.hosts[address.host].shut
        network.trace("dial", self.name, address.host, "refused" if refused else "")
        if refused:
            raise OSError(111, "Connection refused")
        self._ports += 1
        here = Stream(self, Address(self.name, self._ports), address)
        other = Stream(network.hosts[address.host], address, Address(self.name, self._ports))
        here.other, other.other = other, here
        for stream in (here, other):
            stream.host._streams[stream] = None
        accept(other)
        return here

    async def listen(self, _host, port):
        await trio.lowlevel.checkpoint()
        return Listener(self, port or 7277)


class Listener:
    def __init__(self, host, port):
        self.port = port
        self._host = host

    async def serve(self, handle, nursery):
        self._host.listening[self.port] = lambda stream: nursery.start_soon(handle, stream)
        try:
            await trio.sleep_forever()
        finally:
            self._host.listening.pop(self.port, None)

    async def aclose(self):
        await trio.lowlevel.checkpoint()


class Stream(ByteStream):
    """One end of a connection. What is on its way to it waits in `_coming`, each piece with the time of its arrival."""

    other: "Stream"

    def __init__(self, host, local, remote):
        self.host = host
        self.kind = ""  # "control" or "data", by the first byte; both ends say the same
        self.bell = Bell()
        self._local, self._remote = local, remote
        self._coming = deque()
        self._waiting = 0  # bytes in `_coming`
        self._ended = self._broken = self._closed = False
        self._sending = False

    @property
    def local(self):
        return self._local

    @property
    def remote(self):
        return self._remote

    # Receiving

    async def peek(self):
        return self._coming[0][1][:1].tobytes() if await self._readable() else b""

    async def receive_some(self, max_bytes=None):
        buffer = bytearray(max_bytes or SEGMENT_BYTES)
        return bytes(buffer[: await self.receive_into(memoryview(buffer))])

    async def receive_into(self, buffer):
        if not await self._readable():
            return 0
        arrival, piece = self._coming.popleft()
        count = min(len(piece), len(buffer))
        buffer[:count] = piece[:count]
        if count < len(piece):
            self._coming.appendleft((arrival, piece[count:]))
        self._waiting -= count
        self.host.received[self.kind] += count
        self.other.bell.ring()
        return count

    async def _readable(self):
        """Whether there are bytes; false at the end of the stream."""
        await trio.lowlevel.checkpoint()
        path = self.host.network.path(self._remote.host, self._local.host)
        while True:
            self._check_open()
            arrival = self._coming[0][0] if self._coming and not path.silent else math.inf
            if arrival <= trio.current_time():
                return True
            if self._ended and not self._coming and not path.silent:
                return False
            await self.bell.wait(until=arrival)

    # Sending

    async def send_all(self, data):
        if self._sending:
            raise RuntimeError("two tasks send on one stream")
        self._sending = True
        try:
            await trio.lowlevel.checkpoint()
            view = memoryview(bytes(data))
            if view and not self.kind:
                self.kind = self.other.kind = "control" if view[:1] == SECURE_FIRST_BYTE else "data"
            for start in range(0, len(view), SEGMENT_BYTES):
                await self._send_segment(view[start : start + SEGMENT_BYTES])
        finally:
            self._sending = False

    async def _send_segment(self, piece):
        await self.wait_send_all_might_not_block()
        left = self.host.uplink.book(len(piece), trio.current_time())
        if len(piece) > SMALL_BYTES:
            await trio.sleep_until(left)
            self._check_taken()
        network = self.host.network
        through = max(left, self.other.host.downlink.book(len(piece), trio.current_time()))
        arrival = through + network.path(self._local.host, self._remote.host).delay
        network.trace(self.kind, self._local.host, self._remote.host, len(piece))
        self.host.sent[self.kind] += len(piece)
        self.other._coming.append((arrival, piece))
        self.other._waiting += len(piece)
        self.other.bell.ring()

    async def wait_send_all_might_not_block(self):
        self._check_taken()
        while self.other._waiting >= WINDOW_BYTES:
            await self.bell.wait()
            self._check_taken()

    # The end

    def _check_open(self):
        if self._closed:
            raise trio.ClosedResourceError("this stream is closed")
        if self._broken:
            raise trio.BrokenResourceError("connection reset")

    def _check_taken(self):
        self._check_open()
        if self.other._closed:
            raise trio.BrokenResourceError("the other end has closed")

    def break_both(self):
        for end in (self, self.other):
            end._broken = True
            end.bell.ring()

    async def aclose(self):
        if not self._closed:
            self._closed = True
            self.host._streams.pop(self, None)
            self.other._ended = True
            if self._coming:  # closing over unread bytes resets the connection
                self.other._broken = True
            self.bell.ring()
            self.other.bell.ring()
        await trio.lowlevel.checkpoint()
