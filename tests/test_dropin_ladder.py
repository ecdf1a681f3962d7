"""An object of a schema through the drop-in: the ladder of the clients, behind the SDK's own methods and types."""

from __future__ import annotations

import json
import warnings
from collections.abc import Callable
from typing import Any

import answers
import openai
import programs
import pytest
from doors import http
from ladders import PARIS, STANDARD, Place, Service, way_of
from programs import PROGRAMS, done, each, opened

import allos
from allos import endpoints

ROADS = [("chat", "chat"), ("responses", "responses"), ("responses", "chat"), ("chat", "responses")]


@pytest.fixture(autouse=True)
def nothing_kept():
    """What one test taught or registered is unknown to the next."""
    yield
    endpoints._registered.pop("poor", None)
    endpoints._table.cache_clear()


@pytest.fixture(params=ROADS, ids=["chat", "responses", "responses-over-chat", "chat-over-responses"])
def road(request: pytest.FixtureRequest) -> tuple[str, str]:
    return request.param


@pytest.fixture
def program(colour: str, road: tuple[str, str]) -> Callable[..., Any]:
    """`program(server)`: what a program writes against one API, at a service that speaks one."""

    def make(server: Callable[[Any], Any], provider: str = "chat_completions", **options: Any) -> Any:
        asked, spoken = road
        kind = allos.OpenAI if colour == "sync" else allos.AsyncOpenAI
        library = openai.DefaultHttpxClient if colour == "sync" else openai.DefaultAsyncHttpxClient
        where = {"base_url": "http://mock.test/v1", "api_key": "sk-mock"} if provider == "chat_completions" else {}
        transport = library(transport=http.MockTransport(lambda request: answers.with_own_id(server(request))))
        made = {"http_client": transport, "max_retries": 0, "wire": spoken, **where, **options}
        return PROGRAMS[asked](kind(provider, **made))

    return make


async def parsed(program: Any, streamed: bool = False, **options: Any) -> tuple[Any, Any]:
    """The object of a call, through the SDK's own helper, and the answer that it came in."""
    asks = {**program.asks("Where?"), program.schema: Place, **options}
    if not streamed:
        answer = await done(program.resource.parse(**asks))
    else:
        async with opened(program.resource.stream(**asks)) as stream:
            await each(stream)
            answer = await program.final(stream)
    return program.parsed(answer), answer


async def said(program: Any, question: str, /, **options: Any) -> Any:
    """What `create` gives for this question."""
    return await done(program.resource.create(**program.asks(question), **options))


async def read(program: Any, question: str, /, *, stream: bool, **options: Any) -> None:
    """Read all that `create` gives for this question."""
    answer = await said(program, question, stream=stream, **options)
    if stream:
        await each(answer)


def told(answer: Any) -> list[tuple[str, str]]:
    """What its receipt says of the way to an object."""
    return [(note.action, note.reason) for note in allos.receipt(answer).notes if note.what == "schema"]


def form(asked: str) -> dict[str, Any]:
    """The field that asks for a place in one API."""
    its = {"name": "place", "schema": Place.model_json_schema()}
    if asked == "chat":
        return {"response_format": {"type": "json_schema", "json_schema": its}}
    return {"text": {"format": {"type": "json_schema", **its}}}


REFUSED = [  # and where the next call begins: the last of three tries goes to the prompt
    ((), ["json_schema"], "json_schema"),
    (("json_schema",), ["json_schema", "tool"], "tool"),
    (("json_schema", "tool"), ["json_schema", "tool", "prompt"], "json_object"),
]
SAID = {"json_schema": "as json_schema", "tool": "as a call that is forced", "prompt": "in the prompt"}


@pytest.mark.parametrize(("refuses", "ways", "then"), REFUSED)
async def test_a_refused_way_is_followed_by_the_next_and_remembered(program, streamed, refuses, ways, then):
    service = Service(refuses)
    its = program(service)
    found, answer = await parsed(its, streamed)
    assert found == Place(city="Paris")
    assert json.loads(its.text(answer)) == {"city": "Paris"}
    assert not its.cut(answer)
    assert not its.calls(answer)
    assert service.ways == ways
    assert told(answer) == [("routed", f"asked for {SAID[ways[-1]]}")]
    again, _ = await parsed(its, streamed)
    assert again == found
    assert service.ways == [*ways, then]


async def test_what_passes_as_it_is_keeps_its_bytes(program, road):
    asked, spoken = road
    if asked != spoken:
        pytest.skip("a translation")
    sent = {**answers.whole(spoken, PARIS), "id": "mine", "zest": {"a": [1.0]}}
    its = program(lambda request: http.Response(200, json=sent))
    raw = await done(its.resource.with_raw_response.create(**its.asks("Where?"), **form(asked)))
    assert json.loads(raw.http_response.content) == sent


async def test_events_of_a_forced_call_are_those_of_a_text(program, road):
    its = program(Service(("json_schema",)))
    events = await each(await said(its, "Where?", stream=True, **form(road[0])))
    assert json.loads(its.streamed_text(events)) == {"city": "Paris"}
    assert "function_call" not in json.dumps([event.to_dict() for event in events])
    assert '"tool_calls"' not in json.dumps([event.to_dict() for event in events])


async def test_a_refusal_in_the_first_event_is_one_too(program, road, streamed):
    def server(request: Any) -> Any:
        body = answers.body(request)
        ways.append(way_of(body))
        if ways[-1] == "json_schema":
            error = {"error": {"message": "response_format is not supported", "code": 400}}
            return answers.events([f"data: {json.dumps(error)}\n\n"]) if streamed else http.Response(400, json=error)
        return answers.call(request, ("call_1", "Place", PARIS))

    ways: list[str] = []
    found, _ = await parsed(program(server), streamed)
    assert found == Place(city="Paris")
    assert ways == ["json_schema", "tool"]


@pytest.mark.parametrize("message", ["temperature is too high", "maximum context length is 10 tokens for this schema"])
async def test_another_error_is_the_programs(program, streamed, message):
    def server(request: Any) -> Any:
        tries.append(request)
        return http.Response(400, json={"error": {"message": message}})

    tries: list[Any] = []
    with pytest.raises(openai.BadRequestError, match=message.split()[0]):
        await parsed(program(server), streamed)
    assert len(tries) == 1


async def test_where_all_ways_are_refused_the_last_refusal_is_the_programs(program, streamed):
    service = Service(STANDARD)
    with pytest.raises(openai.BadRequestError, match="prompt: this schema is not supported"):
        await parsed(program(service), streamed)
    assert len(service.ways) == 3


async def test_a_refusal_of_this_schema_teaches_nothing_about_others(program):
    def server(request: Any) -> Any:
        ways.append(way_of(answers.body(request)))
        if len(ways) == 1:
            return http.Response(400, json={"error": {"message": "Invalid schema for response_format 'Place'"}})
        if ways[-1] == "tool":
            return answers.call(request, ("call_1", "Place", PARIS))
        return answers.answer(request, PARIS)

    ways: list[str] = []
    its = program(server)
    await parsed(its)
    await parsed(its)
    assert ways == ["json_schema", "tool", "json_schema"]


async def test_an_answer_that_does_not_fit_is_asked_for_once_more_with_what_is_wrong(program):
    service = Service(say=lambda count: '{"town": "Paris"}' if count == 1 else PARIS)
    found, answer = await parsed(program(service))
    assert found == Place(city="Paris")
    assert service.ways == ["json_schema", "json_schema"]
    assert "lacks 'city'" in json.dumps(service.bodies[1])
    again = "it was asked again, as the answer lacks 'city' (7 tokens in, 3 out)"
    assert told(answer)[-1] == ("repaired", again)


async def test_prose_says_that_the_way_is_ignored_and_two_calls_teach_to_leave_it(program):
    service = Service(say=lambda count: "Paris, I think." if count in (1, 3) else PARIS)
    its = program(service)
    for _ in range(3):
        found, _ = await parsed(its)
        assert found == Place(city="Paris")
    assert service.ways == ["json_schema", "tool", "json_schema", "tool", "tool"]


async def test_where_schemas_and_forced_calls_are_ignored_the_prompt_asks_as_if_for_the_first_time(program):
    service = Service(say=lambda count: "Paris, I think." if count < 3 else PARIS)
    found, answer = await parsed(program(service))
    assert found == Place(city="Paris")
    assert service.ways == ["json_schema", "tool", "prompt"]
    assert "Paris" not in json.dumps(service.bodies)
    assert [action for action, _ in told(answer)] == ["routed", "repaired", "repaired"]


async def test_a_warning_about_a_stream_points_at_the_line_that_reads_it(colour, road):
    def slowly(request: Any) -> Any:
        whole = answers.answer(request, "It is", " Paris.")
        body = programs.Pieces(whole.content, lambda: None)
        return http.Response(200, headers={"content-type": "text/event-stream"}, stream=body)

    kind, library = (allos.OpenAI, http.Client) if colour == "sync" else (allos.AsyncOpenAI, http.AsyncClient)
    transport = library(transport=http.MockTransport(slowly))
    client = kind("chat_completions", base_url="http://mock.test/v1", api_key="k", wire=road[1], http_client=transport)
    stream = await said(PROGRAMS[road[0]](client), "Where?", stream=True, **form(road[0]))
    with pytest.warns(allos.UnsupportedWarning, match="does not fit") as caught:
        await each(stream)
    assert [warning.filename for warning in caught] == [programs.__file__]


async def test_prose_in_a_stream_is_told_and_the_next_call_begins_one_way_lower(program, road):
    service = Service(say=lambda count: "Paris, I think." if count == 1 else PARIS)
    its = program(service)
    with pytest.warns(allos.UnsupportedWarning, match="does not fit the schema: it is no JSON"):
        events = await each(await said(its, "Where?", stream=True, **form(road[0])))
    assert its.streamed_text(events) == "Paris, I think."
    found, _ = await parsed(its, streamed=True)
    assert found == Place(city="Paris")
    assert service.ways == ["json_schema", "tool"]


async def test_an_answer_that_never_fits_is_handed_on_and_told(program, road):
    service = Service(say=lambda count: '{"town": "Paris"}')
    its = program(service)
    with pytest.warns(allos.UnsupportedWarning, match="lacks 'city'"):
        answer = await said(its, "Where?", **form(road[0]))
    assert its.text(answer) == '{"town": "Paris"}'
    assert told(answer)[-1] == ("left out", "the answer does not fit it: the answer lacks 'city'")
    assert len(service.ways) == 2


async def test_who_wants_errors_gets_one_with_the_text(program, road, streamed):
    its = program(Service(say=lambda count: '{"town": "Paris"}'), on_unsupported="error")
    with pytest.raises(openai.APIResponseValidationError, match="lacks 'city'") as caught:
        await read(its, "Where?", stream=streamed, **form(road[0]))
    assert caught.value.body == '{"town": "Paris"}'


async def test_who_wants_silence_gets_a_note(program, road, streamed):
    its = program(Service(say=lambda count: '{"town": "Paris"}'), on_unsupported="ignore")
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        await read(its, "Where?", stream=streamed, **form(road[0]))


@pytest.mark.parametrize("text", [f"Here it is:\n```json\n{PARIS}\n```\nEnjoy!", f"It is {PARIS}, of course."])
async def test_an_object_among_words_is_taken_out(program, text):
    service = Service(say=lambda count: text)
    found, answer = await parsed(program(service))
    assert found == Place(city="Paris")
    assert service.ways == ["json_schema"]
    assert told(answer)[-1] == ("left out", "the words around the object")


async def test_tools_of_the_program_keep_the_call_from_being_forced(program):
    service = Service(("json_schema",))
    its = program(service)
    found, _ = await parsed(its, tools=[its.tool])
    assert found == Place(city="Paris")
    assert service.ways == ["json_schema", "json_object"]
    assert service.bodies[-1]["tools"]


async def test_a_call_of_the_programs_tool_is_no_misfit(program):
    def server(request: Any) -> Any:
        tries.append(request)
        return answers.call(request, ("call_1", "get_weather", '{"city": "Paris"}'))

    tries: list[Any] = []
    its = program(server)
    _, answer = await parsed(its, tools=[its.tool])
    assert its.calls(answer) == [("get_weather", '{"city": "Paris"}')]
    assert len(tries) == 1


async def test_a_refusal_of_the_model_is_handed_on(program, road):
    def server(request: Any) -> Any:
        tries.append(request)
        return http.Response(200, json=answers.refusal(road[1], "I can't help."))

    tries: list[Any] = []
    its = program(server)
    found, answer = await parsed(its)
    assert found is None
    assert its.refusal(answer) == "I can't help."
    assert len(tries) == 1


async def test_several_answers_are_not_asked_for_again(program, road):
    if road[0] != "chat" or road[1] != "chat":
        pytest.skip("only Chat Completions knows n")
    choices = [{**answers.whole("chat", "no")["choices"][0], "index": index} for index in range(2)]
    tries: list[Any] = []

    def server(request: Any) -> Any:
        tries.append(request)
        return http.Response(200, json={**answers.whole("chat", ""), "choices": choices})

    answer = await program(server).create("Where?", n=2, **form("chat"))
    assert [choice.message.content for choice in answer.choices] == ["no", "no"]
    assert len(tries) == 1


async def test_any_object_is_asked_for_as_a_schema_or_in_words_where_the_form_is_refused(program, road):
    wanted = {"type": "json_object"}
    asks = {"response_format": wanted} if road[0] == "chat" else {"text": {"format": wanted}}
    service = Service(("json_object",), say=lambda count: "no" if count == 2 else PARIS)
    its = program(service)
    answer = await said(its, "Where? As JSON.", **asks)
    assert json.loads(its.text(answer)) == {"city": "Paris"}
    assert service.ways[:2] == ["json_object", "json_schema"]
    assert "one JSON object" in json.dumps(service.bodies[2])


async def test_what_was_learned_of_any_object_is_not_held_against_schemas(program, road):
    wanted = {"type": "json_object"}
    asks = {"response_format": wanted} if road[0] == "chat" else {"text": {"format": wanted}}
    service = Service(("json_object",))
    its = program(service)
    await said(its, "Where? As JSON.", **asks)
    await parsed(its)
    assert service.ways == ["json_object", "json_schema", "json_schema"]


async def test_history_keeps_the_question_and_the_answer_that_fits(program, road):
    if road != ("responses", "chat"):
        pytest.skip("history is kept here where Responses are translated")
    service = Service(say=lambda count: "Paris, I think." if count == 1 else PARIS)
    its = program(service)
    _, first = await parsed(its)
    await its.create("And then?", previous_response_id=first.id)
    said = [entry["content"] for entry in service.bodies[-1]["messages"]]
    assert said == ["Where?", PARIS, "And then?"]


async def test_openai_itself_is_left_alone(colour):
    tries: list[Any] = []

    def server(request: Any) -> Any:
        tries.append(answers.body(request))
        return http.Response(400, json={"error": {"message": "json_schema is not supported", "code": "no"}})

    kind = allos.OpenAI if colour == "sync" else allos.AsyncOpenAI
    library = openai.DefaultHttpxClient if colour == "sync" else openai.DefaultAsyncHttpxClient
    client = kind(api_key="sk-mock", http_client=library(transport=http.MockTransport(server)), max_retries=0)
    with pytest.raises(openai.BadRequestError):
        await parsed(PROGRAMS["chat"](client))
    assert len(tries) == 1


async def test_an_unknown_host_that_lacks_the_api_and_the_form_is_served_by_what_it_has(colour):
    def server(request: Any) -> Any:
        if request.url.path.endswith("/responses"):
            return http.Response(404, text="404 page not found")
        return service(request)

    service = Service(("json_schema",))
    kind = allos.OpenAI if colour == "sync" else allos.AsyncOpenAI
    library = openai.DefaultHttpxClient if colour == "sync" else openai.DefaultAsyncHttpxClient
    transport = library(transport=http.MockTransport(server))
    client = kind(base_url=f"http://{colour}-ladder.test/v1", api_key="k", http_client=transport, max_retries=0)
    with pytest.warns(allos.UnsupportedWarning, match="has no Responses API"):
        found, _ = await parsed(PROGRAMS["responses"](client))
    assert found == Place(city="Paris")
    assert service.ways == ["json_schema", "tool"]


WORDY = [PARIS, f"Sure!\n```json\n{PARIS}\n```\nEnjoy.", f"It is {PARIS}.", f"{PARIS}\n\nThat was it."]


@pytest.mark.parametrize("way", ["json_object", "prompt"])
@pytest.mark.parametrize("text", WORDY)
async def test_the_table_says_where_to_begin(program, streamed, way, text):
    def server(request: Any) -> Any:
        assert way_of(answers.body(request)) == way
        return answers.answer(request, text[:5], text[5:20], text[20:])

    quirks = {"structured": [way]}
    allos.register(
        "poor",
        base_url="http://poor.test/v1",
        responses=True,
        chat=True,
        key_variables=[],
        quirks={**quirks, "responses": quirks},
    )
    its = program(server, "poor")
    found, answer = await parsed(its, streamed)
    assert found == Place(city="Paris")
    assert its.text(answer).strip() == PARIS


@pytest.mark.parametrize(
    ("reason", "error"),
    [("length", openai.LengthFinishReasonError), ("content_filter", openai.ContentFilterFinishReasonError)],
)
async def test_a_cut_answer_is_the_official_error_through_any_translation(program, road, reason, error):
    if road[0] != "chat":
        pytest.skip("the SDK's Responses parse has no such error")
    tries: list[Any] = []

    def server(request: Any) -> Any:
        tries.append(request)
        return http.Response(200, json=answers.cut(road[1], '{"city": "Pa', reason))

    with pytest.raises(error):
        await parsed(program(server))
    assert len(tries) == 1


# A further question never costs the answer before it


MISFIT = '{"town": "Paris"}'


@pytest.mark.parametrize("status", [429, 400, 500, None])
async def test_a_question_that_fails_leaves_the_answer_before_it(program, road, status):
    def server(request: Any) -> Any:
        tries.append(request)
        if len(tries) == 1:
            return answers.answer(request, MISFIT)
        if status is None:
            raise http.ConnectError("gone")
        return http.Response(status, json={"error": {"message": "maximum context length is 10 tokens"}})

    tries: list[Any] = []
    its = program(server, max_retries=2)
    with pytest.warns(allos.UnsupportedWarning, match="lacks 'city'"):
        answer = await said(its, "Where?", **form(road[0]))
    assert its.text(answer) == MISFIT
    assert len(tries) == 2
    assert [action for action, _ in told(answer)] == ["routed", "repaired", "left out"]


@pytest.mark.parametrize("second", ["cut", "prose"])
async def test_a_worse_answer_leaves_the_one_before_it(program, road, second):
    def server(request: Any) -> Any:
        tries.append(request)
        if len(tries) == 1:
            return answers.answer(request, MISFIT)
        if second == "prose":
            return answers.answer(request, "Sorry, no.")
        return http.Response(200, json=answers.cut(road[1], '{"ci'))

    tries: list[Any] = []
    its = program(server)
    with pytest.warns(allos.UnsupportedWarning, match="lacks 'city'"):
        answer = await said(its, "Where?", **form(road[0]))
    assert its.text(answer) == MISFIT
    assert not its.cut(answer)


async def test_only_the_answer_that_the_program_gets_is_kept(program, road):
    if road != ("responses", "chat"):
        pytest.skip("history is kept here where Responses are translated")
    service = Service(say=lambda count: MISFIT if count < 3 else "Yes.")
    its = program(service, on_unsupported="ignore")
    first = await said(its, "Where?", **form("responses"))
    await said(its, "Sure?", previous_response_id=first.id)
    talk = [entry["content"] for entry in service.bodies[-1]["messages"]]
    assert talk == ["Where?", MISFIT, "Sure?"]


async def test_a_cut_answer_keeps_its_words_and_is_not_asked_again(program, road, streamed):
    text = '{"city": {"name": "Paris"}, "more": "lo'
    tries: list[Any] = []

    def server(request: Any) -> Any:
        tries.append(request)
        return http.Response(200, json=answers.cut(road[1], text))

    its = program(server)
    if streamed:
        events = await each(await said(its, "Where?", stream=True, **form(road[0])))
        assert its.streamed_text(events) == text
    else:
        assert its.text(await said(its, "Where?", **form(road[0]))) == text
    assert len(tries) == 1


async def test_words_beside_a_call_stay(program, road):
    if road[1] != "chat":
        pytest.skip("items stand apart on Responses")
    call = {"id": "call_1", "type": "function", "function": {"name": "get_weather", "arguments": '{"city": "Paris"}'}}
    body = answers.calls("chat", ("call_1", "get_weather", "{}"))
    body["choices"][0]["message"] = {"role": "assistant", "content": 'I look {"x": 1} up.', "tool_calls": [call]}
    its = program(lambda request: http.Response(200, json=body))
    answer = await said(its, "Where?", tools=[its.tool], **form(road[0]))
    assert its.text(answer) == 'I look {"x": 1} up.'


async def test_a_job_in_the_background_is_one_job(program, road):
    if road != ("responses", "responses"):
        pytest.skip("only Responses run in the background")
    tries: list[Any] = []

    def server(request: Any) -> Any:
        tries.append(request)
        return http.Response(200, json={**answers.whole("responses", ""), "status": "queued", "output": []})

    answer = await said(program(server), "Where?", background=True, **form("responses"))
    assert answer.status == "queued"
    assert len(tries) == 1


@pytest.mark.parametrize("more", [{}, {"previous_response_id": "resp_0"}, {"conversation": "conv_1"}])
async def test_no_call_is_forced_where_the_service_keeps_the_conversation(program, road, more):
    if road != ("responses", "responses"):
        pytest.skip("a service that keeps Responses")
    allos.register("poor", base_url="http://poor.test/v1", responses=True, stateful=True, key_variables=[])
    service = Service(("json_schema",), say=lambda count: MISFIT)
    await said(program(service, "poor", on_unsupported="ignore"), "Where?", **more, **form("responses"))
    assert "tool" not in service.ways
    expected = ["json_schema", "json_object"] + ([] if "conversation" in more else ["json_object"])
    assert service.ways == expected, "a question in a conversation that is kept would stay in it"


@pytest.mark.parametrize(
    "schema", [True, {"properties": {"city": {"required": True}}}, {"type": [["x"]]}, {"$ref": "#/nowhere"}]
)
async def test_a_schema_of_another_kind_is_the_services_to_judge(program, road, schema):
    its = {"name": "place", "schema": schema}
    chat = {"response_format": {"type": "json_schema", "json_schema": its}}
    asks = chat if road[0] == "chat" else {"text": {"format": {"type": "json_schema", **its}}}
    answer = await said(program(Service()), "Where?", **asks)
    assert answer.id


async def test_an_array_is_never_forced_into_a_call(program, road):
    schema = {"type": "array", "items": Place.model_json_schema()}
    its = {"name": "places", "schema": schema}
    chat = {"response_format": {"type": "json_schema", "json_schema": its}}
    asks = chat if road[0] == "chat" else {"text": {"format": {"type": "json_schema", **its}}}
    service = Service(("json_schema",), say=lambda count: f"Sure: [{PARIS}]" if count < 3 else PARIS)
    one = program(service)
    answer = await said(one, "Where?", **asks)
    assert json.loads(one.text(answer)) == [{"city": "Paris"}]
    assert service.ways == ["json_schema", "prompt"]
    await parsed(one)
    assert service.ways[2:] == ["tool"], "what was learned of arrays is not held against objects"


async def test_what_was_refused_is_learned_although_the_program_calls_tools(program):
    def server(request: Any) -> Any:
        ways.append(way_of(answers.body(request)))
        if ways[-1] == "json_schema":
            return http.Response(400, json={"error": {"message": "response_format is not supported"}})
        return answers.call(request, ("call_1", "get_weather", '{"city": "Paris"}'))

    ways: list[str] = []
    its = program(server)
    for _ in range(2):
        await parsed(its, tools=[its.tool])
    assert ways == ["json_schema", "json_object", "json_object"]


@pytest.mark.parametrize(
    ("status", "body"),
    [
        (422, {"detail": [{"loc": ["body", "temperature"], "msg": "too high", "input": {"response_format": {}}}]}),
        (400, {"error": {"message": "Invalid 'tools[0].function.name'", "param": "tools[0].function.name"}}),
        (501, {"error": {"message": "Function not implemented"}}),
    ],
)
async def test_words_about_something_else_are_no_refusal_of_the_form(program, status, body):
    tries: list[Any] = []

    def server(request: Any) -> Any:
        tries.append(request)
        return http.Response(status, json=body)

    with pytest.raises(openai.APIStatusError):
        await parsed(program(server))
    assert len(tries) == 1


async def test_an_empty_answer_is_asked_for_again_without_an_empty_message(program, road):
    quirks = {"structured": ["prompt"]}
    where = {"base_url": "http://poor.test/v1", "responses": True, "chat": True, "key_variables": []}
    allos.register("poor", **where, quirks={**quirks, "responses": quirks})
    service = Service(say=lambda count: "" if count == 1 else PARIS)
    found, _ = await parsed(program(service, "poor"))
    assert found == Place(city="Paris")
    messages = service.bodies[-1]["messages" if road[1] == "chat" else "input"]
    assert not [entry for entry in messages if entry.get("role") == "assistant"]


async def test_a_misfit_that_is_an_error_is_no_broken_place(colour):
    def server(request: Any) -> Any:
        hosts.append(request.url.host)
        return answers.answer(request, MISFIT)

    hosts: list[str] = []
    for name in ("poor", "spare"):
        where = {"base_url": f"http://{colour}-{name}.test/v1", "key_variables": []}
        allos.register(name, **where, quirks={"structured": ["prompt"]})
    kind = allos.OpenAI if colour == "sync" else allos.AsyncOpenAI
    library = openai.DefaultHttpxClient if colour == "sync" else openai.DefaultAsyncHttpxClient
    transport = library(transport=http.MockTransport(server))
    client = kind("poor", wire="chat", fallback=["spare/m"], on_unsupported="error", http_client=transport)
    for _ in range(4):
        with pytest.raises(openai.APIResponseValidationError, match="does not fit") as caught:
            await said(PROGRAMS["chat"](client), "Where?", **form("chat"))
        assert "incomplete" not in str(caught.value)
        assert caught.value.reply.text == MISFIT
    endpoints._registered.pop("spare", None)
    assert set(hosts) == {f"{colour}-poor.test"}


async def test_thoughts_and_probabilities_of_an_answer_stay(program, road):
    if road[0] != road[1]:
        pytest.skip("a translation")
    body = answers.whole(road[1], PARIS + "\n")
    if road[1] == "chat":
        body["choices"][0]["logprobs"] = {
            "content": [{"token": "{", "logprob": -0.1, "bytes": None, "top_logprobs": []}]
        }
    else:
        body["output"].insert(0, {"type": "reasoning", "id": "rs_7", "summary": [], "encrypted_content": "x"})
    its = program(lambda request: http.Response(200, json={**body, "id": "mine"}))
    raw = await done(its.resource.with_raw_response.create(**its.asks("Where?"), **form(road[0])))
    assert json.loads(raw.http_response.content) == {**body, "id": "mine"}


async def test_what_stands_beside_a_forced_call_is_left_out_and_told(program, road, streamed):
    def server(request: Any) -> Any:
        if way_of(answers.body(request)) == "json_schema":
            return http.Response(400, json={"error": {"message": "no json_schema here"}})
        body = answers.calls(road[1], ("call_1", "place", PARIS), ("call_2", "place", '{"city": "Rome"}'))
        if road[1] == "chat":
            body["choices"][0]["message"]["content"] = "Let me see."
        else:
            body["output"][:0] = answers.whole(road[1], "Let me see.")["output"]
        return http.Response(200, json=body)

    its = program(server)
    found, answer = await parsed(its, streamed)
    assert found == Place(city="Paris")
    assert its.text(answer) == PARIS
    assert told(answer)[-1] == ("left out", "words and calls beside the one that was forced")


async def test_words_instead_of_a_forced_call_are_searched(program, streamed):
    its = program(Service(("json_schema",), lambda count: f"It is {PARIS}!"))
    found, answer = await parsed(its, streamed)
    assert found == Place(city="Paris")
    assert json.loads(its.text(answer)) == {"city": "Paris"}
    assert told(answer)[-1] == ("left out", "the words around the object")


async def test_the_old_form_of_tools_keeps_the_call_from_being_forced(program, road):
    if road[0] != "chat":
        pytest.skip("only Chat Completions had functions")
    functions = [{"name": "look", "parameters": {"type": "object", "properties": {}}}]
    service = Service(("json_schema",))
    await said(program(service), "Where?", functions=functions, **form("chat"))
    assert service.ways == ["json_schema", "json_object"]
