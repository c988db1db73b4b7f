"""Work that nobody waits for: behind everything else, and one at a time."""

import os
import threading

import pytest
import trio

from p2pmodel.quiet import QuietThread


async def test_its_thread_is_nice_and_nobody_elses_is():
    def niceness():
        return threading.get_native_id(), os.getpriority(os.PRIO_PROCESS, threading.get_native_id())

    before = niceness()
    quiet = QuietThread()
    thread, nice = await quiet.run(niceness)
    assert (nice, thread) == (19, (await quiet.run(niceness))[0])
    assert niceness() == before != (thread, nice)


async def test_what_it_raises_is_the_callers():
    with pytest.raises(ZeroDivisionError):
        await QuietThread().run(lambda: 1 // 0)


async def test_a_call_is_finished_before_the_cancelled_go_on():
    done, go_on = [], threading.Event()

    def work():
        go_on.wait(5)
        done.append(True)

    with trio.move_on_after(0.01) as scope:
        trio.lowlevel.current_trio_token().run_sync_soon(go_on.set)
        await QuietThread().run(work)
        await trio.sleep_forever()
    assert (scope.cancelled_caught, done) == (True, [True])
