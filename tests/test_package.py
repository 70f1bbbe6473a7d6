"""What is installed: bounds of dependencies, what is built, and the main job from that."""

from __future__ import annotations

import ast
import datetime
import re
import sys
import tomllib
import zipfile
from importlib import metadata
from pathlib import Path
from typing import Any

import pytest
import yaml
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name
from packaging.version import Version

from benchmarks.dependencies import needed
from bertolt.base.version import __version__
from tests.environments import (
    ROOT,
    build,
    clone,
    empty_environment,
    install,
    main_job,
    require_index,
    run,
    unpack,
)

NEWEST_TORCH = Version("2.13")
"""The newest PyTorch that all tests ran with. To lift it: pin the new one in `constraints.txt`, run
all tests, and those marked `gpu` on a GPU, and only then change this and the bound in
`pyproject.toml`."""
OLDEST_TORCH = Version("2.11")
"""The oldest that was tried, on a GPU."""

PROJECT: dict[str, Any] = tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))["project"]
EXTRAS = ("excel", "serve", "tensorboard")
"""Those whose packages the library itself calls, and that tests run with."""


def requirements(*extras: str) -> dict[str, Requirement]:
    """What the library needs, and what these extras add, by name."""
    lines = [*PROJECT["dependencies"]]
    for extra in extras:
        lines += PROJECT["optional-dependencies"][extra]
    return {canonicalize_name(Requirement(line).name): Requirement(line) for line in lines}


def pinned(name: str) -> dict[str, Version]:
    """The versions in a file of constraints."""
    lines = (ROOT / name).read_text(encoding="utf-8").splitlines()
    pairs = (line.split("==") for line in lines if line and not line.startswith("#"))
    return {canonicalize_name(each): Version(version) for each, version in pairs}


def lower_bound(requirement: Requirement) -> Version:
    (bound,) = [each for each in requirement.specifier if each.operator == ">="]
    return Version(bound.version)


# ---- bounds ----


def test_the_newest_pytorch_is_the_one_that_was_tried() -> None:
    """This fails when the bound is lifted, or the pin, without the other: see `NEWEST_TORCH`."""
    torch = requirements()["torch"].specifier
    assert pinned("constraints.txt")["torch"].release[:2] == NEWEST_TORCH.release
    major, minor = NEWEST_TORCH.release
    assert torch == Requirement(f"torch>={OLDEST_TORCH},<{major}.{minor + 1}").specifier
    assert Version(Version(metadata.version("torch")).public) in torch


@pytest.mark.parametrize("name", sorted(requirements(*EXTRAS).keys() - {"torch"}))
def test_the_oldest_version_of_each_is_the_one_that_is_run(name: str) -> None:
    oldest = pinned("constraints-oldest.txt")[name]
    assert oldest == lower_bound(requirements(*EXTRAS)[name])
    assert oldest <= pinned("constraints.txt")[name]


def test_what_the_library_imports_is_declared() -> None:
    """Or named here, with the reason."""
    asked_for = {
        "accelerate",  # never imported but where it is there: it seeds the user's own program
        "datasets", "transformers",  # of users, whose objects are taken
    }  # fmt: skip
    named = {
        "yaml": "pyyaml",
        "mlflow": "mlflow-skinny",
        "sklearn": "scikit-learn",
    }  # modules that are called otherwise than their package
    declared = {
        *requirements("demo", *EXTRAS, "export", "ray", "mlflow", "search", "sklearn"),
        *requirements("wandb"),
        "triton",
    }  # torch brings triton with CUDA
    imported = set()
    for path in (ROOT / "bertolt").rglob("*.py"):
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.Import):
                imported |= {alias.name.split(".")[0] for alias in node.names}
            elif isinstance(node, ast.ImportFrom) and node.module:
                imported.add(node.module.split(".")[0])
    others = imported - set(sys.stdlib_module_names) - {"bertolt"} - asked_for
    assert {canonicalize_name(named.get(name, name)) for name in others} <= declared


# ---- what is built ----


@pytest.fixture(scope="module")
def sdist(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("sdist")
    return build("sdist", clone(folder / "clone"), folder / "dist")


@pytest.fixture(scope="module")
def unpacked(sdist: Path) -> Path:
    return unpack(sdist, sdist.parent)


@pytest.fixture(scope="module")
def wheel(unpacked: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Built from the source distribution."""
    return build("wheel", unpacked, tmp_path_factory.mktemp("wheel"))


def contents(wheel: Path) -> dict[str, bytes]:
    with zipfile.ZipFile(wheel) as archive:
        return {name: archive.read(name) for name in archive.namelist()}


@pytest.mark.slow
def test_the_wheel_has_the_library_and_nothing_else(wheel: Path, tmp_path: Path) -> None:
    inside = contents(wheel)
    library = {name for name in inside if not name.startswith(f"bertolt-{__version__}.dist-info/")}
    kinds = ("*.py", "py.typed", "*.html", "*.css", "*.js")
    paths = {path for kind in kinds for path in (ROOT / "bertolt").rglob(kind)}
    assert library == {path.relative_to(ROOT).as_posix() for path in paths}
    for name in library:
        assert inside[name] == (ROOT / name).read_bytes(), name
    assert {"bertolt/py.typed", "bertolt/report/page.html", "bertolt/report/style.css"} <= library
    # The clone gives the same files as its source distribution.
    direct = contents(build("wheel", clone(tmp_path / "clone"), tmp_path))
    assert {name: direct[name] for name in direct if not name.endswith("RECORD")} == {
        name: inside[name] for name in inside if not name.endswith("RECORD")
    }


@pytest.mark.slow
def test_the_source_distribution_has_all_that_its_tests_read(unpacked: Path) -> None:
    folders = ("bertolt", "benchmarks", "deploy", "docs", "examples", "tests")
    for folder in folders:
        ours = {path.relative_to(ROOT) for path in (ROOT / folder).rglob("*") if path.is_file()}
        ours = {path for path in ours if "__pycache__" not in path.parts}
        assert {path for path in ours if not (unpacked / path).is_file()} == set()
    for name in ("pyproject.toml", "LICENSE", "CITATION.cff", "SECURITY.md", "constraints.txt"):
        assert (unpacked / name).read_bytes() == (ROOT / name).read_bytes()


@pytest.mark.slow
def test_the_description_can_be_shown_by_an_index(wheel: Path) -> None:
    """As far as that can be seen without the index's own renderer: Markdown, with a licence."""
    name = f"bertolt-{__version__}.dist-info/METADATA"
    described = contents(wheel)[name].decode("utf-8")
    head, _, body = described.partition("\n\n")
    fields = dict(line.split(": ", 1) for line in head.splitlines())
    assert fields["Name"] == "bertolt"
    assert fields["Version"] == __version__
    assert len(fields["Summary"]) < 512
    assert fields["License-Expression"] == "Apache-2.0"
    assert fields["Description-Content-Type"] == "text/markdown"
    assert body.strip() == (ROOT / "README.md").read_text(encoding="utf-8").strip()
    assert body.lstrip().startswith("# Bertolt")
    assert "<script" not in body


@pytest.mark.slow
def test_the_main_job_runs_from_the_wheel_where_the_clone_is_not(
    wheel: Path, tmp_path: Path, tiny_folder: Path, reviews_csv: Path
) -> None:
    """With the packages that are declared, and no other, in an environment of its own."""
    python = empty_environment(tmp_path / "env", needed(*requirements()).values())
    install(python, "--no-index", wheel)
    folder = tmp_path / "work"
    folder.mkdir()
    where = run(python, "-c", "import bertolt; print(bertolt.__file__)", folder=folder)
    assert Path(where.strip()).is_relative_to(tmp_path / "env")
    check_main_job(main_job(python, folder, tiny_folder, reviews_csv), folder)


def check_main_job(said: str, folder: Path) -> None:
    accuracy = re.search(r"accuracy\D+(\d+(\.\d+)?)%", said)
    assert accuracy is not None, said
    assert float(accuracy[1]) > 90
    assert "self-test passed" in said
    answers = (folder / "answers.csv").read_text(encoding="utf-8").splitlines()
    assert ["pos" in answers[1], "neg" in answers[2]] == [True, True], answers
    assert (folder / "out" / "report.html").stat().st_size > 10_000


@pytest.mark.slow
@pytest.mark.skipif(sys.version_info >= (3, 13), reason="the oldest have no wheels for 3.13")
def test_the_main_job_runs_with_the_oldest_versions(
    wheel: Path, tmp_path: Path, tiny_folder: Path, reviews_csv: Path
) -> None:
    """All but PyTorch, whose oldest version the index has with CUDA alone."""
    require_index(tmp_path)
    oldest = pinned("constraints-oldest.txt")
    all_of_it = needed(*requirements(*EXTRAS))
    rest = [each for name, each in all_of_it.items() if name not in oldest]
    python = empty_environment(tmp_path / "env", rest)
    install(python, wheel, "--requirement", ROOT / "constraints-oldest.txt")
    folder = tmp_path / "work"
    folder.mkdir()
    call = "import importlib.metadata as m, sys; print(*map(m.version, sys.argv[1:]))"
    assert run(python, "-c", call, *oldest, folder=folder).split() == [*map(str, oldest.values())]
    check_main_job(main_job(python, folder, tiny_folder, reviews_csv), folder)
    run(python, "-m", "bertolt", "serve", "out", "--check", folder=folder)


# ---- how it is cited ----


def test_the_citation_has_what_the_format_asks_for() -> None:
    """Of the Citation File Format 1.2.0: what it requires, and what kind each field is."""
    cited = yaml.safe_load((ROOT / "CITATION.cff").read_text(encoding="utf-8"))
    known = "abstract authors cff-version date-released doi keywords license message references"
    assert cited.keys() <= {*known.split(), "title", "type", "version", "url", "repository-code"}
    assert cited["cff-version"] == "1.2.0"
    assert isinstance(cited["message"], str)
    assert cited["title"] == "Bertolt"
    assert cited["type"] in ("software", "dataset")
    assert cited["license"] == PROJECT["license"]
    assert cited["version"] == __version__
    assert cited["abstract"] == PROJECT["description"]
    assert all(isinstance(word, str) for word in cited["keywords"])
    for each in (cited, *cited["references"]):
        assert each["authors"]
        for author in each["authors"]:
            assert set(author) in ({"name"}, {"family-names", "given-names"})
    for reference in cited["references"]:
        assert {"type", "title", "authors"} <= reference.keys()
        kinds = {each["type"] for each in reference["identifiers"]}
        assert kinds <= {"doi", "url", "swh", "other"}
    assert isinstance(cited.get("date-released", datetime.date.today()), datetime.date)
