import pytest
from fakes.stores import OnDisk


@pytest.fixture
def house(tmp_path):
    house = OnDisk(tmp_path / "state")
    yield house
    house.close()
