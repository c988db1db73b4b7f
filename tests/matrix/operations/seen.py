"""What a script has got, in a form to compare: the sha256 of everything."""

import hashlib
import json
from pathlib import Path


def sha256(data):
    return hashlib.sha256(data).hexdigest()


def file(path):
    return sha256(Path(path).read_bytes())


def tree(folder):
    """By relative path, without the client's own notes."""
    folder = Path(folder)
    files = {path.relative_to(folder).as_posix(): path for path in folder.rglob("*") if path.is_file()}
    return {name: file(path) for name, path in sorted(files.items()) if not name.startswith(".")}


def outcome(function, *arguments, **named):
    """The name of its error, if it fails."""
    try:
        function(*arguments, **named)
    except Exception as error:
        return type(error).__name__
    return "ok"


def say(result):
    """The last line is what the script has seen."""
    print("\n" + json.dumps(result, sort_keys=True))
