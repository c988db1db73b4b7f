"""Peer-to-peer model distribution for a LAN of GPU nodes.

Read the rooms in this order: ``content`` (what a blob and a chunk are), ``wire`` (what daemons say to each other),
``swarm`` (who is asked for which chunk), ``delivery`` (a chunk's way from a source to a client), then the rooms that
each touch one part of the world: ``store``, ``peering``, ``discovery``, ``upstream``, ``gateway``; last ``daemon``,
the only place that knows them all.
"""

__version__ = "0.1.0"
