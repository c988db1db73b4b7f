"""The requests of llama.cpp's `-hf` (common/hf-cache.cpp, download.cpp), as it sends them and reads the answers."""

import http.client
import json
import os
from urllib.parse import urlsplit

import seen

site, repo = urlsplit(os.environ["URL"]), os.environ["REPO"]
agent = {"User-Agent": "llama-cpp/b6000", "Accept": "application/json"}


def ask(method, path, **headers):
    connection = http.client.HTTPConnection(site.hostname, site.port, timeout=30)
    connection.request(method, path, headers=agent | headers)
    answer = connection.getresponse()
    return answer, answer.read()


chosen = {}
for tag in ("latest", "q8_0"):  # versions of 2025 ask for the file's name so, newer ones look into the listing
    answer, body = ask("GET", f"/v2/{repo}/manifests/{tag}")
    assert answer.status == 200, answer.status
    chosen[tag] = json.loads(body)["ggufFile"]["rfilename"]
refs = json.loads(ask("GET", f"/api/models/{repo}/refs")[1])
commit = next(ref["targetCommit"] for ref in refs["branches"] if ref["name"] == "main")
listed = json.loads(ask("GET", f"/api/models/{repo}/tree/{commit}?recursive=true")[1])  # it follows no Link: all on one page
result = {"commit": commit, "chosen": chosen, "files": {}}
for entry in listed:
    if entry["type"] != "file" or not entry["path"].endswith((".gguf", ".json")):
        continue
    path = f"/{repo}/resolve/{commit}/{entry['path']}"
    head, _ = ask("HEAD", path)
    assert head.status == 200, head.status
    assert head.getheader("Accept-Ranges") == "bytes"
    size, tag = int(head.getheader("Content-Length")), head.getheader("ETag")
    half = size // 2
    first, body = ask("GET", path)
    assert (first.status, first.getheader("ETag")) == (200, tag)
    rest, resumed = ask("GET", path, Range=f"bytes={half}-")  # after a cut
    assert rest.status == 206, rest.status
    assert body[half:] == resumed
    result["files"][entry["path"]] = seen.sha256(body)
seen.say(result)
