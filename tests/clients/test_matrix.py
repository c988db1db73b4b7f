"""A part of the client matrix: what runs before every merge. `make matrix` runs all of it and writes docs/clients.md."""

import pytest
from matrix.catalogue import CLIENTS, Client
from matrix.environments import MissingError
from matrix.run import Stage, fault_of

pytestmark = [pytest.mark.clients, pytest.mark.timeout(900)]


@pytest.mark.parametrize("client", [pytest.param(client, id=client.name) for client in CLIENTS if client.often])
def test_every_operation_cold_from_a_peer_and_with_the_hub_gone(client: Client, tmp_path):
    try:
        cells = [(cell, fault_of(client, cell)) for cell in Stage(client, tmp_path).run()]
    except MissingError as error:
        pytest.skip(str(error))
    assert not [f"{cell.operation}, {cell.state}: {fault}" for cell, fault in cells if fault]
