"""Keeping up with what the peers hold: a heartbeat says where an inventory stands, and what is new in it is asked for."""

from __future__ import annotations

import structlog
import trio

from p2pmodel.errors import SourceError
from p2pmodel.limits import CATCH_UPS_AT_ONCE_MAX
from p2pmodel.peering.inventories import Inventories
from p2pmodel.peering.link import Link
from p2pmodel.wire.messages import AskInventory, Inventory

log = structlog.get_logger()


class CatchingUp:
    def __init__(self, inventories: Inventories) -> None:
        self._inventories = inventories
        self._asking = trio.CapacityLimiter(CATCH_UPS_AT_ONCE_MAX)

    def heard(self, link: Link, sequence: int) -> None:
        if self._inventories.behind(link.peer, link.boot, sequence) and not link.catching_up:
            link.catching_up = True
            link.start(self._read, link)

    async def _read(self, link: Link) -> None:
        try:
            question = AskInventory(request=1, boot=link.boot, since=self._inventories.since(link.peer, link.boot))
            async with self._asking:
                pages = await link.ask(question)
            self._inventories.update(link.peer, [page for page in pages if isinstance(page, Inventory)])
        except SourceError as error:
            log.debug("inventory.not_read", peer=link.peer, error=str(error))
        finally:
            link.catching_up = False
