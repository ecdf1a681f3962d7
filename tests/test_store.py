"""The two stores: a plain model of them, their bounds, and a file under many writers."""

from __future__ import annotations

import json
import os
import sqlite3
import stat
import subprocess
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path
from subprocess import PIPE
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from allos.errors import ConfigurationError
from allos.store import FileStore, Item, MemoryStore, Store, open_store


@pytest.fixture(params=["memory", "file"])
def store(request: pytest.FixtureRequest, tmp_path: Path) -> Store:
    return MemoryStore() if request.param == "memory" else FileStore(str(tmp_path / "state.db"))


KEYS = st.sampled_from(["a", "b", "responses/ü"])
IDS = st.sampled_from(["1", "2", "3"])
TEXTS = st.text(st.characters(codec=None), max_size=5)  # lone surrogates and NUL too
RECORDS = st.dictionaries(TEXTS, TEXTS, max_size=2)
ITEMS = st.lists(st.builds(Item, IDS, RECORDS), max_size=3)
STEPS = st.one_of(
    st.tuples(st.just("put"), KEYS, RECORDS, ITEMS),
    st.tuples(st.just("change"), KEYS, RECORDS),
    st.tuples(st.just("delete"), KEYS),
    st.tuples(st.just("append"), KEYS, ITEMS),
    st.tuples(st.just("remove"), KEYS, IDS),
)


class Model:
    """What a store promises, in the plainest words."""

    def __init__(self) -> None:
        self.records: dict[str, dict[str, str]] = {}
        self.lists: dict[str, list[Item]] = {}

    def put(self, key: str, record: dict[str, str], items: list[Item]) -> None:
        self.records[key], self.lists[key] = record, list(items)

    def change(self, key: str, record: dict[str, str]) -> bool:
        if key in self.records:
            self.records[key] = record
        return key in self.records

    def delete(self, key: str) -> bool:
        self.lists.pop(key, None)
        return self.records.pop(key, None) is not None

    def append(self, key: str, items: list[Item]) -> bool:
        if key in self.records:
            self.lists[key] += items
        return key in self.records

    def remove(self, key: str, item_id: str) -> bool:
        before = self.lists.get(key, [])
        left = [item for item in before if item.id != item_id]
        if key in self.records:
            self.lists[key] = left
        return len(left) < len(before)


@settings(deadline=None, max_examples=60)
@given(st.lists(STEPS, max_size=12))
def test_both_stores_do_what_a_plain_model_does(steps: list[tuple[Any, ...]]) -> None:
    with tempfile.TemporaryDirectory() as folder:
        stores: list[Store] = [MemoryStore(), FileStore(os.path.join(folder, "state.db"))]
        model = Model()
        for name, *arguments in steps:
            expected = getattr(model, name)(*arguments)
            assert [getattr(store, name)(*arguments) for store in stores] == [expected, expected]
        for store in stores:
            for key in ("a", "b", "responses/ü"):
                assert store.get(key) == model.records.get(key)
                assert store.items(key) == model.lists.get(key, [])
            for item_id in ("1", "2", "3"):
                known = [item for items in model.lists.values() for item in items if item.id == item_id]
                found = store.find(item_id)
                assert found in known if known else found is None


def test_what_was_stored_does_not_change_with_the_object_it_came_from(store: Store) -> None:
    record = {"said": ["yes"]}
    item = {"said": ["yes"]}
    store.put("a", record, [Item("1", item)])
    record["said"].append("no")
    item["said"].append("no")
    kept = store.get("a")
    assert kept == {"said": ["yes"]}
    kept["said"].append("no")
    assert store.get("a") == {"said": ["yes"]}
    assert store.items("a") == [Item("1", {"said": ["yes"]})]


def test_memory_forgets_what_was_not_used_for_longest() -> None:
    store = MemoryStore(most_records=3)
    for key in "abc":
        store.put(key, {})
    store.get("a")
    store.put("d", {})
    assert [key for key in "abcd" if store.get(key) is not None] == ["a", "c", "d"]


@given(st.lists(st.tuples(st.sampled_from("abcdef"), st.integers(0, 80)), max_size=30))
def test_memory_keeps_as_many_of_the_last_used_records_as_its_bounds_allow(puts: list[tuple[str, int]]) -> None:
    store = MemoryStore(most_records=4, most_bytes=120)
    model: dict[str, int] = {}  # key → bytes, least recently used first
    for key, size in puts:
        store.put(key, {"x": "y" * size}, [Item("1", {})])
        model.pop(key, None)
        model[key] = len('{"x":""}') + size + len("{}")
        while len(model) > 1 and (len(model) > 4 or sum(model.values()) > 120):
            del model[next(iter(model))]
        held = {known for known in model if store.find("1") and store.get(known) is not None}
        assert held == set(model)
        assert all(store.get(known) is None for known in "abcdef" if known not in model)


def test_memory_counts_added_items_and_frees_removed_ones() -> None:
    store = MemoryStore(most_bytes=1000)
    store.put("old", {})
    store.put("growing", {})
    for _ in range(5):
        store.append("growing", [Item("1", {"x": "y" * 800})])
        store.remove("growing", "1")
    assert store.get("old") == {}
    store.get("growing")
    store.append("growing", [Item("1", {"x": "y" * 800}), Item("2", {"x": "y" * 200})])
    assert store.get("old") is None
    assert store.get("growing") == {}


def test_no_path_is_one_memory_for_the_whole_process() -> None:
    assert open_store() is open_store(None) is open_store("")
    assert isinstance(open_store(), MemoryStore)


def test_a_path_is_one_store_however_it_is_written(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    store = open_store(tmp_path / "state.db")
    assert open_store("state.db") is store


def test_a_file_is_read_again_by_the_next_process(tmp_path: Path) -> None:
    path = str(tmp_path / "state.db")
    FileStore(path).put("a", {"x": 1}, [Item("1", {"y": "\ud800"})])
    again = FileStore(path)
    assert again.get("a") == {"x": 1}
    assert again.items("a") == [Item("1", {"y": "\ud800"})]


@pytest.mark.fault("X15")
@pytest.mark.skipif(os.name == "nt", reason="Windows has no such modes")
def test_only_the_owner_may_read_the_file_and_the_folder_made_for_it(tmp_path: Path) -> None:
    path = tmp_path / "new" / "state.db"
    store = FileStore(str(path))
    store.put("a", {})
    assert stat.S_IMODE(path.parent.stat().st_mode) == 0o700
    modes = {file.name: stat.S_IMODE(file.stat().st_mode) for file in path.parent.iterdir()}
    assert "state.db" in modes
    assert set(modes.values()) == {0o600}


def _folder(path: Path) -> None:
    path.mkdir()


def _other_program(path: Path) -> None:
    database = sqlite3.connect(path)
    database.execute("CREATE TABLE bookmarks (url)")
    database.commit()
    database.close()


def _newer(path: Path) -> None:
    FileStore(str(path)).put("a", {})
    database = sqlite3.connect(path)
    database.execute("PRAGMA user_version = 99")
    database.close()


@pytest.mark.fault("X14")
@pytest.mark.parametrize(
    "make",
    [lambda path: path.write_text("no database at all, but a long enough text"), _folder, _other_program, _newer],
    ids=["text", "folder", "other-program", "newer"],
)
def test_a_file_that_is_no_state_is_refused_by_name(make: Any, tmp_path: Path) -> None:
    path = tmp_path / "state.db"
    make(path)
    with pytest.raises(ConfigurationError, match=r"state\.db.*ALLOS_STATE"):
        FileStore(str(path))


def test_a_file_of_another_program_stays_as_it_was(tmp_path: Path) -> None:
    path = tmp_path / "bookmarks.db"
    _other_program(path)
    before = path.read_bytes()
    with pytest.raises(ConfigurationError):
        FileStore(str(path))
    assert path.read_bytes() == before
    assert [file.name for file in tmp_path.iterdir() if file.is_file()] == ["bookmarks.db"]


def test_a_file_that_breaks_in_use_is_named(tmp_path: Path) -> None:
    store = FileStore(str(tmp_path / "state.db"))
    other = sqlite3.connect(tmp_path / "state.db")
    other.execute("DROP TABLE items")
    other.close()
    with pytest.raises(ConfigurationError, match=r"state\.db"):
        store.put("a", {}, [Item("1", {})])
    assert store.get("a") is None  # whole or not at all


WRITER = """
import sys, threading
from allos.store import FileStore, Item
store = FileStore(sys.argv[1])
print("ready", flush=True)
input()
def write(name):
    for turn in range(10):
        store.put(f"{name}/{turn}", {"turn": turn}, [Item(f"{name}-{turn}", {})])
        assert store.append("shared", [Item(f"{name}-{turn}", {"by": name}), Item(f"{name}-{turn}-b", {"by": name})])
threads = [threading.Thread(target=write, args=(sys.argv[2] + str(n),)) for n in range(2)]
[thread.start() for thread in threads]
[thread.join() for thread in threads]
"""


def test_four_processes_with_two_threads_each_lose_nothing(tmp_path: Path) -> None:
    path = str(tmp_path / "state.db")
    store = FileStore(path)
    store.put("shared", {})
    writers = [
        subprocess.Popen([sys.executable, "-c", WRITER, path, name], stdin=PIPE, stdout=PIPE, text=True)
        for name in "ABCD"
    ]
    for writer in writers:
        assert writer.stdout is not None
        assert writer.stdout.readline() == "ready\n"
    for writer in writers:
        writer.communicate("go\n", timeout=60)
    assert [writer.returncode for writer in writers] == [0, 0, 0, 0]
    items = store.items("shared")
    names = [f"{process}{thread}" for process in "ABCD" for thread in range(2)]
    for name in names:
        mine = [item.id for item in items if item.data["by"] == name]
        assert mine == [f"{name}-{turn}{end}" for turn in range(10) for end in ("", "-b")]
        assert all(store.get(f"{name}/{turn}") == {"turn": turn} for turn in range(10))
    assert len(items) == len(names) * 20
    assert all(items[at].id + "-b" == items[at + 1].id for at in range(0, len(items), 2))  # appended as a whole


class Busy(sqlite3.Connection):
    """Refuses the switch of the journal twice, as SQLite does at once where another process is at it."""

    refusals = 2

    def execute(self, statement: str, *values: Any) -> sqlite3.Cursor:
        if "journal_mode" in statement and self.refusals:
            self.refusals -= 1
            error = sqlite3.OperationalError("database is locked")
            error.sqlite_errorcode = sqlite3.SQLITE_BUSY
            raise error
        return super().execute(statement, *values)


def test_a_file_that_another_process_switches_just_now_is_waited_for(tmp_path: Path) -> None:
    database = sqlite3.connect(tmp_path / "state.db", isolation_level=None, factory=Busy)
    FileStore._prepare(database)
    assert database.execute("PRAGMA journal_mode").fetchone() == ("wal",)
    database.close()


def test_processes_may_make_the_file_at_the_same_time(tmp_path: Path) -> None:
    make = "import sys; from allos.store import FileStore, Item; FileStore(sys.argv[1]).put(sys.argv[2], {})"
    path = str(tmp_path / "folder" / "state.db")
    makers = [subprocess.Popen([sys.executable, "-c", make, path, name]) for name in "ABCD"]
    assert [maker.wait(60) for maker in makers] == [0, 0, 0, 0]
    assert all(FileStore(path).get(name) == {} for name in "ABCD")


def in_child(body: Callable[[], bool]) -> bool:
    """Runs a function in a forked child and says whether it returned True."""
    child = os.fork()
    if child == 0:
        status = 1
        try:
            status = 0 if body() else 1
        finally:
            os._exit(status)
    return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0


@pytest.mark.skipif(not hasattr(os, "fork"), reason="no fork here")
def test_a_forked_child_shares_the_file_with_its_parent(tmp_path: Path) -> None:
    store = FileStore(str(tmp_path / "state.db"))
    store.put("parent", {})

    def write() -> bool:
        store.put("child", {})
        return store.get("parent") == {}

    with store._lock:  # as if another thread were writing while this one forks
        assert in_child(write)
    store.put("parent", {"again": True})
    assert store.get("child") == {}


@pytest.mark.skipif(not hasattr(os, "fork"), reason="no fork here")
def test_a_forked_child_has_its_own_copy_of_the_memory() -> None:
    store = open_store()
    store.put("responses/before-fork", {"x": 1})
    assert in_child(lambda: store.delete("responses/before-fork"))
    assert store.get("responses/before-fork") == {"x": 1}
    assert store.delete("responses/before-fork")


def test_the_text_kept_is_json(tmp_path: Path) -> None:
    FileStore(str(tmp_path / "state.db")).put("a", {"x": "é"})
    database = sqlite3.connect(tmp_path / "state.db")
    assert [json.loads(body) for (body,) in database.execute("SELECT body FROM records")] == [{"x": "é"}]
    database.close()
