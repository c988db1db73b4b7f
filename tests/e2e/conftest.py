"""What the end-to-end tests of one file share: a hub, and a house of daemons, which each file fills as it needs."""

import pytest
from daemons import House, Site


@pytest.fixture(scope="module")
def site():
    with Site() as site:
        yield site


@pytest.fixture(scope="module")
def house(site, tmp_path_factory):
    with House(tmp_path_factory.mktemp("house"), site) as house:
        yield house


@pytest.fixture(autouse=True)
def _a_hub_without_faults(site):
    """Each test counts from zero, and meets only the faults that it asked for."""
    site.hub.reset()
    site.hub.pace.rate = None
