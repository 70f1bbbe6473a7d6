"""The pages for those who come from other libraries: what their tables say is so."""

from __future__ import annotations

import ast
import contextlib
import io
import re
from typing import Any

import numpy as np
import pytest

import bertolt
from tests.docs.pages import DOCS, blocks

FROM = DOCS / "en/coming"


def rows() -> list[tuple[str, str]]:
    """The cells of the table of transformers."""
    text = (FROM / "transformers.md").read_text(encoding="utf-8")
    found = re.findall(r"^\| (`.*?) \| (.*?) \|$", text, re.M)
    assert len(found) > 8
    return found


def test_names_that_are_the_same_are_public_here() -> None:
    names = [
        name
        for theirs, ours in rows()
        if ours.startswith(("the same", "相同"))
        for name in re.findall(r"`(\w+)`", theirs)
    ]
    assert len(names) > 12
    assert [name for name in names if name not in bertolt.__all__] == []


def test_what_is_to_be_changed_is_refused_here() -> None:
    table = " ".join(theirs for theirs, _ in rows())
    arguments = re.findall(r"`TrainingArguments\((\w+)=(.*?)\)`", table)
    assert len(arguments) > 2
    for name, value in arguments:
        with pytest.raises(bertolt.UsageError):
            bertolt.TrainingArguments("out", **{name: ast.literal_eval(value)})


def test_vectors_are_those_of_sentence_transformers() -> None:
    peer = pytest.importorskip("sentence_transformers")
    names: dict[str, Any] = {}
    with contextlib.redirect_stdout(io.StringIO()):
        exec(blocks(FROM / "sentence-transformers.md")[0].text, names)
    texts = ["A fine film.", "Two hours that I will never get back, and a long queue before."]
    theirs = peer.SentenceTransformer(str(names["demo_checkpoint"]())).encode(texts)
    ours = [prediction.vector for prediction in names["predictor"].predict(texts)]
    assert abs(np.array(ours) - theirs).max() < 1e-6
