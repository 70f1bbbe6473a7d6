"""Small work of PyTorch wakes none of its threads, and has the same bits."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch

from bertolt.base.few import FEW, repeated, softmax

THREADS = """
import os, torch
from bertolt.base import few
from bertolt.data.batch import PackedBatch
torch.set_num_threads(2)
def threads(): return len(os.listdir("/proc/self/task"))
torch.ones(3) + torch.ones(3)
before = threads()
few.softmax(torch.ones(64, 5))
batch = PackedBatch.from_sequences([[1, 2], [3, 4, 5], [6]])
assert batch.column.tolist() == [0, 1, 0, 1, 2, 0]
print(threads() - before)
torch.ones(4096, 5).softmax(-1)
print(threads() - before)
"""


@pytest.mark.parametrize("shape", [(5,), (1, 2), (7, 2), (FEW, 9), (FEW + 1, 3), (3, 4, 130)])
def test_probabilities_have_the_bits_of_pytorch(shape: tuple[int, ...]) -> None:
    logits = 8 * torch.randn(shape, generator=torch.Generator().manual_seed(0))
    assert torch.equal(softmax(logits), logits.softmax(-1))


def test_probabilities_can_be_learned_through() -> None:
    logits = torch.randn(3, 2, requires_grad=True)
    softmax(logits)[:, 0].sum().backward()
    assert logits.grad is not None
    assert logits.grad.any()


def test_values_are_repeated_as_pytorch_does_it() -> None:
    values, counts = torch.tensor([3, 1, 2]), torch.tensor([2, 0, 3])
    expected = values.repeat_interleave(counts)
    assert torch.equal(repeated(values, counts, 5), expected)
    assert repeated(values, counts, 5).dtype == expected.dtype


@pytest.mark.skipif(not Path("/proc/self/task").is_dir(), reason="threads are counted in /proc")
def test_no_thread_begins_for_a_few_rows() -> None:
    settings = {**os.environ, "OMP_NUM_THREADS": "2"}
    done = subprocess.run(
        [sys.executable, "-c", THREADS], env=settings, capture_output=True, text=True, check=True
    )
    few, many = map(int, done.stdout.split())
    assert few == 0
    assert many > 0  # else this test would see nothing
