import pytest

from p2pmodel.plan import units


@pytest.mark.parametrize(
    ("text", "rate"),
    [
        ("25Gbit", 25e9 / 8),
        ("2Gbit/s", 2e9 / 8),
        ("100 mbit", 100e6 / 8),
        ("1.5Gbps", 1.5e9 / 8),
        ("300MB/s", 300e6),
        ("1GiB/s", 1 << 30),
    ],
)
def test_rates_are_bits_or_bytes_a_second(text, rate):
    assert units.rate(text) == rate


@pytest.mark.parametrize("text", ["25", "25GB", "fast", "-1Gbit", "0Gbit", "Gbit", "1Xbit"])
def test_a_rate_without_a_clear_unit_is_refused(text):
    with pytest.raises(ValueError, match=r"a (rate|size)"):
        units.rate(text)


def test_sizes_are_as_in_the_settings_and_not_nothing():
    assert units.size("140GB") == 140 * 10**9
    assert units.size("512MiB") == 512 << 20
    with pytest.raises(ValueError, match="above 0"):
        units.size("0")


@pytest.mark.parametrize("text", ["25 Gbit/s", "100 Mbit/s", "1.5 Gbit/s", "64 kbit/s", "8 bit/s"])
def test_rates_are_told_as_they_are_read(text):
    assert units.spell_rate(units.rate(text)) == text
