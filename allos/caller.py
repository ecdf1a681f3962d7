"""What the clients of both colours share: where to go, what to send, and how to read what comes back."""

from __future__ import annotations

import difflib
import threading
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import replace
from typing import Any, Generic, Literal, Self, TypeVar, cast

import openai
from pydantic import SecretStr

from allos import keys, settings
from allos.adapters import ADAPTERS, Adapter, no_key, timeouts
from allos.arguments import check, refusal, sayable
from allos.deadline import Deadline, Patience, within
from allos.errors import BadData, Unsupported, WireError, warn
from allos.failures import from_break, from_status, from_transport, from_wire, out_of_time, too_quiet, worded
from allos.fallback import NAMES_A_HISTORY, Circuit, Journey, circuits, named
from allos.messages import Delta, MessageLike, Note, Reply, Request
from allos.retry import Attempt, Policy, budget_for
from allos.settings import Target
from allos.talk import Talk
from allos.transport import HTTP, http_clients, transport_errors
from allos.wire.answer import Answer, read_json, read_whole

__all__ = ["Call", "Caller", "Reading"]

_NO_BODY: Mapping[str, Any] = {}


class Caller:
    """A client without the few lines that move bytes."""

    _http_kind: str  # the class of the HTTP library's clients of this colour
    _others: tuple[Any, ...] = ()  # clients of the same kind, for the places to ask when this one fails
    _by_weights: dict[str, Any]  # clients of the same kind, for the other embedded models that calls name

    def __init__(
        self,
        provider: str | None = None,
        model: str | None = None,
        *,
        base_url: str | None = None,
        api_key: str | SecretStr | None = None,
        wire: Literal["auto", "chat", "responses"] | None = None,
        timeout: float | None = None,
        connect_timeout: float | None = None,
        deadline: float | None = None,
        max_retries: int | None = None,
        system: str | None = None,
        on_unsupported: Literal["warn", "error", "ignore"] | None = None,
        on_retry: Callable[[Attempt], None] | None = None,
        fallback: Sequence[str] | None = None,
        env_file: str | None = None,
        http_client: Any = None,
    ) -> None:
        check({"env_file": env_file, "on_retry": on_retry})
        if http_client is not None and not isinstance(http_client, http_clients(self._http_kind)):
            raise refusal("http_client", http_client, f"an {HTTP.__name__}.{self._http_kind}")
        if isinstance(api_key, str):
            api_key = SecretStr(api_key) if api_key else None  # a traceback with local variables shows it no more
        given: dict[str, Any] = {
            "provider": provider,
            "model": model,
            "base_url": base_url,
            "api_key": api_key,
            "wire": wire,
            "timeout": timeout,
            "connect_timeout": connect_timeout,
            "deadline": deadline,
            "max_retries": max_retries,
            "system": system,
            "on_unsupported": on_unsupported,
            "fallback": fallback,
            "env_file": env_file,
        }
        self._arguments = {**given, "on_retry": on_retry, "http_client": http_client}
        keys.watch_logs()
        target = settings.resolve(**given)
        self._settle(target, on_retry, http_client)
        self._others = tuple(self._beside(other, on_retry, http_client) for other in target.fallback)
        self._ways = circuits([target, *target.fallback])

    def _settle(self, target: Target, on_retry: Callable[[Attempt], None] | None, http_client: Any) -> None:
        self.target = target
        self._http_client = http_client
        codes = target.endpoint.dialect.quota_codes
        budget = budget_for(target.base_url or target.endpoint.alias)  # the embedded model has no address yet
        self._policy = Policy(target.max_retries, on_retry=on_retry, budget=budget, quota_codes=codes)
        self._lock = threading.Lock()
        self._by_weights = {}
        self._prepare()

    def _beside(self, target: Target, on_retry: Callable[[Attempt], None] | None, http_client: Any) -> Self:
        """A client of the same kind for a place to ask when this one fails."""
        other = object.__new__(type(self))
        other._settle(target, on_retry, http_client)
        return other

    @property
    def places(self) -> tuple[Self, ...]:
        """This client, and one of the same kind for each place to ask when this one fails."""
        return (self, *self._others)

    def _running(self, model: str | None) -> Self:
        """The client to ask for a model: another one where that is an embedded model which this one does not run."""
        if model is None or not self.target.endpoint.is_embedded:
            return self
        from allos import local

        model = self.target.endpoint.plain(model)
        if not local.runs_elsewhere(model, self.target):
            return self
        with self._lock:
            if model not in self._by_weights:
                target = replace(self.target, base_url=None, model=model)
                other = self._by_weights[model] = self._beside(target, self._policy.on_retry, self._http_client)
                other._policy.sleep = self._policy.sleep
                other._ways = [Circuit()]  # that this one fails says nothing of the other
            return cast(Self, self._by_weights[model])

    def _call(self, talk: Talk, **changes: Any) -> Call[Self]:
        """The next request of a talk, on its way to the first place that answers."""
        return Call(self, talk, talk.request.replace(**changes))

    def _prepare(self) -> None:
        """Set up what a colour keeps for itself."""

    def __repr__(self) -> str:
        target = self.__dict__.get("target")  # a tool may show a client whose making failed
        where = "" if target is None else f"{target.endpoint.alias!r}, {target.model!r}"
        return f"{type(self).__name__}({where})"

    def __getstate__(self) -> dict[str, Any]:
        if self._http_client is not None:
            raise TypeError("A client with an http_client of its own can't be pickled.")
        return self._arguments

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.__init__(**state)  # type: ignore[misc]  # a client is what it was made with

    def _talk(self, messages: MessageLike | Iterable[MessageLike], options: Mapping[str, Any]) -> Talk:
        return Talk.begin(messages, options, self.target)

    def _body(self, request: Request, notes: list[Note], told: set[Note]) -> dict[str, Any]:
        """The JSON to send; `notes` tells what became of what the endpoint can't take.

        The caller is warned of that once: what is in `told` already is not told again.
        """
        target = self.target
        if request.model is None:  # the embedded server names its model only once it runs
            request = request.replace(model=target.model)
        if request.model is not None:
            request = request.replace(model=target.named(request.model, notes))
        body = self._adapter.body(request, target, notes)
        lost = [note for note in dict.fromkeys(notes) if note.has_no_effect and note not in told]
        told.update(lost)
        if lost and target.on_unsupported != "ignore":
            said = "; ".join(f"{note.what} has no effect: {note.reason}" for note in lost)
            if target.on_unsupported == "error":
                raise Unsupported(f"{target.endpoint.alias} can't take all of this: {said}", param=lost[0].what)
            warn(said)
        return body

    @property
    def _adapter(self) -> Adapter:
        return ADAPTERS[self.target.speaks]

    def _options(self) -> dict[str, Any]:
        limits = timeouts(self.target)
        return {"extra_headers": no_key(self.target), **({} if limits is None else {"timeout": limits})}

    def _read(self, response: Any) -> Reply:
        """The reply in a whole answer."""
        think_tags = self.target.endpoint.dialect.think_tags
        try:
            return read_whole(self.target.speaks, response.content, think_tags=think_tags)
        except WireError as error:
            raise from_wire(error, self.target, response) from None

    @contextmanager
    def _sending(self, deadline: Deadline, body: Mapping[str, Any] = _NO_BODY) -> Iterator[None]:
        """Ends what is sent in this block at the deadline, and raises all errors as the SDK's, in words that help.

        A `body` that JSON can't say is the caller's own, and is refused as any other argument.
        """
        unreached: tuple[type[Exception], ...] = (openai.APIConnectionError, *transport_errors())
        if deadline.is_over:
            raise self._late(deadline)
        try:
            with within(deadline), sayable(body):
                yield
        except openai.APIStatusError as error:
            raise from_status(error, self.target) from None
        except unreached as error:
            if deadline.is_over:
                raise self._late(deadline, getattr(error, "request", None)) from None
            raise from_transport(error, self.target) from None

    def _late(self, deadline: Deadline, request: Any = None, came: Reply | None = None) -> openai.APITimeoutError:
        """The error for a call whose deadline has passed."""
        assert deadline.seconds is not None  # one without a limit never passes
        return out_of_time(self.target, deadline.seconds, came or Reply(), request)

    def _start_local(self) -> None:
        """Start the embedded model on first use and learn its address."""
        if self.target.base_url is None:
            from allos import local

            server = local.start(self.target.model)
            self.target = self.target.reached(server.base_url, server.api_key, server.model)


Client_ = TypeVar("Client_", bound=Caller)


class Call(Generic[Client_]):
    """One request on its way from place to place: `client` is the one to ask now.

    A talk stays where its last step was answered. It moves only where its history is in the request: what a service
    keeps, no other can know.
    """

    def __init__(self, client: Client_, talk: Talk, request: Request) -> None:
        may_move = not NAMES_A_HISTORY & request.extra.keys()
        first = client._running(request.model)
        self._clients: tuple[Client_, ...] = (first, *client.places[1:]) if may_move else (first,)
        names = [named(client.target) for client in self._clients]
        ways = [first._ways[0], *client._ways[1 : len(names)]]
        self._journey = Journey(names, ways, start=talk.place if may_move else 0)
        self.deadline = talk.deadline.start()
        self._talk = talk
        self._request = request
        self._bodies = dict[int, tuple[dict[str, Any], list[Note]]]()

    @property
    def client(self) -> Client_:
        """The client of the place to ask now."""
        return self._clients[self._journey.place]

    def body(self) -> dict[str, Any]:
        """The JSON to send to that place, once its client is open."""
        place = self._journey.place
        if place not in self._bodies:
            request, notes = self._request, list[Note]()
            if place:  # the model was named for the first one
                request = request.replace(model=self.client.target.model)
            try:
                self._bodies[place] = (self.client._body(request, notes, self._talk.told), notes)
            except Unsupported as error:
                said = f"{error}{self._journey.before}"  # else nothing would tell why this place was asked
                raise Unsupported(said, param=error.param, code=error.code) from None
        return self._bodies[place][0]

    def retrying(self) -> dict[str, Any]:
        """The arguments for tenacity."""
        return self._journey.retrying([client._policy for client in self._clients], self.deadline)

    def notes(self) -> tuple[Note, ...]:
        """What became of the request, once it is answered."""
        self._talk.place = self._journey.place
        return (*self._bodies[self._journey.place][1], *self._journey.notes())

    def explained(self, error: openai.APIError) -> openai.APIError:
        """The error, and which places were asked before."""
        self._talk.place = self._journey.place
        return self._journey.explained(error)


class Reading:
    """One streamed answer: `feed` it bytes until `ended`; whatever goes wrong is raised as the SDK's error."""

    def __init__(self, target: Target, body: Mapping[str, Any], deadline: Deadline) -> None:
        self.response: Any = None  # set once the connection is open
        self._target = target
        think_tags = target.endpoint.dialect.think_tags
        self._answer = Answer(target.speaks, think_tags=think_tags, choices=body.get("n"))
        self._deadline = deadline
        self._patience = Patience(target.timeout)

    @property
    def ended(self) -> bool:
        """Whether the whole reply is there."""
        return self._answer.reply is not None

    @property
    def needs_bytes(self) -> bool:
        """Whether to read on: the answer may have ended although the connection stays open."""
        return not self._answer.done

    @property
    def reply(self) -> Reply:
        """The whole reply, or what has come of it."""
        return self._answer.so_far()

    def feed(self, chunk: bytes | None) -> list[Delta]:
        """The deltas that these bytes complete; None says that no more come."""
        answer = self._answer
        try:
            found = answer.end() if chunk is None else answer.feed(chunk)
        except WireError as error:
            raise from_wire(error, self._target, self.response, answer.so_far()) from None
        if self._patience.is_over(answer.events):
            raise too_quiet(self._target, answer.so_far(), self.response)
        return found

    def broken(self, error: Exception) -> openai.APIError:
        """The error to raise when the connection breaks with that one."""
        if self._deadline.is_over and self._deadline.seconds is not None:
            return out_of_time(self._target, self._deadline.seconds, self._answer.so_far(), self.response.request)
        return from_break(error, self._target, self._answer.so_far(), self.response)


def says_something(delta: Delta) -> bool:
    """Whether a delta shows a caller more than that an answer has begun, so that it can't be taken back."""
    return delta != Delta(head=delta.head)


def model_names(response: Any, target: Target) -> list[str]:
    """The names in an answer to `GET /models`."""
    try:
        data = read_json(response.content)
        rows = data.get("data", data.get("models")) if isinstance(data, dict) else data
        if not isinstance(rows, list):
            raise BadData("no list of models", body=data)
    except WireError as error:
        raise from_wire(error, target, response) from None
    return [str(row.get("id") or row.get("name")) for row in rows if isinstance(row, dict)]


def naming(error: openai.APIStatusError, names: Sequence[str]) -> openai.APIStatusError:
    """The error about a model that is not there, with those that are."""
    asked = error.message.partition("\n")[0]
    near = [name for name in names if name in asked] or difflib.get_close_matches(asked, names, 3, 0.1)
    listed = ", ".join([*near, *(name for name in names if name not in near)][:8])
    return worded(error, f"{asked}\nIt has: {listed}{', …' if len(names) > 8 else ''}.")
