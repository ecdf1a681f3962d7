"""When a request is tried again, and how long is waited before."""

import email.utils
from concurrent.futures import ThreadPoolExecutor

import openai
import pytest
import tenacity
from doors import http

import allos
from allos.deadline import Deadline
from allos.failures import IncompleteReplyError
from allos.messages import Choice, Message, Reply
from allos.retry import Budget, Policy, budget_for, retry_after

REQUEST = http.Request("POST", "http://service/v1/responses")


def status_error(status: int, headers: dict[str, str] | None = None, body: object = None) -> openai.APIStatusError:
    response = http.Response(status, headers=headers or {}, request=REQUEST)
    return openai.APIStatusError("failed", response=response, body=body)


def tries(policy: Policy, *failures: Exception) -> tuple[int, list[float], BaseException | None]:
    """How often a call that fails like that is made, the waits in between, and what it raises in the end."""
    left, waits, made = list(failures), [], 0

    def call() -> str:
        nonlocal made
        made += 1
        if left:
            raise left.pop(0)
        return "answer"

    try:
        tenacity.Retrying(**policy.options(Deadline()), sleep=waits.append)(call)
    except openai.APIError as error:
        return made, waits, error
    return made, waits, None


@pytest.mark.parametrize("status", [408, 409, 429, 500, 502, 503, 504, 520, 529])
def test_a_passing_failure_is_tried_again(status):
    assert tries(Policy(2), status_error(status))[0] == 2


@pytest.mark.parametrize("status", [400, 401, 402, 403, 404, 422])
def test_a_refusal_is_not_tried_again(status):
    made, _, error = tries(Policy(2), status_error(status))
    assert made == 1
    assert error is not None


def test_three_requests_are_the_most():
    assert tries(Policy(2), *[status_error(500)] * 9)[0] == 3


def test_no_retries_means_one_request():
    assert tries(Policy(0), *[status_error(500)] * 9)[0] == 1


@pytest.mark.parametrize("body", [{"code": "insufficient_quota"}, {"error": {"type": "insufficient_quota"}}])
def test_a_used_up_quota_is_not_tried_again(body):
    assert tries(Policy(2), status_error(429, body=body))[0] == 1


def test_the_server_may_forbid_a_retry():
    assert tries(Policy(2), status_error(500, {"x-should-retry": "false"}))[0] == 1


def test_a_refused_connection_is_tried_again():
    assert tries(Policy(2), openai.APIConnectionError(request=REQUEST))[0] == 2


def test_nothing_is_tried_again_after_text_has_come():
    came = IncompleteReplyError("cut", REQUEST, reply=Reply((Choice(Message.assistant("Par")),)))
    begun = IncompleteReplyError("cut", REQUEST, reply=Reply((Choice(),)))
    nothing = IncompleteReplyError("cut", REQUEST, reply=Reply())
    assert tries(Policy(2), came)[0] == 1
    assert tries(Policy(2), begun)[0] == 2
    assert tries(Policy(2), nothing)[0] == 2


def test_the_servers_wish_is_the_wait():
    assert tries(Policy(2), status_error(429, {"retry-after": "7.5"}))[1] == [7.5]
    assert tries(Policy(2), status_error(429, {"retry-after-ms": "250", "retry-after": "9"}))[1] == [0.25]


def test_a_wish_of_more_than_two_minutes_ends_the_call():
    made, waits, _ = tries(Policy(2), status_error(429, {"retry-after": "121"}))
    assert (made, waits) == (1, [])


@pytest.mark.parametrize("value", ["0", "-5", "nan", "inf", "soon", "", "Mon, 01 Jan 2001 00:00:00 GMT"])
def test_an_unusable_wish_counts_as_none(value):
    assert retry_after({"retry-after": value}) is None


def test_a_date_is_a_wish_too():
    assert retry_after({"retry-after": email.utils.formatdate(1_000_010, usegmt=True)}, now=1_000_000) == 10


def test_waits_grow_and_are_jittered():
    waits = [wait for _ in range(50) for wait in tries(Policy(4, budget=Budget(1e9)), *[status_error(500)] * 4)[1]]
    assert len(set(waits)) > 100
    assert all(0 <= wait <= 8 for wait in waits)


def test_a_dead_service_is_asked_less_than_twice_a_call_on_average():
    budget = Budget()
    made = sum(tries(Policy(2, budget=budget), *[status_error(503)] * 9)[0] for _ in range(200))
    assert made / 200 < 2


def test_the_caller_can_watch():
    seen = []
    tries(Policy(2, on_retry=seen.append), status_error(429, {"retry-after": "3"}))
    assert [(attempt.number, attempt.wait) for attempt in seen] == [(1, 3.0)]


def test_all_clients_of_an_address_share_its_budget():
    places = {"provider": "chat_completions", "model": "m", "base_url": "http://budget.test/v1"}
    clients = [
        allos.Client(**places, api_key="key-one"),
        allos.Client(**places | {"base_url": "http://budget.test/v1/"}, api_key="key-two"),
        allos.AsyncClient(**places),
    ]
    assert {client._policy.budget for client in clients} == {budget_for("http://budget.test/v1")}
    assert budget_for("http://other.test/v1") is not budget_for("http://budget.test/v1")


def test_a_budget_gives_no_retry_twice_to_many_threads():
    budget, wanted = Budget(100), 400
    with ThreadPoolExecutor(16) as pool:
        given = list(pool.map(lambda _: budget.spend(), range(wanted)))
    assert sum(given) == 100
