"""A config file, read so that each key can be named by its line: whoever has to mend one wants to know where it stands."""

from __future__ import annotations

import re
import tomllib
from collections import Counter
from collections.abc import Callable
from functools import partial
from pathlib import Path

from p2pmodel.errors import ConfigError


def parse(file: Path) -> tuple[dict[str, object], Lines]:
    """Raises ConfigError."""
    try:
        text = file.read_text(encoding="utf-8")
        return tomllib.loads(text), Lines(str(file), text)
    except OSError as error:
        raise ConfigError(f"Cannot read the config file {file}: {error.strerror}.", next_step="Check --config.") from None
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise ConfigError(f"{file} is not TOML: {error}.", next_step="Mend that line.") from None


class Lines:
    """Finds the line of a key, which tomllib does not tell. Reads headers and ``key =``: how people write config files."""

    def __init__(self, file: str, text: str) -> None:
        self._file = file
        # By section, its place among tables of that name, and key ("": the header).
        self._numbers: dict[tuple[str, int, str], int] = {}
        tables: Counter[str] = Counter()
        current = ""
        for number, line in enumerate(text.splitlines(), 1):
            if header := re.match(r"\s*\[+\s*([^\[\]]+?)\s*\]", line):
                current = header[1].strip("\"'")
                tables[current] += 1
                self._numbers.setdefault((current, tables[current] - 1, ""), number)
            elif key := re.match(r"\s*([\w.\"' -]+?)\s*=", line):
                written = re.sub(r"[\"' ]", "", key[1])
                section, _, name = (f"{current}.{written}" if current else written).partition(".")
                self._numbers.setdefault((section, max(tables[section] - 1, 0), name), number)

    def at(self, position: int) -> Callable[[str, str], str]:
        """`place` for tables at this position."""
        return partial(self.place, position=position)

    def place(self, section: str, key: str = "", position: int = 0) -> str:
        """``file:line`` of a key, of the section's header without one; `position` counts the tables of the same name."""
        number = self._numbers.get((section, position, key))
        return f"{self._file}:{number}" if number else self._file
