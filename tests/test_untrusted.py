"""What a program or a server names is handed on or refused; Allos fetches and opens nothing by itself."""

from __future__ import annotations

import pytest
from answers import body

import allos
from allos import weights
from allos.errors import ConfigurationError

PLACES = [
    "http://169.254.169.254/latest/meta-data",
    "http://127.0.0.1:1/x.png",
    "file:///etc/passwd",
    "http://[fe80::1]/",
]
ASKED = "What is on it?"


@pytest.mark.fault("N10")
@pytest.mark.parametrize("place", PLACES)
@pytest.mark.parametrize("api", ["chat", "responses"])
@pytest.mark.parametrize("wire", ["chat", "responses"])
def test_the_drop_in_hands_on_an_address_and_fetches_nothing(api, wire, place, sockets):
    with allos.OpenAI("chat_completions", base_url="http://service.test/v1", wire=wire, max_retries=0) as client:
        if api == "chat":
            parts = [{"type": "text", "text": ASKED}, {"type": "image_url", "image_url": {"url": place}}]
            client.chat.completions.create(model="m", messages=[{"role": "user", "content": parts}])
        else:
            parts = [{"type": "input_text", "text": ASKED}, {"type": "input_image", "image_url": place}]
            client.responses.create(model="m", input=[{"role": "user", "content": parts}])
    assert sockets.hosts == ["service.test"]
    assert place in str(body(sockets.last))


@pytest.mark.fault("N10")
@pytest.mark.parametrize("place", PLACES)
def test_the_client_hands_on_an_address_and_fetches_nothing(wire, place, sockets):
    message = allos.Message.user([ASKED, allos.Image(url=place)])
    with allos.Client("chat_completions", "m", base_url="http://service.test/v1", wire=wire, max_retries=0) as client:
        client.chat(message)
    assert sockets.hosts == ["service.test"]
    assert place in str(body(sockets.last))


@pytest.mark.fault("N11")
@pytest.mark.parametrize("name", ["../../x", "/etc/passwd", "x" * 400, "smollm2\n", "..", "\0"])
def test_no_name_of_a_model_leaves_the_folder_of_the_models(name, monkeypatch, tmp_path):
    monkeypatch.setenv("XDG_DATA_HOME", str(tmp_path / "data"))
    with pytest.raises(ConfigurationError, match="Unknown local model"):
        weights.find(name)
    assert not (tmp_path / "data").exists()
