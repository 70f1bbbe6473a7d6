"""Built distributions, and empty environments that they are installed into.

What Bertolt needs is too large to be fetched for each test: an environment borrows it from the one
that runs the tests, by links to the packages that are declared, to those that these declare, and to
nothing else. What is to have another version is installed by pip.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import tarfile
import tempfile
import venv
from collections.abc import Iterable
from importlib import metadata
from pathlib import Path
from typing import Any

import pytest

ROOT = Path(__file__).parents[1]
PIP = (sys.executable, "-m", "pip", "--disable-pip-version-check", "--quiet")
LEFT_OUT = shutil.ignore_patterns(
    ".*", "__pycache__", "build", "dist", "site", "*.egg-info", "*.pyc"
)


def run(*words: object, folder: Path, seconds: float = 300) -> str:
    """What a program prints, which must succeed; it sees no clone and no package of the user."""
    shown = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}
    done = subprocess.run(
        [str(word) for word in words],
        cwd=folder,
        env=shown | {"PYTHONNOUSERSITE": "1", "OMP_NUM_THREADS": "1"},
        capture_output=True,
        text=True,
        timeout=seconds,
        check=False,
    )
    assert done.returncode == 0, f"{words}\n{done.stdout[-2000:]}\n{done.stderr[-4000:]}"
    return done.stdout


def build(kind: str, source: Path, out: Path) -> Path:
    """A distribution, "sdist" or "wheel", by the backend that `pyproject.toml` names, offline."""
    out.mkdir(exist_ok=True)
    call = f"from setuptools import build_meta as b; print(b.build_{kind}({str(out)!r}))"
    return out / run(sys.executable, "-c", call, folder=source).splitlines()[-1]


def clone(folder: Path) -> Path:
    """A copy of what is committed here, more or less, that a build may write into."""
    return Path(shutil.copytree(ROOT, folder, ignore=LEFT_OUT))


def unpack(sdist: Path, folder: Path) -> Path:
    """The source tree in a source distribution."""
    with tarfile.open(sdist) as archive:
        # Python before 3.11.4 has no filters; the archive is one that was built here.
        safe: Any = {"filter": "data"} if hasattr(tarfile, "data_filter") else {}
        archive.extractall(folder, **safe)
    return folder / sdist.name.removesuffix(".tar.gz")


def require_index(folder: Path) -> None:
    """Skip the test where pip reaches no index."""
    asked = (*PIP, "download", "--no-deps", "--no-cache-dir", "--dest", folder, "iniconfig==2.3.1")
    done = subprocess.run([str(word) for word in asked], capture_output=True, check=False)
    if done.returncode:
        pytest.skip("pip reaches no index")


def empty_environment(folder: Path, distributions: Iterable[metadata.Distribution]) -> Path:
    """An environment with nothing in it but links to these; its Python."""
    venv.EnvBuilder(with_pip=False, symlinks=True).create(folder)
    packages = next(folder.glob("lib*/python3*/site-packages"))
    for distribution in distributions:
        for name in {path.parts[0] for path in distribution.files or ()} - {"..", "__pycache__"}:
            if not (packages / name).is_symlink():
                (packages / name).symlink_to(Path(str(distribution.locate_file(name))))
    return folder / "bin" / "python"


def install(python: Path, *words: object) -> None:
    """Install into an environment by the pip that runs the tests, and look whether all fits."""
    into = (*PIP, "--python", python)
    run(*into, "install", "--no-deps", "--no-compile", *words, folder=ROOT)
    run(*into, "check", folder=ROOT)


def main_job(python: Path, folder: Path, model: Path, rows: Path) -> str:
    """Fine-tune, evaluate, predict, report and self-test as a user would; what they printed.

    Args:
        python: of the environment.
        folder: to work in, with nothing of this clone.
        model: to begin with.
        rows: a CSV to learn by heart.
    """
    shutil.copy(rows, folder / "reviews.csv")
    (folder / "later.csv").write_text("review\na lovely film\na dull plot\n", encoding="utf-8")
    bertolt = python.parent / "bertolt"
    steps = ("--epochs", 8, "--batch-size", 8, "--lr", 5e-3, "--precision", "fp32")
    said = [
        run(bertolt, *words, folder=folder)
        for words in (
            ("finetune", "reviews.csv", "--model", model, "--out", "out", *steps),
            ("evaluate", "out", "reviews.csv"),
            ("predict", "out", "later.csv", "--out", "answers.csv"),
            ("report", "out"),
            ("inspect", "out", "--selftest"),
        )
    ]
    return "\n".join(said)


def main(out: Path) -> None:
    """Write both distributions to a folder, the wheel from the source distribution."""
    with tempfile.TemporaryDirectory() as work:
        source = build("sdist", clone(Path(work) / "clone"), out.absolute())
        print(source, build("wheel", unpack(source, Path(work)), out.absolute()), sep="\n")


if __name__ == "__main__":
    main(Path(sys.argv[1]))
