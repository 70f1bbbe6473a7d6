"""`except` lines of ported programs: errors are of the kinds that the peer raises there."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

from bertolt import (
    BertConfig,
    BertForSequenceClassification,
    BertForTokenClassification,
    BertModel,
    BertoltError,
    BertTokenizer,
    TrainingArguments,
)
from bertolt.train.saving import Best

IDS = torch.tensor([[2, 5, 3]])
CALLS: dict[str, tuple[type[Exception], Callable[[Any, Any, Any], Any]]] = {
    "an id that is too high": (IndexError, lambda m, t, k: m(input_ids=IDS * 1000)),
    "a negative id": (IndexError, lambda m, t, k: m(input_ids=-IDS)),
    "a token type": (IndexError, lambda m, t, k: m(input_ids=IDS, token_type_ids=IDS)),
    "a label": (IndexError, lambda m, t, k: m(input_ids=IDS, labels=torch.tensor([5]))),
    "a tag": (IndexError, lambda m, t, k: t(input_ids=IDS, labels=IDS)),
    "no such argument": (TypeError, lambda m, t, k: TrainingArguments(nonsense=1)),
    "no such field": (TypeError, lambda m, t, k: BertConfig(nonsense=1)),
    "no such input": (TypeError, lambda m, t, k: m(input_ids=IDS, nonsense=1)),
    "no config": (TypeError, lambda m, t, k: BertModel(5)),
    "widths that do not fit": (ValueError, lambda m, t, k: BertConfig(hidden_size=33)),
    "no metric": (KeyError, lambda m, t, k: Best("eval_f1").value({"eval_loss": 1.0})),
    "no ids to decode": (TypeError, lambda m, t, k: k.decode("a")),
    "no rows to pad": (TypeError, lambda m, t, k: k.pad(5)),
    "no token": (TypeError, lambda m, t, k: k.add_tokens([5])),
    "no tokens": (TypeError, lambda m, t, k: k.add_tokens(5)),
    "no names of tokens": (ValueError, lambda m, t, k: k.add_special_tokens(["[X]"])),
    "no text": (ValueError, lambda m, t, k: k(5)),
    "no folder": (OSError, lambda m, t, k: BertModel.from_pretrained("/no/such")),
}


@pytest.mark.parametrize("what", CALLS)
def test_an_error_is_of_the_usual_kind_too(what: str, tiny_config: Any, tiny_folder: Path) -> None:
    kind, call = CALLS[what]
    models = [
        head(tiny_config(num_labels=2))
        for head in (BertForSequenceClassification, BertForTokenClassification)
    ]
    with pytest.raises(BertoltError) as caught:
        call(*models, BertTokenizer.from_pretrained(tiny_folder))
    assert isinstance(caught.value, kind)
    assert caught.value.fix
    assert str(caught.value) == caught.value.args[0]
