"""The house and its process, where no other test looks at them."""

import subprocess
import sys
from types import SimpleNamespace

import pytest
import trio

from p2pmodel.daemon import _Rooms


@pytest.mark.parametrize(
    ("announcing", "candidates", "waits"), [(None, [], False), (object(), [], True), (None, ["remembered"], True)]
)
async def test_a_first_peer_is_waited_for_only_where_one_may_be_heard_of(autojump_clock, announcing, candidates, waits):
    rooms = _Rooms.__new__(_Rooms)
    rooms._announcing = announcing
    rooms._peering = SimpleNamespace(peers=lambda: candidates)
    rooms._delivery = SimpleNamespace(seeding=SimpleNamespace(first_link=trio.Event()))
    begun = trio.current_time()
    await rooms.first_peer(3.0)
    assert trio.current_time() - begun == (3.0 if waits else 0.0)


def test_numpy_starts_no_thread_for_each_processor():
    """A machine has 128 of them, and none would ever have anything to do."""
    script = "from p2pmodel import process; process._keep_numpy_small(); import os, p2pmodel.content.gear; "
    subprocess.run([sys.executable, "-c", script + "assert len(os.listdir('/proc/self/task')) == 1"], check=True)
