"""Python functions as tools: what the model is told, what is run, and when the talk is over."""

from __future__ import annotations

import asyncio
import contextvars
import functools
import json
import threading

import answers
import pydantic
import pytest
from doors import asked

import allos
from allos.messages import Image, Message, Text, Tool
from allos.tools import function_tool

CITY = '{"city": "Paris"}'


class Report(pydantic.BaseModel):
    sky: str


class Place(pydantic.BaseModel):
    city: str
    days: int = 1


def weather(city: str) -> str:
    """The weather in a city."""
    return f"Rain in {city}"


def positional(city: str, /) -> str:
    return city


def untyped(city):
    return city


class Scripted:
    """A server that calls these tools, one list a request, and then answers with a text."""

    def __init__(self, *steps):
        self.steps = list(steps)
        self.bodies, self.results = [], []

    def __call__(self, request):
        self.bodies.append(answers.body(request))
        self.results.append(answers.results(request))
        made = self.steps.pop(0) if self.steps else []
        return answers.call(request, *made) if made else answers.answer(request, "It ", "rains.")


def described(body, wire):
    tools = body["tools"]
    return [tool["function"] if wire == "chat" else tool for tool in tools]


async def test_a_function_is_run_and_its_result_goes_back(mock_door, wire, streamed):
    server = Scripted([("call_1", "weather", CITY)])
    reply = await asked(mock_door(server, wire=wire), "Umbrella?", tools=[weather], streamed=streamed)
    assert (reply.text, reply.finish_reason) == ("It rains.", "stop")
    assert server.results == [{}, {"call_1": "Rain in Paris"}]
    [tool] = described(server.bodies[0], wire)
    assert (tool["name"], tool["description"]) == ("weather", "The weather in a city.")
    assert tool["parameters"]["properties"] == {"city": {"title": "City", "type": "string"}}
    assert tool["parameters"]["required"] == ["city"]


async def test_a_stream_shows_the_call_and_goes_on_to_the_text(mock_door, wire):
    server = Scripted([("call_1", "weather", CITY)])
    steps = mock_door(server, wire=wire).stream("Umbrella?", tools=[weather])
    deltas = [delta async for delta in steps]
    called = [delta.tool_call for delta in deltas if delta.tool_call]
    assert called[0].name == "weather"
    assert "".join(call.arguments for call in called) in (CITY, "")
    assert "".join(delta.text for delta in deltas) == "It rains."
    assert steps.reply.text == "It rains."


async def test_parallel_calls_run_side_by_side_and_answer_in_order(mock_door, wire, streamed):
    together = threading.Barrier(2, timeout=20)

    def meet(name: str) -> str:
        together.wait()
        return f"met {name}"

    calls = [("call_1", "meet", '{"name": "Ada"}'), ("call_2", "meet", '{"name": "Bob"}')]
    server = Scripted(calls)
    await asked(mock_door(server, wire=wire), "Meet.", tools=[meet], streamed=streamed)
    assert list(server.results[1].items()) == [("call_1", "met Ada"), ("call_2", "met Bob")]


async def test_a_failing_tool_is_the_models_to_read(mock_door, wire, streamed):
    def broken(city: str) -> str:
        raise LookupError(f"no station in {city}")

    server = Scripted([("call_1", "broken", CITY)])
    reply = await asked(mock_door(server, wire=wire), "hi", tools=[broken], streamed=streamed)
    assert reply.text == "It rains."
    assert server.results[1] == {"call_1": "Error: LookupError: no station in Paris"}


@pytest.mark.fault("D5")
@pytest.mark.parametrize(
    ("name", "arguments", "words"),
    [
        ("wether", CITY, "There is no tool 'wether'; there are weather."),
        ("weather", '{"city": ', "JSONDecodeError"),
        ("weather", '["Paris"]', "must be a JSON object, not list"),
        ("weather", "{}", "city"),
        ("weather", '{"city": "Paris", "day": 3}', "day"),
    ],
)
async def test_a_call_that_can_not_be_made_is_told_to_the_model_and_runs_nothing(
    mock_door, wire, name, arguments, words
):
    ran = []

    def weather(city: str) -> str:
        ran.append(city)
        return "Rain"

    server = Scripted([("call_1", name, arguments)])
    reply = await mock_door(server, wire=wire).chat("hi", tools=[weather])
    assert reply.text == "It rains."
    assert server.results[1]["call_1"].startswith("Error: ")
    assert words in server.results[1]["call_1"]
    assert not ran


@pytest.mark.parametrize("arguments", ["", "null", "{}"])
async def test_a_tool_without_parameters_runs_whatever_stands_for_none(mock_door, wire, arguments):
    def now() -> str:
        return "noon"

    server = Scripted([("call_1", "now", arguments)])
    await mock_door(server, wire=wire).chat("hi", tools=[now])
    assert server.results[1] == {"call_1": "noon"}


async def test_an_asynchronous_function_is_a_tool_of_both_colours(mock_door, wire, streamed):
    async def weather(city: str) -> str:
        await asyncio.sleep(0)
        return f"Sun in {city}"

    server = Scripted([("call_1", "weather", CITY), ("call_2", "weather", CITY)])
    await asked(mock_door(server, wire=wire), "hi", tools=[weather], streamed=streamed)
    assert server.results[1] == {"call_1": "Sun in Paris", "call_2": "Sun in Paris"}


async def test_the_loop_ends_after_max_steps_with_the_open_calls(mock_door, wire, streamed):
    ran = []

    def again() -> str:
        ran.append(1)
        return "once more"

    server = Scripted(*[[(f"call_{step}", "again", "{}")] for step in range(9)])
    reply = await asked(mock_door(server, wire=wire), "hi", tools=[again], max_steps=3, streamed=streamed)
    assert len(server.bodies) == 3
    assert len(ran) == 2
    assert [call.id for call in reply.tool_calls] == ["call_2"]
    assert reply.finish_reason == "tool_calls"


@pytest.mark.parametrize("choice", ["required", "weather"])
async def test_a_forced_choice_holds_for_the_first_step_only(mock_door, wire, choice):
    server = Scripted([("call_1", "weather", CITY)])
    await mock_door(server, wire=wire).chat("hi", tools=[weather], tool_choice=choice)
    first, second = server.bodies
    assert first["tool_choice"] != "auto"
    assert second["tool_choice"] == "auto"


@pytest.mark.parametrize("provider", ["chat_completions", "llamacpp"])  # the second can't be told a name
@pytest.mark.parametrize("choice", ["nope", allos.ToolChoice("allowed", names=("weather", "nope"))])
async def test_a_tool_choice_that_names_no_tool_is_refused_with_those_that_there_are(
    mock_door, wire, provider, choice, streamed
):
    door = mock_door(Scripted(), provider=provider, wire=wire)
    for tools, words in (([weather], "names 'nope', but the tools are 'weather'"), ([], "but there are no tools")):
        with pytest.raises(allos.ConfigurationError, match=words):
            await asked(door, "hi", tools=tools, tool_choice=choice, streamed=streamed)


def test_a_tool_choice_may_name_what_a_prompt_of_the_service_brings(mock_client):
    server = Scripted()
    with mock_client(server, wire="responses") as client:
        client.chat("hi", tool_choice="look", extra={"prompt": {"id": "pmpt_1"}})
    assert server.bodies[0]["tool_choice"]["name"] == "look"


@pytest.mark.parametrize(
    "tool",
    [
        Tool("elsewhere", "Runs at the caller's.", {"type": "object", "properties": {}}),
        {"type": "function", "function": {"name": "elsewhere", "parameters": {"type": "object", "properties": {}}}},
        {"type": "function", "name": "elsewhere", "parameters": {"type": "object", "properties": {}}},
    ],
    ids=["value", "chat", "responses"],
)
async def test_a_tool_without_a_function_is_the_callers_to_run(mock_door, wire, tool):
    server = Scripted([("call_1", "weather", CITY), ("call_2", "elsewhere", "{}")])
    reply = await mock_door(server, wire=wire).chat("hi", tools=[weather, tool])
    assert [call.name for call in reply.tool_calls] == ["weather", "elsewhere"]
    assert len(server.bodies) == 1
    assert [entry["name"] for entry in described(server.bodies[0], wire)] == ["weather", "elsewhere"]


async def test_what_a_tool_returns_becomes_text_as_json_or_stays_a_part(mock_door, wire):
    def report() -> Report:
        return Report(sky="grey")

    def numbers() -> dict[str, list[int]]:
        return {"degrees": [11, 12]}

    def words() -> Text:
        return Text("as it is")

    def nothing() -> None:
        return None

    tools = [report, numbers, words, nothing]
    server = Scripted([(f"call_{tool.__name__}", tool.__name__, "{}") for tool in tools])
    await mock_door(server, wire=wire).chat("hi", tools=tools)
    assert server.results[1] == {
        "call_report": '{"sky":"grey"}',
        "call_numbers": '{"degrees":[11,12]}',
        "call_words": "as it is",
        "call_nothing": "null",
    }


async def test_a_picture_goes_back_as_a_picture_where_the_api_can_say_it(mock_door):
    def look() -> list[Text | Image]:
        return [Text("Here:"), Image.from_bytes(b"png")]

    server = Scripted([("call_1", "look", "{}")])
    await mock_door(server, wire="responses").chat("hi", tools=[look])
    assert [part["type"] for part in server.results[1]["call_1"]] == ["input_text", "input_image"]


async def test_arguments_come_as_the_types_that_the_function_asks_for(mock_door, wire):
    seen = []

    def forecast(place: Place, *, unit: str = "C") -> str:
        seen.append((place, unit))
        return "fine"

    server = Scripted([("call_1", "forecast", '{"place": {"city": "Rome", "days": "3"}, "unit": "F"}')])
    await mock_door(server, wire=wire).chat("hi", tools=[forecast])
    assert seen == [(Place(city="Rome", days=3), "F")]


async def test_a_tool_sees_the_context_of_its_caller(mock_door, streamed):
    user = contextvars.ContextVar("user", default="nobody")

    def whoami() -> str:
        return user.get()

    server = Scripted([("call_1", "whoami", "{}"), ("call_2", "whoami", "{}")])
    user.set("ada")
    await asked(mock_door(server), "hi", tools=[whoami], streamed=streamed)
    assert server.results[1] == {"call_1": "ada", "call_2": "ada"}


def test_a_tool_that_is_interrupted_interrupts_the_call(mock_client):
    def stop() -> str:
        raise KeyboardInterrupt

    with mock_client(Scripted([("call_1", "stop", "{}")])) as client, pytest.raises(KeyboardInterrupt):
        client.chat("hi", tools=[stop])


async def test_the_turns_of_the_loop_are_those_of_the_conversation(mock_door, wire):
    server = Scripted([("call_1", "weather", CITY)], [("call_2", "weather", CITY)])
    await mock_door(server, wire=wire).chat([Message.system("Be brief."), "Umbrella?"], tools=[weather])
    last = server.bodies[-1]
    if wire == "chat":
        assert [turn["role"] for turn in last["messages"]] == [
            "system",
            "user",
            "assistant",
            "tool",
            "assistant",
            "tool",
        ]
    else:
        kinds = [item["type"] for item in last["input"]]
        called = ["function_call", "function_call_output"]
        assert kinds[-5:] == ["message", *called, *called]


@pytest.mark.parametrize(
    ("tools", "words"),
    [
        ([weather, weather], "Two tools are named 'weather'"),
        ([3], "3 is not a tool"),
        (3, "tools=3 is no list of tools"),
        (weather, "is no list of tools"),
        ({"type": "function", "name": "look"}, "is no list of tools"),
        ([positional], "positional-only"),
        ([lambda city: city], "A tool needs a name.* write it as a def"),
        ([functools.partial(lambda city: city)], "A tool needs a name"),
        ([{"type": "function", "function": {}}], "needs a name"),
        ([{"type": "function"}], "needs a name"),
        ([print], r"'print' can't be a tool: <built-in function print> has no JSON schema\. Pass a def [^.]*\.$"),
        ([untyped], None),
    ],
)
def test_what_can_not_be_a_tool_is_refused_with_the_reason(mock_client, tools, words):
    client = mock_client(lambda request: answers.answer(request, "hi"))
    if words is None:
        assert client.chat("hi", tools=tools).text == "hi"
        return
    with pytest.raises(allos.ConfigurationError, match=words):
        client.chat("hi", tools=tools)


def test_a_parameter_without_a_json_type_is_named():
    def send(sock: threading.Lock) -> None: ...

    with pytest.raises(allos.ConfigurationError, match="'send' can't be a tool"):
        function_tool(send)


class Thermometer:
    """An instrument."""

    def read(self, room: str) -> float:
        """Degrees in a room."""
        return 21.5

    def __call__(self, room: str) -> float:
        return self.read(room)


@pytest.mark.parametrize(
    ("function", "name", "description"),
    [
        (Thermometer().read, "read", "Degrees in a room."),
        (Thermometer(), "Thermometer", "An instrument."),
        (functools.partial(weather), "weather", "The weather in a city."),
    ],
)
async def test_methods_callable_objects_and_partial_functions_are_tools(mock_door, function, name, description):
    tool = function_tool(function)
    assert (tool.name, tool.description) == (name, description)
    [parameter] = tool.parameters["properties"]
    server = Scripted([("call_1", name, json.dumps({parameter: "Paris"}))])
    await mock_door(server).chat("hi", tools=[function])
    assert server.results[1]["call_1"] in ("21.5", "Rain in Paris")


def test_an_annotation_that_can_not_be_found_is_named():
    class Hidden(pydantic.BaseModel):
        x: int

    def show(hidden: Hidden) -> str: ...

    with pytest.raises(allos.ConfigurationError, match="'Hidden' is not defined in its module"):
        function_tool(show)
