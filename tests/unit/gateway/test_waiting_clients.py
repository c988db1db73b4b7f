"""Clients that wait for a cold file: kept alive before the head, noticed when they leave. Time is the test's own."""

import time

import pytest
import trio
import trio.testing

from p2pmodel.limits import INTERIM_INTERVAL_S, REQUEST_HEAD_TIMEOUT_S, VIGIL_S, WRITE_TIMEOUT_S

TARGET = "/org/model/resolve/main/w.bin"


@pytest.fixture
async def cold(rig):
    rig.add("org/model", {"w.bin": b"x" * 100})
    rig.delivery.gate = trio.Event()
    return rig


async def pass_time(clock, seconds):
    """Virtual seconds; after each one, what woke up may run."""
    for _ in range(round(seconds / VIGIL_S)):
        clock.jump(VIGIL_S)
        for _ in range(10):
            await trio.testing.wait_all_tasks_blocked()


@pytest.mark.parametrize(
    ("agent", "status"),
    [("unknown/None; hf_hub/2.4.0", 100), ("Wget/1.21.3", 100), ("undici", 102), ("aria2/1.36.0", 102)],
)
async def test_a_waiting_client_is_kept_alive_until_its_file_may_leave(cold, mock_clock, agent, status):
    client = await cold.connect()
    await client.get(TARGET, f"User-Agent: {agent}", read=False)
    await cold.delivery.waiting.wait()
    for _ in range(3):
        await pass_time(mock_clock, INTERIM_INTERVAL_S + VIGIL_S)
        assert await client.interim() == status
    cold.delivery.gate.set()
    answer = await client.answer()
    assert (answer.status, answer.body, answer.headers["x-p2pmodel-source"]) == (200, b"x" * 100, "store")


async def test_a_client_that_breaks_on_the_sixth_interim_response_gets_five(cold, mock_clock):
    client = await cold.connect()
    await client.get(TARGET, "User-Agent: git-lfs/3.3.0 (GitHub; linux amd64; go 1.19.8)", read=False)
    await cold.delivery.waiting.wait()
    await pass_time(mock_clock, 200)
    cold.delivery.gate.set()
    answer = await client.answer()
    assert (answer.status, answer.interims) == (200, [100] * 5)


async def test_an_unknown_client_waits_in_silence(cold, mock_clock):
    client = await cold.connect()
    await client.get(TARGET, "User-Agent: Lynx/2.9", read=False)
    await cold.delivery.waiting.wait()
    await pass_time(mock_clock, 10)
    cold.delivery.gate.set()
    assert (await client.answer()).interims == []


async def test_a_client_that_leaves_while_it_waits_gives_its_download_up(cold, mock_clock):
    client = await cold.connect()
    await client.get(TARGET, read=False)
    await cold.delivery.waiting.wait()
    await client.stream.aclose()
    await pass_time(mock_clock, 2 * VIGIL_S)
    assert cold.delivery.given_up == 1
    assert cold.gateway.statistics.gone == 1
    assert cold.gateway.statistics.clients == 0


async def test_a_failure_after_a_wait_is_still_a_proper_error(cold, mock_clock):
    client = await cold.connect()
    await client.get(TARGET, "User-Agent: curl/8", read=False)
    await cold.delivery.waiting.wait()
    await pass_time(mock_clock, 4)
    cold.delivery.fails_at = 0
    cold.delivery.gate.set()
    answer = await client.answer()
    assert (answer.status, answer.interims) == (504, [100])


async def test_nothing_is_sent_to_a_client_that_asks_for_nothing(rig, mock_clock):
    client = await rig.connect()
    await client.get("/healthz", "User-Agent: curl/8")
    await pass_time(mock_clock, 10)
    assert (await client.get("/healthz", "User-Agent: curl/8")).interims == []


async def test_a_head_that_comes_too_slowly_is_cut_off(rig, mock_clock):
    slow, silent = await rig.connect(), await rig.connect()
    await slow.send("GET /healthz HTTP/1.1\r\n")
    await pass_time(mock_clock, REQUEST_HEAD_TIMEOUT_S - 2)
    await slow.send("X: 1\r\n")
    await pass_time(mock_clock, 4)
    assert (await slow.answer()).status == 408
    assert await silent.rest() == b""


async def test_a_client_that_takes_nothing_is_cut_off_and_holds_no_thread(rig, mock_clock):
    rig.add("org/model", {"w.bin": bytes(24 << 20)})
    rig.delivery.span_bytes = 24 << 20
    client = await rig.connect()
    await client.get(TARGET, read=False)
    await client.take(1)
    for _ in range(100):  # the thread gives up in real time, the wait after it in ours
        await trio.to_thread.run_sync(time.sleep, 0.01)
        mock_clock.jump(WRITE_TIMEOUT_S)
        if rig.delivery.given_up:
            break
    assert rig.delivery.given_up == 1
    assert rig.gateway.statistics.bytes_out == 0
