"""`deploy/`: the container file and the unit of systemd, as far as a test goes."""

from __future__ import annotations

import json
import os
import re
import shlex
import shutil
import socket
import subprocess
import sys
import threading
import tomllib
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path
from typing import ClassVar

import pytest

from bertolt.commands.serve_options import ServeOptions

ROOT = Path(__file__).parents[2]
CONTAINER = ROOT / "deploy/Containerfile"
UNIT = ROOT / "deploy/bertolt.service"


def instructions() -> list[tuple[str, str]]:
    """Each instruction of the container file with what stands behind it, in one line."""
    text = re.sub(r"(?m)^#.*\n", "", CONTAINER.read_text(encoding="utf-8"))
    lines = text.replace("\\\n", " ").splitlines()
    pairs = [line.split(maxsplit=1) for line in lines if line.strip()]
    return [(name, " ".join(rest.split())) for name, rest in pairs]


def last_stage() -> list[tuple[str, str]]:
    """The instructions of what runs."""
    every = instructions()
    start = max(place for place, (name, _) in enumerate(every) if name == "FROM")
    return every[start:]


def value(name: str) -> str:
    """Of an instruction that stands once in what runs."""
    (only,) = (rest for kind, rest in last_stage() if kind == name)
    return only


# ---- the container file


def test_what_the_container_file_copies_is_there_and_reaches_the_builder() -> None:
    rules = CONTAINER.with_name("Containerfile.dockerignore").read_text(encoding="utf-8")
    lines = [line for line in rules.splitlines() if line and not line.startswith("#")]
    assert lines[0] == "*"
    let_in = {line.removeprefix("!") for line in lines if line.startswith("!")}
    copied: set[str] = set()
    for name, rest in instructions():
        if name == "COPY" and not rest.startswith("--from"):
            copied |= set(rest.split()[:-1])
    assert copied == let_in
    assert all((ROOT / name).exists() for name in copied)
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    assert {project["readme"], *project["license-files"], "pyproject.toml", "bertolt"} <= copied


def test_the_container_file_installs_pinned_packages_of_an_extra_that_is_there() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    runs = [rest for name, rest in instructions() if name == "RUN"]
    installs = [run for run in runs if "pip install" in run]
    assert all("--constraint constraints.txt" in run for run in installs)
    (install,) = (run for run in installs if "'.[" in run)
    for extra in re.findall(r"\.\[([\w,]+)\]", install):
        assert set(extra.split(",")) <= project["optional-dependencies"].keys()
    pins = (ROOT / "constraints.txt").read_text(encoding="utf-8")
    assert len(re.findall(r"(?m)^torch==", pins)) == 1


def test_the_container_needs_no_hub_and_is_not_root() -> None:
    stage = last_stage()
    settings = " ".join(rest for name, rest in stage if name == "ENV")
    assert "HF_HUB_OFFLINE=1" in settings.split()
    assert not re.search(r"huggingface|\bhf\b|from_pretrained|download", CONTAINER.read_text())
    user, _, group = value("USER").partition(":")
    (adds,) = (rest for name, rest in stage if name == "RUN")
    assert f"--uid {user} " in adds
    assert "--system" not in adds  # whose numbers end at 999: useradd warns of any other
    assert int(user) > 0
    assert int(group) > 0
    # Nothing is done as root after that, and no key and no model lies in the image.
    after = [name for name, _ in stage[[name for name, _ in stage].index("USER") :]]
    assert not {"RUN", "COPY", "ADD"} & set(after)
    assert [rest.split()[0] for name, rest in stage if name == "COPY"] == ["--from=build"]


def test_the_container_asks_for_keys_and_ends_by_a_signal_that_drains() -> None:
    words = json.loads(value("ENTRYPOINT")) + json.loads(value("CMD"))
    assert words[:2] == ["bertolt", "serve"]
    assert words[words.index("--port") + 1] == value("EXPOSE")
    assert "--keys" in words
    assert "--selftest" in words
    assert value("STOPSIGNAL") == "SIGTERM"


class _Health(BaseHTTPRequestHandler):
    status: ClassVar[int] = 200
    asked: ClassVar[list[str]] = []

    def do_GET(self) -> None:
        self.asked.append(self.path)
        self.send_response(self.status)
        self.end_headers()

    def log_message(self, *_: object) -> None:
        pass


@contextmanager
def answering(status: int) -> Iterator[int]:
    """A port on which everything is answered with a status."""
    kind = type("Health", (_Health,), {"status": status, "asked": []})
    with HTTPServer(("127.0.0.1", 0), kind) as server:
        thread = threading.Thread(target=server.serve_forever, args=(0.01,))
        thread.start()
        try:
            yield server.server_port
        finally:
            server.shutdown()
            thread.join()
    assert kind.asked == ["/health"]  # type: ignore[attr-defined]


def checked(port: int) -> int:
    """The exit code of the container's check of its health, with another port."""
    rest = value("HEALTHCHECK")
    name, *words = json.loads(rest[rest.index("CMD") + 3 :])
    assert name == "python"
    changed = [word.replace(f":{value('EXPOSE')}/", f":{port}/") for word in words]
    assert changed != words
    done = subprocess.run(
        [sys.executable, *changed], stderr=subprocess.DEVNULL, timeout=60, check=False
    )
    return done.returncode


def test_the_container_is_healthy_where_the_server_says_so() -> None:
    with answering(200) as port:
        assert checked(port) == 0
    with answering(503) as port:
        assert checked(port) != 0
    with socket.socket() as nobody:
        nobody.bind(("127.0.0.1", 0))
        assert checked(nobody.getsockname()[1]) != 0


# ---- the unit of systemd


def unit() -> dict[str, list[str]]:
    """The settings of the unit by name."""
    settings: dict[str, list[str]] = {}
    for line in UNIT.read_text(encoding="utf-8").splitlines():
        if "=" in line and not line.startswith("#"):
            name, _, rest = line.partition("=")
            settings.setdefault(name, []).append(rest)
    return settings


def start_words(folder: Path, keys: Path) -> list[str]:
    """The words behind `bertolt` with which the unit starts, for another folder and keys."""
    (line,) = unit()["ExecStart"]
    line = line.replace("${CREDENTIALS_DIRECTORY}/keys", str(keys)).replace("$OPTIONS", "")
    program, *words = shlex.split(line.replace("/srv/bertolt/model", str(folder)))
    assert Path(program).name == "bertolt"
    return words


@pytest.mark.skipif(shutil.which("systemd-analyze") is None, reason="there is no systemd here")
def test_systemd_understands_the_unit_and_calls_it_safe(tmp_path: Path) -> None:
    (program := tmp_path / "bertolt").write_text("#!/bin/sh\n")
    program.chmod(0o755)
    copy = tmp_path / "bertolt.service"
    text = UNIT.read_text(encoding="utf-8")
    copy.write_text(text.replace("ExecStart=/opt/bertolt/bin/bertolt", f"ExecStart={program}"))
    settings = {**os.environ, "LC_ALL": "C"}
    done = subprocess.run(
        ["systemd-analyze", "verify", str(copy)], capture_output=True, text=True, env=settings
    )
    assert (done.returncode, "bertolt.service" in done.stderr) == (0, False), done.stderr
    done = subprocess.run(
        ["systemd-analyze", "security", "--offline=true", "--threshold=25", str(copy)],
        capture_output=True,
        text=True,
        env=settings,
    )
    if "unrecognized option" not in done.stderr:
        assert done.returncode == 0, done.stdout[-2000:] + done.stderr


def test_the_unit_gives_time_to_drain_and_no_rights() -> None:
    settings = unit()
    assert settings["KillSignal"] == ["SIGTERM"]
    assert settings["DynamicUser"] == settings["NoNewPrivileges"] == ["yes"]
    assert settings["CapabilityBoundingSet"] == [""]
    # Usage errors end with 2: to start again would end in the same way.
    assert settings["RestartPreventExitStatus"] == ["2"]
    assert any("HF_HUB_OFFLINE=1" in line for line in settings["Environment"])
    # The kernels of a CPU are compiled while the server runs.
    assert "MemoryDenyWriteExecute" not in settings
    # Longer than the end may take by default.
    assert int(settings["TimeoutStopSec"][0]) > ServeOptions().timeout + 5
    # Keys reach it by systemd, so that their file may belong to root alone.
    assert settings["LoadCredential"] == ["keys:/etc/bertolt/keys.txt"]
