"""`p2pmodel push` before anything is asked. Real uploads: tests/clients; `--lan`: tests/e2e."""

import pytest


@pytest.mark.parametrize("name", ["org/model", "model@v1", "_lan/a/b", "bad name"])
def test_only_plain_names_are_published_on_the_lan(run, tmp_path, name):
    code, _, err = run("push", tmp_path, name, "--lan")
    assert code == 2
    assert "REPO" in err


@pytest.mark.parametrize(
    ("arguments", "code", "words"),
    [(("org/model",), 4, "HF_TOKEN"), (("_lan/model",), 2, "--lan"), (("model", "--lan"), 6, "p2pmodel serve")],
)
def test_what_is_missing_is_said(run, tmp_path, arguments, code, words):
    got, _, err = run("push", tmp_path, *arguments)
    assert (got, words in err) == (code, True), err
