"""No client times out while bytes wait for their proof, and none sees an unproven one: each waits longer than it would."""

import pytest
from matrix.catalogue import CLIENTS, Client
from matrix.environments import MissingError
from matrix.patience import IMPATIENT_S, WHOLE, Wait

pytestmark = [pytest.mark.clients, pytest.mark.soak, pytest.mark.timeout(900)]
AS_WELL = {"huggingface_hub 2.4.0", "huggingface_hub by Xet 2.4.0", "modelscope 1.40.2", "modelscope 1.9.5"}
WAITS = [
    pytest.param(client, operation, id=f"{client.name}: {operation}")
    for client in CLIENTS
    for operation in client.operations
    if operation in WHOLE and (client.often or client.name in AS_WELL)
]


@pytest.mark.parametrize(("client", "operation"), WAITS)
def test_a_client_waits_for_the_proof_longer_than_its_patience_and_sees_no_wrong_byte(client: Client, operation, tmp_path):
    wait = Wait(client, operation, tmp_path)
    try:
        fault = wait.wait()
    except MissingError as error:
        pytest.skip(str(error))
    assert not fault
    assert wait.mismatches, "the file was wrong at first"
    assert wait.gone == 0, "it gave up, and asked again"
    assert wait.seconds > 2 * IMPATIENT_S
