"""Several processes make the run that one would have made: steps, evaluations, parts of a model.

Two or three are started by torchrun on this machine, over gloo; what they find is compared with
what the same function finds here, alone.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from shutil import copytree

import pytest
import torch
from safetensors.torch import load_file

from tests.distributed import jobs
from tests.distributed.starting import torchrun

TRAINING = (
    "classify",
    "classify_accumulated",
    "choices",
    "competing",
    "competing_at_once",
    "competing_documents",
    "documents",
    "masked_words",
    "both_objectives",
    "an_unused_head",
    "a_stream",
    "an_own_loss",
    "an_own_forward",
    "an_own_module",
    "an_own_loader",
    "a_made_model",
)
SPLIT = (
    "classify_split",
    "classify_split_recomputed",
    "competing_split",
    "documents_split",
    "masked_words_split",
    "an_own_loss_split",
    "an_own_forward_split",
)
EVALUATIONS = (
    "evaluation",
    "evaluation_of_few",
    "evaluation_of_pairs",
    "evaluation_split",
    "evaluation_of_choices",
    "evaluation_of_documents",
    "evaluation_of_tokens",
    "evaluation_of_best_tokens",
    "evaluation_of_an_own_module",
    "evaluation_of_an_own_module_of_few",
)
"""Jobs; alone, a model that would be split is not."""

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module", params=[2, 3])
def together(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """What so many processes have found, each job of each process in a file."""
    out = tmp_path_factory.mktemp("together")
    names = ("exchange", *TRAINING, *SPLIT, *EVALUATIONS)
    done = torchrun(jobs.__file__, out, *names, count=request.param)
    assert done.returncode == 0, done.stderr
    return out


@pytest.fixture(scope="module")
def alone() -> Callable[[str], jobs.Found]:
    found: dict[str, jobs.Found] = {}

    def run(name: str) -> jobs.Found:
        if name not in found:
            threads = torch.get_num_threads()
            found[name] = getattr(jobs, name)()
            torch.set_num_threads(threads)
        return found[name]

    return run


def of_process(folder: Path, name: str, rank: int = 0) -> jobs.Found:
    return load_file(folder / f"{name}.{rank}.safetensors")


@pytest.mark.parametrize("name", [*TRAINING, *SPLIT])
def test_steps_are_those_of_one_process(
    name: str, together: Path, alone: Callable[[str], jobs.Found]
) -> None:
    found, wanted = of_process(together, name), alone(name)
    wanted.pop("rows", None)
    assert found.keys() == wanted.keys()
    assert len(found["loss"]) == jobs.STEPS
    off = {key: float((found[key] - value).abs().max()) for key, value in wanted.items()}
    weights = max(value for key, value in off.items() if "." in key)
    size = int(of_process(together, "exchange")["size"])
    print(f"{name} in {size} processes: loss off by {off['loss']:.1e}, weights by {weights:.1e}")
    for key, value in wanted.items():
        torch.testing.assert_close(found[key], value, rtol=1e-5, atol=1e-5, msg=key)


@pytest.mark.parametrize("name", [*TRAINING, *SPLIT])
def test_every_process_knows_the_whole_step(name: str, together: Path) -> None:
    first, other = of_process(together, name), of_process(together, name, 1)
    for key, value in other.items():
        assert torch.equal(value, first[key]), key


@pytest.mark.parametrize("name", EVALUATIONS)
def test_an_evaluation_counts_each_row_once(
    name: str, together: Path, alone: Callable[[str], jobs.Found]
) -> None:
    wanted = alone(name)
    for rank in range(2):
        found = of_process(together, name, rank)
        assert found.keys() == wanted.keys()
        for key, value in wanted.items():
            torch.testing.assert_close(found[key], value, rtol=1e-5, atol=1e-5, msg=key)


def test_processes_exchange_numbers_texts_and_tensors(together: Path) -> None:
    found = of_process(together, "exchange")
    assert int(found["size"]) in (2, 3)


RESUMED = ("resume_whole", "resume_split", "resume_whole_as_split", "resume_split_as_whole")


@pytest.fixture(scope="module")
def saved(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with the checkpoints of two runs of two processes that were killed."""
    out = tmp_path_factory.mktemp("saved")
    done = torchrun(jobs.__file__, out, "save_whole", "save_split", count=2)
    assert done.returncode == 0, done.stderr
    return out


def test_a_split_checkpoint_has_parts_and_no_pickle(saved: Path) -> None:
    checkpoint = saved / "split" / "checkpoint-2"
    names = {path.relative_to(checkpoint).as_posix() for path in checkpoint.rglob("*.*")}
    parts = {name for name in names if name.startswith("sharded/")}
    assert len(parts) == 2
    assert {Path(name).suffix for name in names} == {".json", ".safetensors"}
    whole = saved / "whole" / "checkpoint-2"
    together = sum(
        (whole / f"{name}.safetensors").stat().st_size for name in ("model", "optimizer")
    )
    assert all((checkpoint / name).stat().st_size < 0.75 * together for name in parts)


@pytest.fixture(scope="module", params=[2, 3])
def gone_on(
    request: pytest.FixtureRequest, saved: Path, tmp_path_factory: pytest.TempPathFactory
) -> Path:
    """The ends of these runs, by so many processes."""
    out = tmp_path_factory.mktemp("gone_on")
    for each in ("whole", "split"):
        copytree(saved / each, out / each)
    done = torchrun(jobs.__file__, out, *RESUMED, count=request.param)
    assert done.returncode == 0, done.stderr
    return out


@pytest.mark.parametrize("name", RESUMED)
def test_any_number_of_processes_goes_on(
    name: str, gone_on: Path, alone: Callable[[str], jobs.Found]
) -> None:
    require_weights(of_process(gone_on, name), alone("classify_split"))


@pytest.mark.parametrize("each", ["whole", "split"])
def test_one_process_goes_on(
    each: str, saved: Path, tmp_path: Path, alone: Callable[[str], jobs.Found]
) -> None:
    copytree(saved / each, tmp_path / each)
    found = jobs.resumed(tmp_path / each, fsdp=False)
    require_weights(found, alone("classify_split"))


def require_weights(found: jobs.Found, wanted: jobs.Found) -> None:
    weights = {key: value for key, value in wanted.items() if key.startswith("weight.")}
    assert found.keys() == weights.keys()
    for key, value in weights.items():
        torch.testing.assert_close(found[key], value, rtol=1e-5, atol=1e-5, msg=key)
