"""Many callers and a service that is down: what they ask of it together."""

from __future__ import annotations

import asyncio
import itertools
import threading
from concurrent.futures import ThreadPoolExecutor
from types import SimpleNamespace

import openai
import pytest
from doors import http

import allos
from allos import retry
from allos.retry import Budget, budget_for

THREADS, CALLS_EACH, ASYNC_CALLS = 50, 4, 200
_hosts = itertools.count()


class Dead:
    """A service that answers everybody with 503, and counts."""

    def __init__(self) -> None:
        self.requests = 0
        self.waits: list[float] = []
        self.base_url = f"http://storm-{next(_hosts)}.test/v1"
        self._lock = threading.Lock()

    def __call__(self, request):
        with self._lock:
            self.requests += 1
        return http.Response(503, json={"error": {"message": "down"}})

    def client(self, kind=allos.Client, key="key-one", **arguments):
        made = openai.DefaultHttpxClient if kind is allos.Client else openai.DefaultAsyncHttpxClient
        transport = made(transport=http.MockTransport(self))
        return kind("chat_completions", "m", base_url=self.base_url, api_key=key, http_client=transport, **arguments)


@pytest.fixture
def dead(monkeypatch):
    """The service; whoever would wait before a retry goes on at once, and the wait is kept."""
    service = Dead()

    async def asleep(seconds, result=None):
        service.waits.append(seconds)

    monkeypatch.setattr("tenacity.nap.time", SimpleNamespace(sleep=service.waits.append))
    monkeypatch.setattr("asyncio.sleep", asleep)
    return service


def ask(client):
    with pytest.raises(openai.InternalServerError):
        client.chat("hi")


async def aask(client):
    with pytest.raises(openai.InternalServerError):
        await client.chat("hi")


def at_most_twice(service, calls):
    assert service.requests == calls + len(service.waits)
    assert service.requests <= 2 * calls


def test_many_threads_ask_a_dead_service_at_most_twice_a_call(dead):
    with dead.client() as client, ThreadPoolExecutor(THREADS) as pool:
        list(pool.map(ask, [client] * (THREADS * CALLS_EACH)))
    at_most_twice(dead, THREADS * CALLS_EACH)


async def test_many_tasks_ask_a_dead_service_at_most_twice_a_call(dead):
    async with dead.client(allos.AsyncClient) as client:
        await asyncio.gather(*(aask(client) for _ in range(ASYNC_CALLS)))
    at_most_twice(dead, ASYNC_CALLS)


async def test_what_many_callers_ask_again_is_spread_over_time(dead, monkeypatch):
    monkeypatch.setitem(retry._budgets, dead.base_url, Budget(1e9))
    async with dead.client(allos.AsyncClient) as client:
        await asyncio.gather(*(aask(client) for _ in range(ASYNC_CALLS)))
    assert len(set(dead.waits)) == 2 * ASYNC_CALLS
    tenths = [sum(1 for wait in dead.waits if place <= wait * 10 < place + 1) for place in range(10)]
    assert max(tenths) < 0.15 * len(dead.waits)  # 0.075 is the fair share of each


async def test_clients_of_all_kinds_and_keys_share_what_they_may_ask(dead):
    clients = [dead.client(key=f"key-{number}") for number in range(10)]
    others = [dead.client(allos.AsyncClient, key=f"key-{number}", max_retries=9) for number in range(10)]
    for _ in range(10):
        for client in clients:
            await asyncio.to_thread(ask, client)
        await asyncio.gather(*map(aask, others))
    at_most_twice(dead, 200)
    assert not budget_for(dead.base_url).spend()


def test_a_service_that_is_back_gets_its_retries_back(dead):
    budget = budget_for(dead.base_url)
    with dead.client() as client:
        for _ in range(40):
            ask(client)
    assert not budget.spend()
    for _ in range(20):
        budget.earn()
    assert all(budget.spend() for _ in range(10))
