import pytest

from p2pmodel.admin import Dial, LiveLimits
from p2pmodel.errors import ConfigError
from p2pmodel.settings import LimitsSettings, keys_of

KEYS = list(keys_of(LimitsSettings))


@pytest.fixture
def changed():
    return {}


@pytest.fixture
def limits(changed):
    dials = {key: Dial(lambda limit, key=key: changed.update({key: limit}), lambda: 0.0) for key in KEYS}
    return LiveLimits(LimitsSettings(upstream=1000), dials)


def test_every_limit_of_the_config_file_can_be_told(limits):
    assert {key: told["limit"] for key, told in limits.tell().items()} == {
        "peer_upload": 0,
        "peer_download": 0,
        "upstream": 1000,
        "upstream_connections": 8,
        "clients": 256,
    }


def test_what_stays_as_it_is_is_not_touched(limits, changed):
    limits.change({"upstream": "1kB/s", "clients": "3"})
    assert changed == {"clients": 3}


def test_all_changes_are_made_or_none(limits, changed):
    with pytest.raises(ConfigError, match="must be a whole number from 1 up"):
        limits.change({"upstream": "1MB/s", "clients": "none"})
    assert changed == {}
    assert limits.tell()["upstream"]["limit"] == 1000


def test_an_unknown_limit_is_told_with_those_there_are(limits):
    with pytest.raises(ConfigError) as raised:
        limits.change({"upload": "1"})
    assert "peer_upload" in raised.value.next_step


def test_a_config_file_that_is_read_again_beats_what_was_changed_by_hand(limits, changed):
    limits.change({"peer_upload": "1MB/s"})
    limits.follow(LimitsSettings(upstream=2000))
    assert changed == {"peer_upload": 0, "upstream": 2000}
