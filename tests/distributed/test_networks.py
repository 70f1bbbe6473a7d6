"""Two machines, as far as the network is concerned: namespaces with addresses of their own.

They are made for this test and joined by a cable of their own (a veth pair that is born inside of
them), so nothing that is there before is touched. Where that is not allowed the test skips itself.
"""

from __future__ import annotations

import secrets
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

from tests.distributed import jobs
from tests.distributed.starting import TIMEOUT, environment

ADDRESSES = ("10.213.57.1", "10.213.57.2")
PORT = "29517"  # in the namespaces, where nothing else listens
NAMES = ("exchange", "classify", "classify_split", "evaluation")

pytestmark = pytest.mark.slow


def ip(*words: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        ["ip", *words], capture_output=True, encoding="utf-8", timeout=30, check=False
    )


@pytest.fixture
def networks() -> Iterator[tuple[str, str]]:
    """The names of two namespaces that reach each other and nothing else."""
    if sys.platform != "linux" or shutil.which("ip") is None:
        pytest.skip("there is no `ip` here (iproute2)")
    mark = secrets.token_hex(3)
    one, other = names = (f"bertolt-{mark}-1", f"bertolt-{mark}-2")
    try:
        for name in names:
            if (done := ip("netns", "add", name)).returncode:
                pytest.skip(f"no network namespace can be made here: {done.stderr.strip()}")
        cable = ("type", "veth", "peer", "name", "cable", "netns", other)
        if (done := ip("link", "add", "cable", "netns", one, *cable)).returncode:
            pytest.skip(f"no virtual cable can be made here: {done.stderr.strip()}")
        for name, address in zip(names, ADDRESSES, strict=True):
            for words in (
                ("addr", "add", f"{address}/30", "dev", "cable"),
                ("link", "set", "cable", "up"),
                ("link", "set", "lo", "up"),
            ):
                assert ip("-n", name, *words).returncode == 0
        yield names
    finally:
        for name in names:
            ip("netns", "del", name)  # and the cable with it


def start(network: str, number: int, *words: object) -> subprocess.Popen[str]:
    """One of two machines, with one process."""
    command = [sys.executable, "-m", "torch.distributed.run", "--nnodes=2", "--nproc-per-node=1"]
    command += [f"--node-rank={number}", f"--master-addr={ADDRESSES[0]}", f"--master-port={PORT}"]
    return subprocess.Popen(
        ["ip", "netns", "exec", network, *command, *map(str, words)],
        env={**environment(), "GLOO_SOCKET_IFNAME": "cable"},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        encoding="utf-8",
    )


def test_two_machines_make_the_run_of_one(networks: tuple[str, str], tmp_path: Path) -> None:
    started = [
        start(network, number, jobs.__file__, tmp_path, *NAMES)
        for number, network in enumerate(networks)
    ]
    try:
        said = [each.communicate(timeout=TIMEOUT)[0] for each in started]
    finally:
        for each in started:
            each.kill()
    assert [each.returncode for each in started] == [0, 0], "\n".join(said)
    for name in NAMES[1:]:
        wanted = getattr(jobs, name)()
        wanted.pop("rows", None)
        found = load_file(tmp_path / f"{name}.0.safetensors")
        assert found.keys() == wanted.keys()
        for key, value in wanted.items():
            torch.testing.assert_close(found[key], value, rtol=1e-5, atol=1e-5, msg=key)
