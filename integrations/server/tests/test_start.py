"""What a newcomer does wrong is said, with the name of what is wrong."""

import json
import os
import subprocess

import pytest
import serving
from conftest import TEXT, TINY


def start(*arguments):
    """Status and what was said; for starts that fail."""
    ended = subprocess.run([os.environ["MPQSERVE"], *map(str, arguments), "--http-port", "0"], capture_output=True,
                           text=True, timeout=60, check=False)
    return ended.returncode, ended.stderr


def why(said, event):
    return next(e["why"] for e in map(json.loads, said.splitlines()) if e["event"] == event)


def test_words_that_are_unknown_or_missing():
    assert start("--bogus") == (2, "The following argument was not expected: --bogus\nRun with --help for more "
                                   "information.\n")
    status, said = start()
    assert status == 2 and "--model-repository is required" in said


def test_places_that_are_none(tmp_path):
    absent = tmp_path / "absent"
    status, said = start(absent)
    assert status == 3 and why(said, "repository_failed") == f"{absent}: not found"
    odd = tmp_path / "my model.fb"
    odd.write_bytes(TINY.read_bytes())
    status, said = start(odd)
    assert status == 3 and "my model.fb: a model is called by" in why(said, "repository_failed")


@pytest.mark.parametrize("option, event", [("--token-file", "token_failed"), ("--tls-cert", "tls_failed")])
def test_files_that_cannot_be_read(tmp_path, option, event):
    status, said = start(TINY, option, tmp_path / "absent", *(["--tls-key", "key"] if "tls" in option else []))
    assert status == 3 and why(said, event) == f"{tmp_path / 'absent'}: No such file or directory"
    (tmp_path / "short").write_text("short\n")
    status, said = start(TINY, "--token-file", tmp_path / "short")
    assert status == 3 and "short: the first line has fewer than 16 characters" in why(said, "token_failed")


def cut(folder):
    (folder / "cut.fb").write_bytes(TINY.read_bytes()[:2000])
    return folder / "cut.fb"


def other(folder):
    (folder / "other").write_text("no model at all, and not called like one\n" * 9)
    return folder / "other"


def without_version(folder):
    (folder / "models" / "tiny").mkdir(parents=True)
    (folder / "models" / "tiny" / "model.fb").write_bytes(TINY.read_bytes())
    return folder / "models"


@pytest.mark.parametrize("make, reason", [(cut, "the header says"), (other, "not a model file"),
                                          (without_version, "looked for at tiny/1/model.fb")])
def test_what_is_no_model(tmp_path, make, reason):
    with serving.Server(make(tmp_path)) as server:
        assert reason in server.events("model_failed")[0]["why"]
        assert server.facts["all_loaded"] is False and server.facts["models"] == 0
        assert server.request("GET", "/v2/health/ready")[0] == 503


def test_files_of_any_name_are_models_when_they_are_named(tmp_path):
    (tmp_path / "text").write_bytes(TEXT.read_bytes())
    with serving.Server(tmp_path / "text") as server:
        assert server.facts["models"] == 1 and server.request("GET", "/v2/models/text")[0] == 200
