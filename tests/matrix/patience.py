"""A client in front of a node whose bytes wait for their proof, longer than the client would wait in silence.

The node's only upstream is a mirror, so that nothing may leave before the whole file's own hash was right; the mirror is slow,
and the first time it is asked for the large file a byte of it is wrong, so that the hash is wrong and the file is read again.
Meanwhile each client's patience is cut to `IMPATIENT_S`, by its own switches where it has some.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Final

from daemons import Daemon, House

from matrix.catalogue import Client
from matrix.run import Stage, what_env_sets
from p2pmodel.demo.faults import Fault

IMPATIENT_S: Final = 6.0  # twice the time from one interim response to the next
PASS_S: Final = 8.0  # of the large file: two of them are longer than anybody's patience here
LONG_PASS_S: Final = {"git": 25.0}  # git-lfs takes only so many interim responses: its own patience, of 30 s, is the measure
CUT: Final = Path(__file__).with_name("impatient")

#: Operations that take a large file whole. transformers and datasets download by huggingface_hub; the requests of llama.cpp and
#: Rust's hf-hub are sent here by a script of ours, whose patience is nobody's.
WHOLE: Final = frozenset(
    {
        "hf-snapshot",
        "hf-transfer",
        "node",
        "curl",
        "wget",
        "git",
        "aria2",
        "ms-snapshot",
        "ms-swift",
    }
)


class Wait(Stage):
    """One operation of a client against such a node."""

    def __init__(self, client: Client, operation: str, folder: Path) -> None:
        super().__init__(client, folder)
        [self._operation] = [one for one in self._operations if one.name == operation]
        self.seconds = 0.0
        self.mismatches = 0
        self.gone = 0  # times at which it lost its patience: many clients ask again

    def wait(self) -> str:
        """What was not as it must be. Raises MissingError if the client cannot be had here."""
        made = self._client.needs.make()
        with self._site as site, House(self._folder / "house", site, {"gateway.tls_listen": "localhost:0"}) as house:
            node = house.plan("one", **{key.replace(".", "__"): value for key, value in self._client.settings.items()})
            node.config.write_text(node.config.read_text().replace("trusted = true", "trusted = false"))
            node.start()
            largest = self._largest()
            site.hub.pace.rate = largest / LONG_PASS_S.get(self._operation.name, PASS_S)
            site.hub.faults.add(Fault(match="^GET", flip_at=largest // 2))
            watch = threading.Thread(target=self._mend, args=(node,))
            watch.start()
            began = time.monotonic()
            fault = self._ask(self._operation, "cold", what_env_sets(node) | made | self._cut(node))
            self.seconds = time.monotonic() - began
            watch.join()
            self.gone = int(sum(node.metrics("p2pmodel_gateway_gone_total").values()))
            return fault

    def _largest(self) -> int:
        """Bytes of the operation's largest file."""
        kind = "dataset" if self._client.family == "datasets" else "model"
        return max(file.content.size for file in self._site.hub.repo(kind, self._operation.repo).head.files.values())

    def _mend(self, node: Daemon) -> None:
        """The mirror is right again once its lie was found."""
        end = time.monotonic() + 100.0
        while time.monotonic() < end and not self.mismatches:
            self.mismatches = int(sum(node.metrics("p2pmodel_verify_failures_total").values()))
            time.sleep(0.2)
        self._site.hub.faults.clear()

    def _cut(self, node: Daemon) -> Mapping[str, str]:
        """What makes clients impatient."""
        config = self._folder / "config"
        (config / "aria2").mkdir(parents=True)
        (config / "aria2/aria2.conf").write_text(f"timeout={IMPATIENT_S:.0f}\nmax-tries=1\n")
        (config / "wgetrc").write_text(f"read_timeout = {IMPATIENT_S}\ntries = 1\n")
        (config / "gitconfig").write_text('[lfs "transfer"]\nmaxretries = 1\n')
        return {
            "PYTHONPATH": f"{CUT}:{what_env_sets(node)['PYTHONPATH']}",
            "NODE_OPTIONS": f"--require {CUT / 'node.cjs'}",
            "XDG_CONFIG_HOME": str(config),
            "WGETRC": str(config / "wgetrc"),
            "GIT_CONFIG_GLOBAL": str(config / "gitconfig"),
            "IMPATIENT_S": str(IMPATIENT_S),
        }
