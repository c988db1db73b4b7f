"""JSON from outside may be no UTF-8: msgspec raises UnicodeDecodeError then, which is none of its own errors."""

import re
from pathlib import Path

PACKAGE = Path(__file__).parents[2] / "p2pmodel"


def test_nobody_catches_only_msgspecs_own_errors():
    narrow = [
        f"{path.relative_to(PACKAGE)}: {line.strip()}"
        for path in PACKAGE.rglob("*.py")
        for line in path.read_text().splitlines()
        if re.search(r"(except|suppress).*msgspec\.\w*Error", line) and not re.search(r"ValueError|UnicodeError", line)
    ]
    assert not narrow, "catch ValueError, of which all are kinds"
