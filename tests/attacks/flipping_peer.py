"""`p2pmodel serve` of a node with bad memory: python flipping_peer.py FOLDER p2pmodel serve …

Of each chunk whose index is in FOLDER/flips (a JSON list) one bit is wrong by the time it leaves, under the digest of the right
bytes. Each is told in FOLDER/told: when it left, to whom, which. All else it does by the book, for it is the daemon itself.
"""

import json
import os
import sys
import time
from pathlib import Path

from p2pmodel.cli import main
from p2pmodel.delivery.ports import Span
from p2pmodel.delivery.seeding import Seeding

FOLDER = Path(sys.argv[1])
honest = Seeding.seed


async def seed(self, peer, blob, index):
    span = await honest(self, peer, blob, index)
    if span is None or index not in json.loads((FOLDER / "flips").read_text()):
        return span
    with span:
        wrong = bytearray(os.pread(span.fd, span.length, span.offset))
        wrong[len(wrong) // 2] ^= 1
        file = os.memfd_create("wrong", os.MFD_CLOEXEC)
        os.write(file, wrong)
        with (FOLDER / "told").open("a") as told:
            told.write(f"{time.time()} {peer} {index}\n")
        try:
            return Span(file, 0, len(wrong), span.digest, span.word, private=span.private)
        finally:
            os.close(file)


Seeding.seed = seed
sys.exit(main(sys.argv[3:]))
