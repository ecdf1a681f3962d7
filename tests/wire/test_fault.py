"""The server's words are found in every shape of error body."""

import pytest

from allos.wire.fault import dig


@pytest.mark.parametrize(
    "body",
    [
        {"error": {"message": "no such model"}},
        {"error": "no such model"},
        {"message": "no such model"},
        {"detail": "no such model"},
        {"error": {"error": {"message": "no such model"}}},
        [{"error": {"code": 404, "message": "no such model", "status": "NOT_FOUND"}}],
        {"errors": [{"code": 7003, "message": "no such model"}]},
        {"error": {"message": '{"error": {"message": "no such model"}}'}},
        '{"error": "no such model"}',
        "no such model",
        b"no such model",
        {"object": "error", "message": "no such model", "type": "NotFoundError", "param": None, "code": 404},
    ],
    ids=str,
)
def test_the_message_is_found(body):
    assert dig(body).message == "no such model"


def test_the_upstreams_words_are_added():
    body = {"error": {"message": "Provider returned error", "code": 429, "metadata": {"raw": '{"error":"slow down"}'}}}
    assert dig(body).message == "Provider returned error: slow down"
    assert dig(body).status == 429


def test_a_validation_error_says_where():
    body = {"detail": [{"loc": ["body", "messages"], "msg": "Field required", "type": "missing"}]}
    assert dig(body).message == "body.messages: Field required"


def test_a_web_page_is_named_and_not_quoted():
    fault = dig("<!DOCTYPE html><html><head><title>502 Bad Gateway</title></head><body>secret</body></html>")
    assert fault.message == "a web page titled '502 Bad Gateway'"


def test_the_code_type_and_parameter_are_kept():
    fault = dig({"error": {"message": "m", "code": "c", "type": "t", "param": "p"}})
    assert (fault.code, fault.type, fault.param, fault.status) == ("c", "t", "p", None)


@pytest.mark.parametrize("body", [None, {}, [], "", 7, {"error": None}, {"error": {}}])
def test_a_body_without_words_gives_an_empty_message(body):
    assert dig(body).message == ""


def test_a_long_text_is_shortened():
    assert len(dig("x" * 10_000).message) == 300


def test_a_body_that_is_nested_to_no_purpose_says_nothing():
    body = "x"
    for _ in range(2000):
        body = {"error": body}
    assert dig(body).message == ""
