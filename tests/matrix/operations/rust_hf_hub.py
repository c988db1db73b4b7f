"""The requests of the Rust crate hf-hub: 0.3 to 0.5 probe with `bytes=0-0` and take ranges in parallel; 1.0 asks HEAD."""

import http.client
import os
from concurrent.futures import ThreadPoolExecutor
from urllib.parse import quote, urlsplit

import seen

site, repo = urlsplit(os.environ["URL"]), os.environ["REPO"]
agent = {"User-Agent": "unkown/None; hf-hub/0.4.3; rust/unknown"}
PART = 1_000_000


def ask(method, path, **headers):
    connection = http.client.HTTPConnection(site.hostname, site.port, timeout=30)
    connection.request(method, path, headers=agent | {name.replace("_", "-"): value for name, value in headers.items()})
    answer = connection.getresponse()
    return answer, answer.read()


result = {}
for name in ("config.json", "empty.txt", "sub/deep/vocab.txt", "model.safetensors"):
    path = f"/{repo}/resolve/main/{quote(name)}"
    probe, _ = ask("GET", path, Range="bytes=0-0")
    assert probe.status == 206, probe.status
    size = probe.getheader("Content-Range").rpartition("/")[2]
    tag, commit = probe.getheader("x-linked-etag") or probe.getheader("etag"), probe.getheader("x-repo-commit")
    assert tag.strip('"')
    assert len(commit) == 40

    def part(start, stop, path=path):
        answer, body = ask("GET", path, Range=f"bytes={start}-{stop}")
        assert answer.status == 206, answer.status
        return body

    with ThreadPoolExecutor(8) as pool:  # the last range ends one past the end
        starts = range(0, int(size), PART)
        parts = pool.map(part, starts, [min(start + PART - 1, int(size)) for start in starts])
    whole = ask("GET", path)[1]
    assert b"".join(parts) == whole
    assert ask("HEAD", path)[0].getheader("Content-Length") == size
    assert ask("HEAD", path, If_None_Match=tag)[0].status == 304
    result[name] = seen.sha256(whole)
seen.say(result)
