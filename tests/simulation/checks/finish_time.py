"""Jobs end as soon as they did when it was recorded. A lost wake-up breaks no promise, it only costs time: here it shows."""

import json
from pathlib import Path

RECORD = Path(__file__).parents[1] / "finish_times.json"
SLACK = 1.05  # another order of events is worth 1 %


def check_all(results):
    """Of the worlds whose figures were recorded: the mean of their mean times."""
    recorded = json.loads(RECORD.read_text()) if RECORD.exists() else {}
    known = [result for result in results if str(result.seed) in recorded]
    if not known:
        return
    before = sum(recorded[str(result.seed)] for result in known) / len(known)
    now = sum(result.mean_finish_s for result in known) / len(known)
    if now > before * SLACK:
        yield (
            f"finish_time: {now:.3f} s in the mean of {len(known)} worlds, recorded are {before:.3f} s. "
            "If that is meant: python -m tests.simulation --record"
        )


def record(results):
    RECORD.write_text(json.dumps({str(result.seed): round(result.mean_finish_s, 3) for result in results}) + "\n")
