"""Which clients work, seen by running them: every client × version × operation, cold, warm at a peer, and with the hub gone.

`catalogue.py` is the table of clients, `operations.py` that of operations: a repo for the hub, a small script in
`operations/` that a client runs, and what it must have seen. `environments.py` makes the client's own environment,
`run.py` puts a client in front of two real daemons and compares. `python -m matrix` (`make matrix`) runs it all and writes
docs/clients.md; tests/clients/test_matrix.py runs a part of it.
"""
