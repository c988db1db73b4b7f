"""What the lab's tests share. They run where network namespaces can be made (`make lab`), each file in a LAN of its own."""

import itertools
import re
from collections.abc import Callable
from dataclasses import dataclass
from zlib import crc32

import pytest
from daemons import MIB
from lan import Lan, missing
from noise import noise


@pytest.fixture(scope="session", autouse=True)
def _a_machine_that_can():
    if reason := missing():
        pytest.skip(f"no lab: {reason}")


@dataclass
class Model:
    name: str
    files: dict[str, bytes]

    @property
    def size(self) -> int:
        return sum(map(len, self.files.values()))

    @property
    def weights(self) -> bytes:
        return self.files["model.safetensors"]


@pytest.fixture
def new_model(request) -> Callable[..., Model]:
    """A model that nobody has yet, named after its test."""
    numbers = itertools.count()

    def make(lan: Lan, mib: int) -> Model:
        name = f"acme/{re.sub('[^a-z0-9]+', '-', request.node.name)[:70]}-{next(numbers)}"
        weights = noise(crc32(name.encode()), mib * MIB + 1)
        model = Model(name, {"config.json": name.encode(), "model.safetensors": weights})
        lan.hub.add_repo("model", name, model.files)
        return model

    return make
