import json

import pytest

from p2pmodel.content import Hub, RepoKind
from p2pmodel.errors import NotAuthorisedError, UnavailableError

DATA = bytes(range(256))
SHA256 = "40aff2e9d2d8922e47afd4648e6967497158785fbd1da870e7110266bf944880"
LISTING = [
    {"Path": "sub", "Name": "sub", "Type": "tree", "Size": 0, "Sha256": "", "Revision": "r1"},
    {"Path": "sub/w.bin", "Name": "w.bin", "Type": "blob", "Size": 256, "Sha256": SHA256, "Revision": "r2"},
    {"Path": "b", "Name": "b", "Type": "blob", "Size": 1, "Sha256": "ab", "Revision": "r3"},
    {"Path": "c", "Name": "c", "Type": "blob", "Size": 1, "Sha256": "cd", "Revision": "r4"},
]
MODEL = "/api/v1/models/org/model"


@pytest.fixture
def model(rig):
    repo = rig.add("org/model", {"sub/w.bin": DATA, "a+b c.txt": b"plus", "a b": b"space"}, hub=Hub.MODELSCOPE)
    rig.delivery.listings[repo] = json.dumps(LISTING).encode()
    rig.delivery.infos[repo] = b'{"Code":200,"Success":true,"RequestId":"1","Data":{"Name":"model"}}'
    return repo


@pytest.fixture
def dataset(rig):
    repo = rig.add("org/data", {"sub/w.bin": DATA}, hub=Hub.MODELSCOPE, kind=RepoKind.DATASET)
    rig.delivery.listings[repo] = json.dumps(LISTING).encode()
    rig.delivery.infos[repo] = b'{"Code":200,"Data":{"Id":77,"Type":4}}'
    return repo


def paths(answer):
    envelope = answer.json()
    assert (envelope["Code"], envelope["Success"]) == (200, True)
    assert envelope["RequestId"]
    return [entry["Path"] for entry in envelope["Data"]["Files"]]


@pytest.mark.parametrize(
    ("query", "expected"),
    [
        ("Revision=master&Recursive=True", ["sub", "sub/w.bin", "b", "c"]),
        ("Revision=master&Recursive=False", ["sub", "b", "c"]),
        ("Revision=master&Recursive=True&Root=sub", ["sub/w.bin"]),
        ("Recursive=False&Root=/", ["sub", "b", "c"]),
        ("Root=nothing", []),
    ],
)
async def test_a_listing_is_chosen_by_root_and_depth(rig, model, query, expected):
    assert paths(await rig.get(f"{MODEL}/repo/files?{query}")) == expected


async def test_entries_stay_as_the_hub_wrote_them(rig, model):
    answer = await rig.get(f"{MODEL}/repo/files?Revision=master&Recursive=True")
    assert answer.json()["Data"]["Files"] == LISTING
    assert rig.delivery.asked[0][1] == "master"


async def test_pages_are_as_long_as_asked_and_the_last_one_is_shorter(rig, dataset):
    url = "/api/v1/datasets/org/data/repo/tree?Revision=master&Root=%2F&Recursive=True&PageSize=3&PageNumber="
    pages = [await rig.get(url + str(number)) for number in (1, 2, 3)]
    assert [paths(page) for page in pages] == [["sub", "sub/w.bin", "b"], ["c"], []]
    assert {page.json()["Data"]["TotalCount"] for page in pages} == {4}


async def test_page_numbers_that_are_none_are_refused(rig, dataset):
    assert (await rig.get("/api/v1/datasets/org/data/repo/tree?PageSize=x")).status == 400


async def test_a_dataset_is_listed_by_its_number_once_its_record_was_asked_for(rig, dataset):
    rig.upstreams.body = b'{"Code":200,"Data":{"Files":[]}}'
    tree = "/api/v1/datasets/77/repo/tree?Recursive=True&PageSize=200"
    assert paths_of_hub(await rig.get(tree)) == []
    assert (await rig.get("/api/v1/datasets/org/data")).json()["Data"]["Id"] == 77
    assert len(paths(await rig.get(tree))) == 4


def paths_of_hub(answer):
    return answer.json()["Data"]["Files"]


@pytest.mark.parametrize("method", ["HEAD", "GET"])
async def test_a_file_has_its_length_and_the_hash_that_clients_check(rig, model, method):
    answer = await rig.get(f"{MODEL}/repo?Revision=master&FilePath=sub%2Fw.bin", method=method)
    assert answer.status == 200
    assert answer.headers["x-linked-etag"] == f'"{SHA256}"'
    assert answer.headers["content-length"] == "256"
    assert answer.body == (DATA if method == "GET" else b"")


@pytest.mark.parametrize(
    ("asked", "status", "content_range", "body"),
    [
        ("bytes=0-255", 206, "bytes 0-255/256", DATA),
        ("bytes=100-", 206, "bytes 100-255/256", DATA[100:]),
        ("bytes=256-", 416, "bytes */256", b""),
        ("bytes=0--1", 200, None, DATA),
    ],
)
async def test_ranges_are_exact(rig, model, asked, status, content_range, body):
    answer = await rig.get(f"{MODEL}/repo?FilePath=sub/w.bin", f"Range: {asked}")
    assert (answer.status, answer.headers.get("content-range"), answer.body) == (status, content_range, body)


@pytest.mark.parametrize(
    ("written", "body"), [("a%2Bb+c.txt", b"plus"), ("a+b", b"space"), ("a%20b", b"space"), ("a+b%20c.txt", b"plus")]
)
async def test_a_plus_is_a_space_unless_only_the_plain_name_exists(rig, model, written, body):
    assert (await rig.get(f"{MODEL}/repo?Revision=master&FilePath={written}")).body == body


async def test_a_missing_file_has_an_envelope_with_a_message(rig, model):
    answer = await rig.get(f"{MODEL}/repo?FilePath=nothing")
    envelope = answer.json()
    assert answer.status == 404
    assert (envelope["Code"], envelope["Success"]) == (404, False)
    assert "no such file" in envelope["Message"]
    assert envelope["RequestId"]


async def test_a_request_for_no_file_is_refused(rig, model):
    assert (await rig.get(f"{MODEL}/repo?Revision=master")).status == 400


async def test_a_repo_that_must_not_be_seen_is_not_there(rig, model):
    rig.delivery.failure = NotAuthorisedError("The hub wants a token.")
    assert (await rig.get(f"{MODEL}/repo?FilePath=sub/w.bin")).status == 404


async def test_what_nobody_can_give_says_so_in_the_terminal(rig, model):
    rig.delivery.failure = UnavailableError("No peer has it and the hub does not answer.")
    answer = await rig.get(f"{MODEL}/repo?FilePath=sub/w.bin")
    assert answer.status == 504
    assert answer.json()["Message"].startswith("No peer has it")


@pytest.mark.parametrize("header", ["Authorization: Bearer t0", "Cookie: a=b; m_session_id=t0", 'Cookie: m_session_id="t0"'])
async def test_the_credential_is_a_bearer_token_or_the_session_cookie(rig, model, header):
    await rig.get(f"{MODEL}/repo/files", header)
    assert rig.delivery.asked[0][2].token == "t0"


async def test_an_odd_cookie_is_no_credential(rig, model):
    await rig.get(f"{MODEL}/repo/files", "Cookie: \x7f;;=")
    assert rig.delivery.asked[0][2].token is None


async def test_no_faster_place_than_here_is_named(rig):
    answer = await rig.get("/api/v1/repos/internalAccelerationInfo")
    assert answer.json()["Data"] == {"InternalRegionQueryAddress": ""}
    assert rig.upstreams.requests == []


async def test_revisions_are_the_hubs_and_without_it_the_branch_that_we_know(rig, model):
    known = (await rig.get(f"{MODEL}/revisions")).json()["Data"]["RevisionMap"]
    assert known == {"Branches": [{"Revision": "master", "CreatedAt": 0}], "Tags": []}
    assert (await rig.get("/api/v1/models/org/nothing/revisions")).status == 404
    rig.delivery.revision_lists[model] = b'{"RevisionMap":{"Branches":[],"Tags":[{"Revision":"v1"}]}}'
    assert (await rig.get(f"{MODEL}/revisions")).json()["Data"]["RevisionMap"]["Tags"] == [{"Revision": "v1"}]


async def test_without_the_hub_a_record_says_what_clients_cannot_do_without(rig, model, dataset):
    rig.delivery.infos.clear()
    assert (await rig.get(MODEL)).json()["Data"]["Name"] == "model"
    record = (await rig.get("/api/v1/datasets/org/data")).json()
    assert (record["Code"], record["Success"], record["Data"]["Type"]) == (200, True, 4)
    assert len(paths(await rig.get(f"/api/v1/datasets/{record['Data']['Id']}/repo/tree?Recursive=True&PageSize=200"))) == 4


async def test_without_the_hub_the_newer_record_is_missing_so_that_the_older_is_asked_for(rig, model):
    rig.upstreams.body = b'{"success": true}'
    assert (await rig.get("/openapi/v1/models/org/model")).json() == {"success": True}
    rig.upstreams.down = True
    answer = await rig.get("/openapi/v1/models/org/model")
    assert (answer.status, answer.json()["code"]) == (404, "ResourceNotFound")
    assert (await rig.get("/openapi/v1/models")).status == 504


async def test_a_repos_record_is_the_hubs(rig, model):
    assert (await rig.get(MODEL)).json()["Data"] == {"Name": "model"}


@pytest.mark.parametrize(
    ("target", "agent"),
    [
        ("/models/org/model/resolve/master/sub/w.bin", "python-requests/2"),
        ("/org/model/resolve/master/sub/w.bin", "modelscope/1.40.2; python/3.11"),
    ],
)
async def test_resolve_urls_work_for_its_clients(rig, model, target, agent):
    assert (await rig.get(target, f"User-Agent: {agent}")).body == DATA


@pytest.mark.parametrize(
    "target", ["/api/v1/login", "/openapi/v1/models/org/model", "/api/v1/models/org/model/commits?Ref=master"]
)
async def test_other_routes_are_passed_on_to_modelscope(rig, target):
    assert (await rig.get(target)).status == 200
    assert (rig.upstreams.requests[0].hub, rig.upstreams.requests[0].target) == (Hub.MODELSCOPE, target)
