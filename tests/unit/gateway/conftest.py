import pytest
from fakes.gateway import COMMIT, running

from p2pmodel.delivery.ports import Progress


@pytest.fixture
def options():
    """Of the gateway, for a test that wants others."""
    return {}


@pytest.fixture
async def rig(options):
    async with running(**options) as rig:
        yield rig


@pytest.fixture
def start_gateway():
    return running


@pytest.fixture
def progress():
    def make(done, path=None):
        return Progress(COMMIT, 2, done, 100, 10, 20, 30, 1.5, path)

    return make
