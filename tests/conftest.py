"""What all tests share: the same examples in every run, no deadline that a busy machine could miss, and the scorecard.

A test that shows a row of the security scorecard (README, "Security") says so: `@pytest.mark.scorecard("S12")`.
`pytest --scorecard S12` runs that row alone, whatever its tests need and however long they take; `--scorecard all` every row.
"""

import os
from collections import Counter

import pytest
from hypothesis import settings

settings.register_profile("house", derandomize=True, deadline=None, database=None)
settings.load_profile("house")

ROW = "scorecard row"


def pytest_xdist_auto_num_workers(config):
    """One more than there are cores: the end-to-end tests wait for their daemons about as long as they work."""
    return (os.cpu_count() or 1) + 1


def pytest_ignore_collect(collection_path, config):
    """What a run's markers leave out as a whole is not even read."""
    left_out = set(config.option.markexpr.split(" and "))
    return True if collection_path.name in {"clients", "lab"} and f"not {collection_path.name}" in left_out else None


def pytest_addoption(parser):
    parser.addoption("--scorecard", metavar="ROWS", help="run these rows of the security scorecard: S12, or S10,S11, or all")


@pytest.hookimpl(tryfirst=True)  # before xdist makes its workers
def pytest_cmdline_main(config):
    if config.option.scorecard:
        config.option.markexpr = ""  # slow ones too
        config.option.numprocesses = 0  # figures are taken one at a time
        config.option.dist = "no"


def pytest_collection_modifyitems(config, items):
    asked = config.option.scorecard
    if not asked:
        return
    wanted = set(asked.upper().split(","))
    chosen = []
    for item in items:
        rows = {row for mark in item.iter_markers("scorecard") for row in mark.args}
        if shown := rows if wanted == {"ALL"} else rows & wanted:
            item.user_properties += [(ROW, row) for row in sorted(shown)]
            chosen.append(item)
    config.hook.pytest_deselected(items=[item for item in items if item not in set(chosen)])
    items[:] = chosen


def pytest_terminal_summary(terminalreporter, config):
    if not config.option.scorecard:
        return
    table = {}
    for outcome in ("passed", "failed", "error", "skipped"):
        for report in terminalreporter.getreports(outcome):
            for name, row in getattr(report, "user_properties", ()):  # a module that was skipped whole has none
                if name == ROW:
                    table.setdefault(row, Counter())[outcome] += 1
    for row, outcomes in sorted(table.items(), key=lambda entry: int(entry[0][1:])):
        terminalreporter.write_line(f"{row:4} {', '.join(f'{count} {outcome}' for outcome, count in outcomes.items())}")


@pytest.fixture
def figure(request, capfd):
    """Print what was measured, also when the test passes."""

    def say(what: str) -> None:
        with capfd.disabled():
            print(f"\n    {request.node.name}: {what}", end="")  # noqa: T201  # what this is for

    return say
