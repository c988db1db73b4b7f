"""The gateway: the HTTP endpoint on localhost for unmodified hub clients, for people and for monitors.

`Gateway` listens, `ClientConnection` speaks HTTP with one client (h11 on our own socket), `Gate` refuses what web pages
send before anything is routed, and three route tables (Hugging Face, ModelScope, the daemon itself) turn paths into
questions for `delivery`. File bodies leave by sendfile from the spans that delivery hands out; the gateway knows neither
store nor peers. While a cold file is on its way, `Vigil` keeps its client patient and notices when it leaves. What the
daemon does not answer itself goes to the hub through `Upstreams.pass_on`, uploads too, of which delivery keeps a copy
(`uploading`, `xet_uploading`). Files that clients read by Xet alone are read by Xet from us (`routes_xet`). Clients that
cannot do plain http to localhost come over TLS (`TlsStream`), with a certificate that we make (`certificate`).
"""

from p2pmodel.gateway.certificate import Certificate
from p2pmodel.gateway.certificate import load as load_certificate
from p2pmodel.gateway.listening import bind
from p2pmodel.gateway.server import Gateway, TlsDoor
from p2pmodel.gateway.statistics import SECONDS_BUCKETS, GatewayStatistics

__all__ = ["SECONDS_BUCKETS", "Certificate", "Gateway", "GatewayStatistics", "TlsDoor", "bind", "load_certificate"]
