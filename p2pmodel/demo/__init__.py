"""A hub of our own, small enough to carry along: the demo, the tests and the lab all use this one.

`hub.py` is the door: `Hub` holds repos (`repos.py`, found by name on a `shelf.py`), speaks both dialects
(`huggingface.py`, `modelscope.py`), sends large files from a second host (`cdn.py`), counts (`counters.py`) and breaks on
demand (`faults.py`). `exchange.py` is a request and an answer as values; only `server.py` touches the wire, at a shared
`pace.py`. `folder.py` reads repos from disk, `models.py` makes models to show. Nothing is shared with the gateway: two
readings of the contracts, not one.
"""
