"""The embedded model: a real llama.cpp server inside this process, at a loopback address with a key of its own."""

from __future__ import annotations

import atexit
import ctypes
import os
import secrets
import threading
from dataclasses import dataclass, field
from http.client import HTTPConnection, HTTPException
from importlib import resources
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

from allos import weights
from allos.errors import ConfigurationError
from allos.weights import Model, NotAvailable, locate, models, pull

if TYPE_CHECKING:
    from allos.settings import Target

__all__ = ["LocalServer", "Model", "NotAvailable", "models", "pull", "runs_elsewhere", "start"]

_CONTEXT = 8192  # tokens that the requests under way share
_PARALLEL = 4  # requests under way at once; each has the whole context of a model that has a small one
_STOP_SECONDS = 5.0


@dataclass(frozen=True, slots=True)
class LocalServer:
    """A model that runs in this process. `base_url` and `api_key` are all that a client needs."""

    base_url: str
    api_key: str = field(repr=False)
    model: str
    path: Path


# By the row too: an own path to the same file gets no template and no advised sampling, its name gets both.
_running: dict[tuple[Path, str | None], tuple[LocalServer, Any]] = {}
_engines: list[Any] = []  # all that were made, so that none is let go but by `_stop`
_lock = threading.Lock()


def start(model: str | os.PathLike[str] | None = None) -> LocalServer:
    """The server of a model given by name or path to a .gguf file; without one, of the small default model.

    It is started on first use, shared by the whole process and stopped at its end.
    Raises `ConfigurationError` where the engine or the weights are missing, with the command that gets them.
    """
    path, row = locate(model)
    key = (path, row.name if row else None)
    with _lock:
        if key not in _running:
            if not _engines:
                atexit.register(_stop)
            _running[key] = _launch(path, row)
        return _running[key][0]


def runs_elsewhere(model: str, target: Target) -> bool:
    """Whether a call names weights that the server of this target does not run."""
    return model != target.model and weights.are_named(model)


def _launch(path: Path, row: Model | None) -> tuple[LocalServer, Any]:
    xllamacpp = _engine()
    alias, key = row.name if row else path.stem, secrets.token_urlsafe(24)
    params = xllamacpp.CommonParams()
    params.model.path = str(path)
    params.model_alias = {alias}
    params.hostnames = ["127.0.0.1"]
    params.port = 0  # any that is free
    params.api_keys = [key]
    params.n_ctx = row.context * _PARALLEL if row and row.context else _CONTEXT
    params.n_parallel = _PARALLEL
    params.kv_unified = not (row and row.context)  # then one long request may use what the others don't
    params.cache_ram_mib = 0  # its default would let a long-running program grow by 8 GB
    params.use_jinja = True
    params.ui = False
    params.verbosity = -1
    for name, value in row.sampling.items() if row else ():
        setattr(params.sampling, name, value)
    if row and row.template:
        head, file = row.template
        params.chat_template = head + (resources.files("allos") / "templates" / file).read_text("utf-8")
    try:
        _engines.extend(map(xllamacpp.Server, [params]))  # in one step: Ctrl-C can't come between and let it go
    except RuntimeError as error:
        raise ConfigurationError(
            f"llama.cpp can't load the model {str(path)!r}: {error} The file may be damaged, or too large for memory."
        ) from None
    engine = _engines[-1]
    return LocalServer(f"{engine.listening_address}/v1", key, alias, path), engine


def _engine() -> Any:
    # OpenMP reads this once, when it is loaded. Threads that spin while they wait slow each other down twentyfold
    # as soon as anything else wants a core.
    os.environ.setdefault("OMP_WAIT_POLICY", "passive")
    try:
        import xllamacpp
    except ImportError as error:
        why = "" if error.name == "xllamacpp" else f" ({error})"
        raise ConfigurationError(
            f'The engine of the local model is not installed{why}. Install it with: pip install "allos[local]"'
        ) from None
    return xllamacpp


def _stop() -> None:
    """Let the engines go, which stops their threads."""
    with _lock:
        ready = [engine for server, engine in _running.values() if _is_ready(server)]
        for engine in _engines:
            if not any(engine is other for other in ready):
                _keep(engine)
        _running.clear()
        _engines.clear()


def _is_ready(server: LocalServer) -> bool:
    """Whether the engine's loop runs, so that it can be told to stop.

    Told before, it would not hear it, and whoever lets it go would wait for ever: a program that starts the model and
    ends at once would hang. The loop itself answers this request.
    """
    connection = HTTPConnection(urlsplit(server.base_url).netloc, timeout=_STOP_SECONDS)
    try:
        connection.request("GET", "/slots", headers={"Authorization": f"Bearer {server.api_key}"})
        return connection.getresponse().status == 200
    except (OSError, HTTPException):
        return False
    finally:
        connection.close()


def _keep(engine: Any) -> None:
    """Never let it go: its threads end with the process."""
    ctypes.pythonapi.Py_IncRef(ctypes.py_object(engine))


def _forget() -> None:
    """In a forked child: the servers are the parent's, and the threads that could stop them are not here."""
    global _lock
    _lock = threading.Lock()
    for engine in _engines:
        _keep(engine)
    _running.clear()
    _engines.clear()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_forget)
