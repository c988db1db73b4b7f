"""Peer-to-peer model distribution for a LAN of GPU nodes.

    import p2pmodel
    path = p2pmodel.snapshot_download("org/model")  # through this machine's daemon
    p2pmodel.enable()  # huggingface_hub and modelscope take files from it by link, from now on

Read the rooms in this order: ``content`` (what a blob and a chunk are), ``wire`` (what daemons say to each other),
``swarm`` (who is asked for which chunk), ``delivery`` (a chunk's way from a source to a client), then the rooms that
each touch one part of the world: ``store``, ``peering``, ``discovery``, ``upstream``, ``gateway``; last ``daemon``,
the only place that knows them all. The names above are `api`'s, imported when they are used.
"""

from __future__ import annotations

import os
from importlib import import_module
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from p2pmodel.api import P2pmodelError, Status, enable, snapshot_download, status, warm
else:  # to a type checker this would mean that the module has whatever it is asked for

    def __getattr__(name: str) -> object:
        if name not in __all__:
            raise AttributeError(f"module 'p2pmodel' has no attribute {name!r}")
        return getattr(import_module("p2pmodel.api"), name)


__version__ = "0.1.0"
__all__ = ["P2pmodelError", "Status", "__version__", "enable", "snapshot_download", "status", "warm"]


if os.environ.get("P2PMODEL_ENABLE") == "1":
    import_module("p2pmodel.enabling").watch()
