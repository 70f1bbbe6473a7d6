"""Ray, where it is installed: the cores of a cluster to work on."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterator
from typing import Any, NamedTuple

from bertolt.base.errors import BertoltError, UsageError
from bertolt.base.machine import cores


class Cluster(NamedTuple):
    """A cluster: Ray itself, and how many tasks of one core to have on it at a time."""

    ray: Any
    workers: int


@contextlib.contextmanager
def cluster(workers: int | None = None) -> Iterator[Cluster]:
    """The cluster that Ray finds (`RAY_ADDRESS`), else a local one that ends with the block.

    Args:
        workers: tasks at a time; None for as many as the cluster has cores.

    Raises:
        UsageError: Ray is not installed.
        BertoltError: a task failed, also when it was tried again.
    """
    ray = _ray()
    ours = not ray.is_initialized()
    if ours:
        # Join the cluster that the environment names, or begin one on this machine.
        size = {} if "RAY_ADDRESS" in os.environ else {"num_cpus": workers or cores()}
        try:
            ray.init(include_dashboard=False, log_to_driver=False, **size)
        except Exception as error:  # Ray has no kind of its own for it
            raise BertoltError(
                f"Ray could not begin ({error})",
                place=os.environ.get("RAY_ADDRESS", "--engine ray"),
                fix="look at the cluster, or at what else this machine does, and try again",
            ) from error
    try:
        yield Cluster(ray, workers or int(ray.cluster_resources().get("CPU", 1)))
    except ray.exceptions.RayError as error:
        raise BertoltError(
            f"Ray could not do a part ({error})",
            fix="look at the cluster, and run the same command again: what is done is kept",
        ) from error
    finally:
        if ours:
            ray.shutdown()


def _ray() -> Any:
    try:
        import ray
    except ImportError as error:
        raise UsageError(
            "Ray is not installed", place="--engine ray", fix="pip install 'bertolt[ray]'"
        ) from error
    return ray
