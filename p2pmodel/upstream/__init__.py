"""Upstream: every configured way to every hub, behind one door (the `Upstreams` port of delivery).

``Router`` holds the upstreams in order and decides which is asked now: by priority, by health, and by how long each host
asked for patience. What it asks is worded by a dialect (``huggingface``, ``modelscope``): which path, which credential,
what an answer means. ``Client`` carries one upstream's requests: it follows redirects by hand, so that a token never
leaves its hub, https never falls back to http, and a hub on the internet cannot send us to a machine of our LAN.
``HubSource`` reads runs of chunks, also from
where ``Twins`` know the same file on the other hub. ``passing`` hands a client's own request on.

Left to others: which chunk is asked of whom, asking once for many (delivery); what a client is told (gateway).
"""

from p2pmodel.upstream.endpoint import Upstream
from p2pmodel.upstream.router import Router

__all__ = ["Router", "Upstream"]
