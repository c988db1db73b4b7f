"""On the path of a Python client, this cuts its patience: no read waits longer than so many seconds, whatever it asked for."""

import contextlib
import importlib
import os

READ_S = float(os.environ["IMPATIENT_S"])


def shorter(timeout):
    return READ_S if timeout is None else min(READ_S, timeout)


with contextlib.suppress(ImportError):
    from requests.adapters import HTTPAdapter

    patient_send = HTTPAdapter.send

    def send(self, request, stream=False, timeout=None, **more):  # noqa: FBT002  # as it is called
        connect, read = timeout if isinstance(timeout, tuple) else (timeout, timeout)
        return patient_send(self, request, stream=stream, timeout=(connect, shorter(read)), **more)

    HTTPAdapter.send = send

for name in ("httpx", "httpx2"):
    with contextlib.suppress(ImportError):
        transport = importlib.import_module(name).HTTPTransport

        def handle(self, request, _patient=transport.handle_request):
            timeouts = request.extensions.get("timeout", {})
            request.extensions["timeout"] = {**timeouts, "read": shorter(timeouts.get("read"))}
            return _patient(self, request)

        transport.handle_request = handle
