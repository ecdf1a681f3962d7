"""`allos probe`: what it prints, what it writes, and how it fails."""

from __future__ import annotations

import json
import tomllib

import pytest
from conftest import PATH, Canned, as_json, chat_reply

CONFIG = ".config/allos/config.toml"


def test_the_cost_is_said_before_and_a_table_after(call, server):
    server.answers[PATH] = chat_reply("Hi!")
    ran = call("probe", "--base-url", server.url, "-m", "tiny")
    assert ran.status == 0
    assert "at most 23 requests" in ran.err.splitlines()[0]
    lines = ran.out.splitlines()
    assert lines[0].split() == ["CHECK", "SEEN", "WITH", "tiny"]
    assert any(line.split()[:2] == ["chat", "yes"] for line in lines)
    assert any(line.split()[:2] == ["responses", "no"] for line in lines)
    assert len(server.requests) <= 23


def test_the_block_is_printed_as_toml(call, server):
    server.answers[PATH] = chat_reply("Hi!")
    ran = call("probe", "--base-url", server.url, "-m", "tiny", "--toml", "--name", "den")
    row = tomllib.loads(ran.out)["endpoints"]["den"]
    assert row["base_url"] == server.url
    assert row["responses"] is False
    assert row["needs_key"] is False


def test_what_is_written_can_be_asked_at_once_and_is_not_written_twice(call, server, tmp_path):
    server.answers[PATH] = chat_reply("Hi!")
    file = tmp_path / CONFIG
    file.parent.mkdir(parents=True)
    file.write_text("temperature = 0.5\n")
    ran = call("probe", "--base-url", server.url, "-m", "tiny", "--write", "--name", "den")
    assert ran.status == 0
    assert str(file) in ran.err
    written = tomllib.loads(file.read_text())
    assert written["temperature"] == 0.5
    assert written["endpoints"]["den"]["default_model"] == "tiny"
    asked = len(server.requests)
    again = call("probe", "--base-url", server.url, "-m", "tiny", "--write", "--name", "den")
    assert again.status == 2
    assert "--name" in again.err
    assert len(server.requests) == asked


@pytest.mark.parametrize("name", ["bad name!", "llama.cpp", "größe", "a]\nb"])
@pytest.mark.parametrize("option", ["--write", "--toml"])
def test_a_name_that_would_break_the_file_is_refused_before_the_first_request(call, server, tmp_path, name, option):
    ran = call("probe", "--base-url", server.url, "-m", "tiny", option, "--name", name)
    assert (ran.status, ran.out, server.requests) == (2, "", [])
    assert "letters, digits, - and _ only" in ran.err
    assert not (tmp_path / CONFIG).exists()


@pytest.mark.parametrize("hindrance", ["a file where the folder belongs", "rights"])
def test_a_file_that_can_not_be_written_is_one_clear_error_before_the_first_request(
    call, server, tmp_path, hindrance, monkeypatch
):
    file = tmp_path / CONFIG
    if hindrance == "rights":
        monkeypatch.setattr("os.access", lambda path, mode: False)  # root may write everywhere
    else:
        file.parent.parent.mkdir()
        file.parent.write_text("")
    ran = call("probe", "--base-url", server.url, "-m", "tiny", "--write", "--name", "den")
    assert (ran.status, ran.out, server.requests) == (2, "", [])
    assert ran.err.startswith(f"Error: Can't write {file.parent}")
    assert ran.err.count("\n") == 1


def test_what_was_seen_is_shown_where_it_can_not_be_written_after_all(call, server, tmp_path):
    server.answers[PATH] = chat_reply("Hi!")
    (tmp_path / CONFIG).mkdir(parents=True)
    ran = call("probe", "--base-url", server.url, "-m", "tiny", "--write", "--toml", "--name", "den")
    assert ran.status == 2
    assert ran.err.endswith(f"Error: Can't write {tmp_path / CONFIG}: Is a directory.\n")
    assert tomllib.loads(ran.out)["endpoints"]["den"]["default_model"] == "tiny"


def test_an_alias_that_would_break_the_file_needs_another_name(call, server, tmp_path):
    file = tmp_path / CONFIG
    file.parent.mkdir(parents=True)
    file.write_text(f'[endpoints."my.server"]\nbase_url = "{server.url}"\n')
    ran = call("probe", "my.server", "-m", "tiny", "--toml")
    assert (ran.status, server.requests) == (2, [])
    assert "'my.server' can't be the name" in ran.err
    assert "--name" in ran.err


@pytest.mark.parametrize("option", ["--write", "--toml"])
@pytest.mark.parametrize("alias", [[], ["local"]])
def test_the_embedded_model_has_no_address_to_keep(call, tmp_path, alias, option):
    ran = call("probe", *alias, option)
    assert (ran.status, ran.out) == (2, "")
    assert "embedded model" in ran.err.splitlines()[-1]
    assert not (tmp_path / CONFIG).exists()


@pytest.mark.parametrize("option", [[], ["--toml"], ["--write"]])
def test_a_deadline_ends_the_probe_with_what_was_found_and_writes_nothing(call, server, tmp_path, option):
    server.answers["/v1/models"] = as_json({"data": [{"id": "tiny"}]})
    server.answers[PATH] = Canned([b""], hold=True)
    ran = call("probe", "--base-url", server.url, "--deadline", "0.5", *option)
    assert ran.status == 5
    assert "Error: The 0.5 s for the whole probe were over after 1 of 21 checks" in ran.err
    assert "--deadline" in ran.err
    assert ran.out == ("" if option == ["--toml"] else "CHECK        SEEN WITH tiny\nmodels  yes  1: tiny\n")
    assert not (tmp_path / CONFIG).exists()


def test_everything_is_there_as_json(call, server):
    server.answers[PATH] = chat_reply("Hi!")
    ran = call("probe", "--base-url", server.url, "-m", "tiny", "--json")
    told = json.loads(ran.out)
    assert told["model"] == "tiny"
    assert told["row"]["chat"] is True
    assert {"check", "good", "said"} == set(told["findings"][0])


def test_a_server_that_is_not_there_is_one_clear_error(call):
    ran = call("probe", "--base-url", "http://127.0.0.1:9/v1")
    assert ran.status == 5
    assert ran.out == ""
    assert "can't be reached" in ran.err


def test_a_service_named_twice_is_refused(call):
    ran = call("probe", "groq", "-p", "mistral")
    assert ran.status == 2
    assert "Two services are named: 'groq' and --provider 'mistral'" in ran.err


def test_two_forms_at_once_are_refused(call, server):
    ran = call("probe", "--base-url", server.url, "--toml", "--json")
    assert (ran.status, ran.out, server.requests) == (2, "", [])
    assert "--toml and --json" in ran.err
