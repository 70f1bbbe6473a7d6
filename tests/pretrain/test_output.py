"""The folder of a run: what it takes over, what it takes away, what it refuses."""

from __future__ import annotations

from pathlib import Path

import pytest

from bertolt.base.errors import UsageError
from bertolt.pretrain.output import run_folder


def names(folder: Path) -> set[str]:
    return {path.name for path in folder.iterdir()}


@pytest.fixture
def killed(tmp_path: Path) -> Path:
    """The folder of a run that was killed while it wrote its result."""
    for name in ("checkpoint-10", ".checkpoint-5.ab_d1234.old", ".checkpoint-20.abcd1234.part"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "manifest.json").touch()
    for name in ("log.jsonl", ".log.jsonl.abcd1234.part", ".model.safetensors.abcd1234.part"):
        (tmp_path / name).touch()
    return tmp_path


@pytest.mark.parametrize(
    ("overwrite", "resume", "left"),
    [
        (True, False, set()),
        (False, True, {"checkpoint-10", "log.jsonl"}),
        (True, True, {"checkpoint-10", "log.jsonl"}),
    ],
)
def test_what_was_half_written_goes_when_the_folder_is_taken(
    killed: Path, overwrite: bool, resume: bool, left: set[str]
) -> None:
    with run_folder(killed, overwrite=overwrite, resume=resume):
        assert names(killed) == left


@pytest.mark.parametrize("name", [".log.jsonl.abcd1234.part", ".checkpoint-5.abcd1234.part"])
def test_a_run_that_was_killed_in_its_first_write_is_one_to_go_on_with(
    tmp_path: Path, name: str
) -> None:
    (tmp_path / name).touch()
    with run_folder(tmp_path, overwrite=False, resume=True):
        assert not names(tmp_path)


@pytest.mark.parametrize("name", [".thesis.tex.abcd1234.part", ".model.safetensors.part", ".env"])
def test_what_somebody_else_half_wrote_stays(killed: Path, name: str) -> None:
    (killed / name).touch()
    with (
        pytest.raises(UsageError, match="which no run has written"),
        run_folder(killed, overwrite=True, resume=False),
    ):
        pytest.fail("the block must not run")
    with run_folder(killed, overwrite=False, resume=True):
        assert names(killed) == {"checkpoint-10", "log.jsonl", name}
