"""Importing Allos does nothing but import: seen by the interpreter's own audit, in a folder that is out to harm."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

# Each event of the interpreter that touches the world outside; https://docs.python.org/3/library/audit_events.html
WATCHED = """
import json, os, sys, threading

done = []
READ_ONLY = os.O_RDONLY | getattr(os, "O_CLOEXEC", 0)
ACTS = ("socket.", "subprocess.", "os.system", "os.exec", "os.fork", "os.posix_spawn", "os.spawn", "pty.", "urllib.",
        "http.", "ftplib.", "smtplib.", "webbrowser.", "_thread.start_new_thread", "_thread.start_joinable_thread",
        "os.mkdir", "os.remove", "os.rename", "os.rmdir", "os.link", "os.symlink", "os.truncate", "os.chmod",
        "os.chown", "os.utime", "os.putenv", "os.unsetenv", "shutil.", "tempfile.", "sqlite3.", "signal.pthread_kill",
        "setopencodehook", "sys.setprofile", "sys.settrace")

def watch(event, args):
    if event == "open":
        path, mode, flags = args
        if (flags | READ_ONLY) != READ_ONLY:
            done.append(("write", str(path)))
        elif str(path).startswith(os.getcwd()) or os.path.basename(str(path)) in POISON:
            done.append(("read", str(path)))
    elif event.startswith(ACTS):
        done.append((event, repr(args)[:200]))

def started(thread, start=threading.Thread.start):  # older interpreters report no thread
    done.append(("thread", thread.name))
    start(thread)

threading.Thread.start = started
POISON = set(os.listdir()) | {".env"}
os.chdir(sys.argv[1])
sys.addaudithook(watch)
"""

# What a program imports, and the names that only then load the rest.
IMPORTS = {
    "allos": "import allos",
    "the command": "import allos.cli, allos.cli.app",
    "every public name": "import allos\nfor name in allos.__all__:\n    getattr(allos, name)",
    "every module": (
        "import importlib, pkgutil, allos\n"
        "for module in pkgutil.walk_packages(allos.__path__, 'allos.'):\n"
        "    if not module.name.endswith('__main__'): importlib.import_module(module.name)"
    ),
}

POISONED = {
    ".env": "OPENAI_API_KEY=stolen\nOPENAI_BASE_URL=http://127.0.0.1:9/v1\nALLOS_PROVIDER=groq\n",
    "allos.toml": 'base_url = "http://127.0.0.1:9/v1"\n',
    "pyproject.toml": '[tool.allos]\nbase_url = "http://127.0.0.1:9/v1"\n',
    "config.toml": 'base_url = "http://127.0.0.1:9/v1"\n',
    "sitecustomize.py": "raise SystemExit('run from the working folder')\n",
    "openai.py": "raise SystemExit('run from the working folder')\n",
}


def acts(program: str, folder: Path) -> list[list[str]]:
    """What the program does besides computing, in a folder of poison."""
    for name, text in POISONED.items():
        (folder / name).write_text(text)
    told = "\nprint(json.dumps([done, sorted({t.name for t in threading.enumerate()}), dict(os.environ)]))"
    # -P and -B: the working folder is no place of modules, and no compiled file is written
    done = subprocess.run(
        [sys.executable, "-P", "-B", "-X", "dev", "-W", "error", "-c", WATCHED + program + told, str(folder)],
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert (done.returncode, done.stderr) == (0, "")
    events, threads, environment = json.loads(done.stdout)
    assert threads == ["MainThread"]
    assert "stolen" not in environment.values()
    return list(events)


@pytest.mark.fault("D1")
@pytest.mark.parametrize("what", IMPORTS)
def test_an_import_opens_no_socket_and_starts_writes_and_reads_nothing(what, tmp_path):
    assert acts(IMPORTS[what], tmp_path) == []


@pytest.mark.parametrize(
    "harm",
    [
        "import socket\nsocket.socket().close()",
        "import subprocess\nsubprocess.run(['true'])",
        "thread = threading.Thread(target=int)\nthread.start()\nthread.join()",
        "open(os.path.join(os.path.expanduser('~'), 'left'), 'w').close()",
        "open('.env').close()",
        "os.environ['OPENAI_API_KEY'] = 'x'",
    ],
)
def test_the_watch_sees_what_it_is_there_for(harm, tmp_path):
    assert acts(harm, tmp_path)
