"""docs/clients.md says what the catalogue of clients says, and was written by a run in which all of it was so."""

from dataclasses import replace

import pytest
from matrix.catalogue import CLIENTS
from matrix.operations import OPERATIONS
from matrix.page import PAGE, page, promised
from matrix.run import Cell, difference, fault_of


def test_the_page_is_that_of_a_run_in_which_everything_was_as_the_catalogue_says():
    assert PAGE.read_text() == page({client: promised(client) for client in CLIENTS}), "run `make matrix`"


def test_every_operation_is_some_clients():
    assert {name for client in CLIENTS for name in client.operations} == set(OPERATIONS)


def test_a_fault_is_a_cross_on_the_page():
    found = {client: promised(client) for client in CLIENTS}
    client = next(client for client in CLIENTS if client.name == "curl")
    found[client][1] = replace(found[client][1], fault="other bytes")
    assert "| curl | whole, ranges, resume | ✓✗✓ |" in page(found)


def test_a_limit_that_is_none_any_more_is_a_fault():
    limited = next(client for client in CLIENTS if client.limits)
    operation, limit = next(iter(limited.limits.items()))
    assert not fault_of(limited, Cell(operation, limit.states[0], "it ends with 1", 0.0))
    assert fault_of(limited, Cell(operation, limit.states[0], "", 0.0))


@pytest.mark.parametrize(
    ("seen", "told"),
    [
        ({"a": "1", "b": "2"}, ""),
        ({"a": "1", "b": "no such call"}, ""),
        ({"a": "1"}, "b: saw None, not 2"),
        ({"a": "1", "b": "3"}, "b: saw 3, not 2"),
        ({"a": "1", "b": "2", "c": "2"}, "c: saw 2, not None"),
        ([], "saw [], not {'a': '1', 'b': '2'}"),
    ],
)
def test_what_differs_is_named(seen, told):
    assert difference(seen, {"a": "1", "b": "2"}) == told
