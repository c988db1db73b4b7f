"""What the owner may ask at the admin door, as a table; each verb is a POST, its arguments are the query."""

from __future__ import annotations

from p2pmodel.admin.live_limits import LiveLimits
from p2pmodel.gateway.failures import plain_failure
from p2pmodel.gateway.response import Call, Response, json_response
from p2pmodel.gateway.routing import Route, route


class Verbs:
    def __init__(self, *, limits: LiveLimits) -> None:
        self._limits = limits

    def table(self) -> tuple[Route, ...]:
        return (route("limits", {"POST"}, "/limits", self._change_limits, plain_failure),)

    async def _change_limits(self, call: Call) -> Response:
        self._limits.change({key: values[-1] for key, values in call.request.query.items()})
        return json_response({"limits": self._limits.tell()})
