from p2pmodel.delivery.meter import WINDOW_S, Meter


def test_a_rate_is_that_of_the_last_seconds():
    meter = Meter()
    for second in range(30):
        meter.count("a", 1000 if second < 15 else 4000, float(second))
    assert meter.of("a", 29.5) == 4000


def test_a_burst_that_has_just_begun_is_not_taken_for_more_than_it_is():
    meter = Meter()
    meter.count("a", 500, 100.0)
    assert meter.of("a", 100.01) == 500


def test_what_stood_still_for_long_has_no_rate():
    meter = Meter()
    meter.count("a", 500, 100.0)
    assert meter.of("a", 101.0 + WINDOW_S) == 0.0
    assert meter.of("unknown", 1.0) == 0.0


def test_the_total_is_over_all_names():
    meter = Meter()
    for name in "ab":
        meter.count(name, 500, 1.0)
    assert meter.total(1.5) == 1000


def test_a_rate_costs_the_memory_of_its_window():
    meter = Meter()
    for second in range(1000):
        meter.count("a", 1, float(second))
    assert len(meter._buckets["a"]) <= WINDOW_S + 1
