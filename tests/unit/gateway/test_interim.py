import pytest

from p2pmodel.gateway.interim import CONTINUE, PROCESSING, SELDOM, SILENCE, interim_response


@pytest.mark.parametrize(
    "agent",
    [
        "unknown/None; hf_hub/2.4.0; python/3.11.7",
        "transformers/5.23.0; hf_hub/1.33.0; python/3.12",
        "modelscope/1.40.2; python/3.11",
        "python-requests/2.34.2",
        "python-httpx/0.28.1",
        "curl/8.14.1",
        "Wget/1.21.3",
    ],
)
def test_clients_that_were_seen_to_wait_on_100_get_it(agent):
    assert interim_response(agent, "1.1") == CONTINUE


@pytest.mark.parametrize("agent", ["undici", "node", "undici/6.0", "aria2/1.36.0"])
def test_node_and_aria2_get_102_as_a_100_breaks_them(agent):
    assert interim_response(agent, "1.1") == PROCESSING


@pytest.mark.parametrize("agent", [None, "", "Wget2/2.1", "Mozilla/5.0 nodeish", "llama-cpp/b1"])
def test_unknown_clients_wait_in_silence(agent):
    assert interim_response(agent, "1.1") == SILENCE


def test_git_lfs_gets_as_many_as_it_takes():
    assert interim_response("git-lfs/3.3.0 (GitHub; linux amd64; go 1.19.8)", "1.1") == SELDOM
    assert SELDOM.at_most == 5


def test_http_1_0_knows_no_interim_response():
    assert interim_response("curl/8.14.1", "1.0") == SILENCE
