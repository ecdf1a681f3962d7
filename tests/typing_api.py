"""Our users' view of the types: checked by mypy, never run."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterator
from typing import assert_type

import openai
import pydantic
from openai.types.chat import ChatCompletion
from openai.types.responses import Response

import allos


class Answer(pydantic.BaseModel):
    city: str


def weather(city: str) -> str:
    """The weather in a city."""
    return f"Sunny in {city}."


def unified() -> None:
    with allos.Client("groq", "openai/gpt-oss-20b", timeout=30, max_retries=0) as client:
        reply = client.chat(
            [allos.Message.user("Hi"), {"role": "user", "content": "there"}], tools=[weather], schema=Answer
        )
        assert_type(reply, allos.Reply)
        assert_type(reply.text, str)
        assert_type(reply.usage, allos.Usage | None)
        assert_type(client.models(), list[str])
        stream = client.stream("Hi", temperature=0.2)
        assert_type(iter(stream), Iterator[allos.Delta])
        assert_type(stream.reply.tool_calls, tuple[allos.ToolCall, ...])
    assert_type(allos.chat("Hi"), allos.Reply)


async def unified_async() -> None:
    async with allos.AsyncClient("groq") as client:
        assert_type(await client.chat("Hi"), allos.Reply)
        stream = client.stream("Hi")
        assert_type(aiter(stream), AsyncIterator[allos.Delta])


def dropin() -> None:
    client = allos.OpenAI("groq")
    as_official: openai.OpenAI = client
    assert_type(as_official.chat.completions.create(model="m", messages=[]), ChatCompletion)
    response = client.responses.create(model="m", input="Hi")
    assert_type(response, Response)
    receipt = allos.receipt(response)
    if receipt is not None:
        assert_type(receipt.spoken, allos.Wire)
    assert_type(client.with_options(timeout=3), allos.OpenAI)


def errors() -> None:
    try:
        unified()
    except allos.IncompleteReplyError as error:
        as_official: openai.APIError = error
        assert_type(error.reply, allos.Reply)
        print(as_official.message)
    except allos.ParseError as error:
        assert_type(error.reply, allos.Reply)
    except allos.KeyMissing as error:
        as_value_error: ValueError = error
        print(as_value_error)
