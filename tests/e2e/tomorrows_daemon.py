"""`p2pmodel serve` of another version: python tomorrows_daemon.py LOWEST HIGHEST ALPN p2pmodel serve …

It speaks those versions of the protocol, greets with an ability that nobody knows today, and every message has a field more.
"""

import sys

import msgpack

from p2pmodel.cli import main
from p2pmodel.peering import peering, tls
from p2pmodel.wire import session
from p2pmodel.wire.codec import LENGTH

LOWEST, HIGHEST = int(sys.argv[1]), int(sys.argv[2])
encode = session.encode


def with_a_field_more(message):
    fields = msgpack.unpackb(encode(message)[LENGTH.size :])
    if fields["t"] == "hello":
        fields["abilities"] = [*fields.get("abilities", []), "fly"]
    body = msgpack.packb(fields | {"mood": {"of": ["tomorrow", 1]}})
    return LENGTH.pack(len(body)) + body


session.encode = with_a_field_more
session.Session.__init__.__kwdefaults__["versions"] = (LOWEST, HIGHEST)
peering.PROTOCOL_VERSION_MIN, peering.PROTOCOL_VERSION = LOWEST, HIGHEST
tls.ALPN = sys.argv[3]
sys.exit(main(sys.argv[5:]))
