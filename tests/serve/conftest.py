"""A model folder of a test's own, and a client of a server that answers with it."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from tests.serve.opened import RULER, fp32

if TYPE_CHECKING:
    from starlette.testclient import TestClient


@pytest.fixture
def folder(tuned: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(tuned, tmp_path / "models" / "mine"))


@pytest.fixture
def client(folder: Path) -> Iterator[TestClient]:
    """Of an administrator, with the model as "mine"."""
    from starlette.testclient import TestClient

    from bertolt.serve.app import Server
    from bertolt.serve.clients import Keys
    from bertolt.serve.models import Models

    models = Models({}, fp32, parent=folder.parent)
    models.load("mine")
    app = Server(models, keys=Keys([], [RULER])).app()
    with TestClient(app, raise_server_exceptions=False) as client:
        client.headers["Authorization"] = f"Bearer {RULER}"
        yield client
