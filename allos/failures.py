"""The SDK's own errors with a text that helps: which service, at which URL, in whose words, and what to do next.

Every network or data fault reaches a caller as `openai.APIError` or one of its family, so that existing
`except` clauses keep working.
"""

from __future__ import annotations

import errno
import re
import socket
import ssl
import urllib.request
from collections.abc import Iterable, Iterator
from fnmatch import fnmatchcase
from typing import Any, TypeVar

import openai

from allos import keys
from allos.errors import BadData, Incomplete, ServerFault, WireError, argument
from allos.messages import Reply
from allos.settings import Target
from allos.transport import timeout_errors
from allos.wire.fault import Fault, dig

__all__ = [
    "IncompleteReplyError",
    "from_break",
    "from_status",
    "from_transport",
    "from_wire",
    "out_of_time",
    "said_by",
    "too_quiet",
    "worded",
]

Error = TypeVar("Error", bound=openai.APIError)

_CONTEXT = re.compile(
    r"context.{0,12}(length|window|size)|maximum context|max(imum)?[ _]prompt|too many (input )?tokens|"
    r"prompt is too long|reduce the length|input is too long|exceed_context|prompt too long",
    re.IGNORECASE,
)
_NO_MODEL = re.compile(
    r"\bmodel\b.*(not found|not exist|unknown|invalid|not available|decommissioned|deprecated|no longer)|"
    r"(invalid|unknown|no such).{0,10}\bmodel\b",
    re.IGNORECASE,
)
_PROXIES = "Check HTTPS_PROXY and HTTP_PROXY, or unset them."
_SDK_SAYS = "Connection error."  # of any such failure
_NO_WAY = (errno.EHOSTUNREACH, errno.ENETUNREACH, errno.ENETDOWN, errno.EHOSTDOWN)
_QUOTA_CODES = frozenset(
    {"insufficient_quota", "billing_hard_limit_reached", "credit_balance_exhausted", "insufficient_credits"}
)
_QUOTA = re.compile(
    r"insufficient[_ ](quota|balance|credit|funds)|exceeded your current quota|spend[_ ]limit|billing", re.I
)
_KINDS = r"(images?|vision|audio|videos?|files?|multimodal|embeddings?|rerank\w*|speech)\b"
_LACKS = re.compile(rf"\b{_KINDS}[^.]{{0,40}}\bnot supported|(does not|doesn't) support [^.]{{0,40}}\b{_KINDS}", re.I)
_ASKED = ("/chat/completions", "/responses", "/models")  # which each service has, or one of
_NO_ROUTE = re.compile(
    r"^$|not found$|page not found|cannot post|no route|unknown (url|route|path)|web page|^(\w+ )?/\S*$", re.IGNORECASE
)


class IncompleteReplyError(openai.APIError):
    """The answer ended too soon; `reply` holds what came, without any half tool call."""

    def __init__(self, message: str, request: Any, *, reply: Reply) -> None:
        super().__init__(message, request, body=None)
        self.reply = reply


def is_quota(error: openai.APIStatusError, codes: Iterable[str] = ()) -> bool:
    """Whether the service says that credit or quota is used up, so that waiting does not help.

    `codes` are the service's own codes or types for it; `*` stands for any letters.
    """
    fault = said_by(error)
    said = [str(word) for word in (fault.code, fault.type) if word]
    return (
        error.status_code == 402
        or any(fnmatchcase(word, code) for word in said for code in (*_QUOTA_CODES, *codes))
        or (error.status_code == 429 and bool(_QUOTA.search(fault.message)))
    )


def is_missing_model(error: openai.APIStatusError) -> bool:
    """Whether the service says that it has no such model."""
    fault = said_by(error)
    return fault.code in ("model_not_found", "model_decommissioned") or (
        error.status_code in (400, 404, 422) and bool(_NO_MODEL.search(fault.message))
    )


def is_too_long(error: openai.APIStatusError) -> bool:
    """Whether the service says that the request does not fit into the model's context."""
    fault = said_by(error)
    return bool(_CONTEXT.search(f"{fault.code} {fault.type} {fault.message}"))


def is_lacking(error: openai.APIStatusError) -> bool:
    """Whether the service says, by a status of its own failures, that it has no such kind of input or answer."""
    return error.status_code >= 500 and bool(_LACKS.search(said_by(error).message))


def is_missing_route(error: openai.APIStatusError) -> bool:
    """Whether the address itself is unknown to the server, rather than something that the request names."""
    return (
        error.status_code in (404, 405, 501)
        and not (is_missing_model(error) or is_lacking(error))
        and bool(_NO_ROUTE.search(said_by(error).message) or error.status_code in (405, 501))
    )


def said_by(error: openai.APIStatusError) -> Fault:
    """What the error's body says, from the whole of it where it was read: the SDK keeps only what is under `error`."""
    whole = dig(error.response.text) if error.response.is_error and error.response.is_closed else Fault("")
    return whole if whole.message else dig(error.body)


def from_status(error: openai.APIStatusError, target: Target) -> openai.APIStatusError:
    """The same error with the server's words and the next step in its text."""
    fault = said_by(error)
    url = _plain(str(error.response.request.url))
    words = _masked(fault.message or "no explanation", target)
    text = f"{_service(target)} answered {error.response.status_code} at {url}: {words}"
    if hint := _next_step(error, fault, target):
        text += f"\n{hint}"
    return _remade(error, text[:499])


def _remade(error: openai.APIStatusError, text: str) -> openai.APIStatusError:
    fault = said_by(error)
    made = type(error)(text, response=error.response, body=error.body)
    made.code = made.code or fault.code
    made.type = made.type or fault.type
    made.param = made.param or fault.param
    return made


def _next_step(error: openai.APIStatusError, fault: Fault, target: Target) -> str:
    endpoint, status = target.endpoint, error.status_code
    place = f" See {endpoint.keys_page}." if endpoint.keys_page else ""
    if 300 <= status < 400:
        return _redirect_hint(error.response)
    if status in (401, 403):
        host = error.response.request.url.host
        if target.api_key is None:
            variables = " or ".join(endpoint.key_variables[:1]) or "ALLOS_API_KEY"
            return f"No key was sent to {host}. Set {variables} or pass {argument('api_key')}.{place}"
        origin = target.key_origin or "the api_key argument"
        return f"The key came from {origin} and went to {host}. Is it valid there?{place}"
    if is_quota(error, endpoint.dialect.quota_codes):
        return f"Quota or credit is used up; waiting does not help.{place}"
    if status == 429:
        wait = error.response.headers.get("retry-after")
        return f"Too many requests. Try again{f' in {wait} s' if wait and wait.isdigit() else ' later'}."
    if is_too_long(error):
        return "The request is too long for the model: shorten it or choose a model with a larger context."
    if is_missing_model(error):
        return f"List what it has with `allos models -p {endpoint.alias}`."
    if is_missing_route(error):
        is_asked = error.response.request.url.path.rstrip("/").endswith(_ASKED)
        return _base_url_hint(target) if is_asked else "Does the service have this part of the API?"
    if is_lacking(error):
        return "Use a model or a server that has it; asking again does not help."
    if status >= 500:
        return "The service failed; try again later or use another endpoint."
    return ""


def _redirect_hint(response: Any) -> str:
    place = keys.masked(_plain(response.headers.get("location", "")))
    if "://" not in place:
        return "It redirects without an end. Is the base URL right?"
    return f"It redirects to {place}, and nothing was sent there. If you trust that place, make it the base URL."


def _base_url_hint(target: Target) -> str:
    base = _plain(target.base_url or "")
    if base.endswith("/v1/v1"):
        return f"Is the base URL right? {base!r} has /v1 twice."
    if not re.search(r"/v\d", base):
        return f"Is the base URL right? Try {base.rstrip('/')}/v1 instead of {base}."
    return (
        f"Is the base URL {base} right, and does the server speak this API? `{argument('wire')}` chooses the other one."
    )


def from_transport(error: Exception, target: Target, request: Any = None) -> openai.APIConnectionError:
    """An HTTP library's or the SDK's connection error as the SDK's class, with the kind of failure and a likely fix."""
    request = request if request is not None else getattr(error, "request", None)
    url = str(request.url) if request is not None else (target.base_url or "")
    causes = list(_chain(error))
    name = _service(target)
    if isinstance(error, (openai.APITimeoutError, *timeout_errors())) and not any(map(_is_failure, causes)):
        return worded(openai.APITimeoutError(request=request), _unanswered(name, _plain(url), causes))
    reason, fix = _kind(causes, url)
    return openai.APIConnectionError(
        message=f"{name} can't be reached at {_plain(url)}: {reason}.\n{fix}", request=request
    )


def _is_failure(cause: BaseException) -> bool:
    """Whether the system says more than that time passed: over aiohttp each lost connection comes as a timeout."""
    return isinstance(cause, OSError) and not isinstance(cause, TimeoutError)


def _unanswered(name: str, url: str, causes: list[BaseException]) -> str:
    """What was waited for in vain: the connection, or the answer over it."""
    if any(type(cause).__name__ == "ConnectTimeout" for cause in causes):
        return (
            f"{name} can't be reached at {url}: there was no connection in time.\n"
            "Is the host up, and does a firewall drop what is sent there? "
            f"`{argument('connect_timeout')}` sets the seconds to wait."
        )
    if any(type(cause).__name__ == "PoolTimeout" for cause in causes):
        return (
            f"No connection was free in time for {url}.\n"
            "Are too many calls under way at once? An http_client of your own may have more connections."
        )
    hint = f"Is it busy or slow? `{argument('timeout')}` sets the seconds to wait."
    return f"{name} did not answer in time at {url}.\n{hint}"


def from_break(error: Exception, target: Target, came: Reply, response: Any) -> openai.APIError:
    """A connection that broke in mid-answer: the kind of failure, with the text so far in `.reply`."""
    failure = from_transport(error, target, response.request)
    name, place, came_yet = _service(target), _plain(str(response.request.url)), f"{len(came.text)} characters"
    if not isinstance(failure, openai.APITimeoutError):
        reason = failure.message.partition(": ")[2].partition("\n")[0]
        said = (
            f"The answer from {place} is incomplete, {came_yet} of text came: {reason}\n"
            "Try again; the server may have stopped, or a proxy between ended the connection."
        )
        return IncompleteReplyError(said, response.request, reply=came)
    if came.text:
        worded(
            failure,
            f"{name} fell silent in mid-answer at {place}; {came_yet} of text had come.\n"
            f"Is it slow, or the network gone? `{argument('timeout')}` sets the seconds to wait for the next bytes.",
        )
    failure.reply = came  # type: ignore[attr-defined]  # as on IncompleteReplyError
    return failure


def too_quiet(target: Target, came: Reply, response: Any) -> openai.APITimeoutError:
    """A stream that sends comments and nothing else: they prove life for a while, not for ever."""
    text = (
        f"{_service(target)} sent only comments and no event for too long, at {_plain(str(response.request.url))}.\n"
        f"It may be overloaded: try again later, or set a longer `{argument('timeout')}` for a slow model."
    )
    return _timed_out(response.request, text, came)


def out_of_time(target: Target, seconds: float, came: Reply, request: Any = None) -> openai.APITimeoutError:
    """The whole call took longer than its deadline allows; `came` is what had come of the answer."""
    place = _plain(str(request.url) if request is not None else target.base_url or "")
    had = f"; {len(came.text)} characters of text had come" if came.text else ""
    done = "finished its answer" if came.text else "answered"
    text = (
        f"{_service(target)} had not {done} when the {seconds:g} s for the whole call were over{_at(place)}{had}.\n"
        f"Is it slow? `{argument('deadline')}` sets the seconds for a call with all its tries and waits."
    )
    return _timed_out(request, text, came)


def _timed_out(request: Any, text: str, came: Reply) -> openai.APITimeoutError:
    failure = worded(openai.APITimeoutError(request=request), text)
    failure.reply = came  # type: ignore[attr-defined]  # as on IncompleteReplyError
    return failure


def worded(error: Error, text: str) -> Error:
    """The same error, with that text."""
    error.message = text
    error.args = (text,)
    return error


def _at(place: str) -> str:
    return f", at {place}" if place else ""


def _chain(error: BaseException | None) -> Iterator[BaseException]:
    seen: set[int] = set()
    while error is not None and id(error) not in seen:
        seen.add(id(error))
        yield error
        if isinstance(error, BaseExceptionGroup):
            yield from error.exceptions
        error = error.__cause__ or error.__context__


def _kind(causes: list[BaseException], url: str) -> tuple[str, str]:
    words = " ".join(dict.fromkeys(str(cause) for cause in causes if str(cause) != _SDK_SAYS))
    names = {type(cause).__name__ for cause in causes}
    if names & {"ProxyError", "ClientProxyConnectionError", "ClientHttpProxyError"}:
        return f"the proxy {_proxy(url) or ''} refused or failed".replace("  ", " "), _PROXIES
    if any(isinstance(cause, socket.gaierror) for cause in causes) or "Name or service not known" in words:
        if proxy := _proxy(url):
            return f"the host name of the proxy {proxy} is unknown", _PROXIES
        return "the host name is unknown", "Is the base URL spelled right, and is the network up?"
    if "CERTIFICATE_VERIFY_FAILED" in words:
        return "its certificate is not trusted", "Behind a proxy with its own CA, set SSL_CERT_FILE to that CA's file."
    if any(isinstance(cause, ssl.SSLError) for cause in causes) or "SSL" in words:
        if "WRONG_VERSION_NUMBER" in words or "record layer" in words:
            return "it does not speak TLS", f"Use http:// instead: {url.replace('https://', 'http://', 1)}"
        return (
            f"TLS failed ({_short(words)})",
            f"Is https:// right? Without it: {url.replace('https://', 'http://', 1)}",
        )
    refused = any(isinstance(cause, OSError) and cause.errno == errno.ECONNREFUSED for cause in causes)
    if refused or "refused" in words or "All connection attempts failed" in words:
        if proxy := _proxy(url):
            return f"the connection to the proxy {proxy} was refused", _PROXIES
        return "the connection was refused", "Is the server running, and is the port right?"
    if any(isinstance(cause, OSError) and cause.errno in _NO_WAY for cause in causes):
        return "the network has no way to it", "Is the network up, and does it need a VPN or a proxy?"
    if names & {"RemoteProtocolError", "ReadError", "ClientResponseError", "ServerDisconnectedError"} or any(
        isinstance(cause, ConnectionResetError) for cause in causes
    ):
        return (
            f"the connection broke ({_short(words)})",
            "Try again; is it an HTTP server, and http:// or https:// right?",
        )
    return _short(words) or "the connection failed", "Is the server running, and the base URL right?"


def _proxy(url: str) -> str | None:
    """The proxy that the environment names for an address, without user and password."""
    scheme, _, host = url.partition("://")
    host = host.partition("/")[0]
    proxies = urllib.request.getproxies()
    proxy = proxies.get(scheme) or proxies.get("all")
    return _plain(proxy) if proxy and not urllib.request.proxy_bypass(host) else None


def from_wire(error: WireError, target: Target, response: Any, came: Reply | None = None) -> openai.APIError:
    """What a codec could not read as an answer, as the SDK's error that fits, with what `came` of a stream before."""
    name, url = _service(target), _plain(str(response.request.url))
    if isinstance(error, Incomplete):
        length = len(error.reply.text)
        text = f"The answer of {name} is incomplete: {error}. {length} characters of text came before it ended."
        return IncompleteReplyError(text, response.request, reply=error.reply)
    if isinstance(error, ServerFault):
        text = f"{name} sent an error at {url}: {_masked(str(error), target)}"
        return _from_fault(error, text[:499], target, response, error.reply or came)
    assert isinstance(error, BadData)
    hint = f"\n{_base_url_hint(target)}" if "web page" in str(error) else ""
    text = f"{name} sent {_masked(str(error), target)} where an answer was expected, at {url}.{hint}"
    if came is not None and came.text:
        text = f"The answer is incomplete, {len(came.text)} characters of text came: {text}"
    made = openai.APIResponseValidationError(response, error.body, message=text[:499])
    if came is not None:
        made.reply = came  # type: ignore[attr-defined]  # as on IncompleteReplyError
    return made


def _from_fault(error: ServerFault, text: str, target: Target, response: Any, came: Reply | None) -> openai.APIError:
    if error.status is None:
        made = openai.APIError(text, response.request, body=error.body)
    else:
        made = _STATUS_ERRORS.get(
            error.status, openai.InternalServerError if error.status >= 500 else openai.APIStatusError
        )(text, response=response, body=error.body)
        made.status_code = error.status
    fault = dig(error.body)
    if isinstance(made, openai.APIStatusError) and (hint := _next_step(made, fault, target)):
        worded(made, f"{text}\n{hint}"[:499])
    made.code = made.code or fault.code
    made.type = made.type or fault.type
    if came is not None:
        made.reply = came  # type: ignore[attr-defined]  # the text so far, as on IncompleteReplyError
    return made


_STATUS_ERRORS: dict[int, Any] = {
    400: openai.BadRequestError,
    401: openai.AuthenticationError,
    403: openai.PermissionDeniedError,
    404: openai.NotFoundError,
    409: openai.ConflictError,
    422: openai.UnprocessableEntityError,
    429: openai.RateLimitError,
}


def _service(target: Target) -> str:
    """Who is asked: a hosted service under its name at its own hosts only, as another server may speak its API."""
    endpoint, base_url = target.endpoint, target.base_url
    is_its_own = endpoint.local or endpoint.is_embedded or base_url is None or endpoint.serves(base_url)
    return endpoint.title or endpoint.alias if is_its_own and not endpoint.generic else "The server"


def _masked(text: str, target: Target) -> str:
    """The server's words without the key, even where the server echoes it."""
    key = target.api_key.get_secret_value() if target.api_key is not None else ""
    if len(key) > 3:
        text = text.replace(key, "***")
    return keys.masked(text)


def _plain(url: str) -> str:
    """An address without user, password and query, which may hold secrets."""
    return re.sub(r"//[^/@]*@", "//", url).partition("?")[0]


def _short(words: str) -> str:
    return words.strip()[:120]
