"""`walk_through`: a model and a text in, a `Walk` out."""

from __future__ import annotations

import warnings
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from bertolt.base.format import plural
from bertolt.checkpoint import huggingface
from bertolt.checkpoint.contract import Contract
from bertolt.models.config import BertConfig
from bertolt.models.families.bert import BertForSequenceClassification, BertModel
from bertolt.models.losses import problem_type
from bertolt.report.walk.layer import PaddedRow, walk_first_layer
from bertolt.report.walk.record import Answer, AttentionMaps, Token, Walk
from bertolt.tokenization import BertTokenizer
from bertolt.tokenization.batch_encoding import BatchEncoding

PADDING = 3
"""Columns of padding behind the text, so that the mask has something to hide."""
MOST_TOKENS = 128
"""Tokens that the attention maps show; of a longer text, the first."""


def walk_through(model: str | Path, text: str, pair: str | None = None) -> Walk:
    """Send one input through a model, watching the first layer and all attention.

    Args:
        model: a folder, or an id on the hub.
        text: the input; longer ones are cut where the model was trained to cut.
        pair: a second text, which becomes segment 1.

    Raises:
        CheckpointError: the model cannot be loaded, or its tokenizer does not fit it.
        DataError: the input is no text, or has segments that the model does not know.
    """
    folder = huggingface.resolve(model)
    config = BertConfig.from_pretrained(folder)
    tokenizer = BertTokenizer.from_pretrained(folder)
    tokenizer.check_fits(config.vocab_size)
    contract = Contract.read(folder)
    limit = config.max_position_embeddings
    limit = min(contract.max_length, limit) if contract else limit
    encoded = _encode(tokenizer, text, pair, limit)
    filler = tokenizer.convert_ids_to_tokens(config.pad_token_id) or "[PAD]"
    row, tokens = _padded(encoded, config, filler)
    net, encoder = _load(folder, config)
    with torch.no_grad():
        # The model first: it refuses ids that it has no row for, in words. Attention is watched in
        # a second run, because that one is padded inside and so no other way to the same numbers.
        output = net(**vars(row), output_hidden_states=True)
        watched = net(**vars(row), output_attentions=True)
    steps, walked = walk_first_layer(encoder, row)
    length = walked.shape[1]
    shown = min(length, MOST_TOKENS)
    return Walk(
        model=str(model),
        architecture=", ".join(config.architectures) or "BertModel",
        shape=f"{plural(config.num_hidden_layers, 'layer')}, hidden {config.hidden_size:,}, "
        f"{plural(config.num_attention_heads, 'head')}",
        text=text,
        pair=pair,
        tokens=tokens,
        limit=limit,
        tokens_cut=encoded.truncated.tokens,
        steps=steps,
        difference=float((walked - output.hidden_states[1][:, :length]).abs().max()),
        attention=AttentionMaps.of([m[0, :, :shown, :shown].numpy() for m in watched.attentions]),
        answer=_answer(net, output),
        remarks=tuple(_remarks(net)),
    )


def _encode(tokenizer: BertTokenizer, text: str, pair: str | None, limit: int) -> BatchEncoding:
    with warnings.catch_warnings():
        # The tokenizer warns of a cut; the walk carries it.
        warnings.simplefilter("ignore", UserWarning)
        return tokenizer(text, pair, truncation=True, max_length=limit, return_token_type_ids=True)


def _padded(
    encoded: BatchEncoding, config: BertConfig, filler: str
) -> tuple[PaddedRow, tuple[Token, ...]]:
    """The row with padding behind it, as far as the position table reaches, and its columns."""
    ids, segments, words = encoded["input_ids"], encoded["token_type_ids"], encoded.tokens()
    spare = min(PADDING, config.max_position_embeddings - len(ids))
    mask = [1] * len(ids) + [0] * spare
    ids, segments = [*ids, *[config.pad_token_id] * spare], [*segments, *[0] * spare]
    columns = zip([*words, *[filler] * spare], ids, segments, mask, strict=True)
    tokens = tuple(
        Token(text=word, id=number, segment=segment, position=position, padding=not real)
        for position, (word, number, segment, real) in enumerate(columns)
    )
    row = PaddedRow(*(torch.tensor([values]) for values in (ids, segments, mask)))
    return row, tokens


def _load(folder: Path, config: BertConfig) -> tuple[Any, BertModel]:
    """The model with its head, if that classifies texts, and the encoder inside it."""
    if any("SequenceClassification" in name for name in config.architectures):
        net = BertForSequenceClassification.from_pretrained(folder, verbose=False)
        return net, net.bert
    net = BertModel.from_pretrained(folder, verbose=False)
    return net, net


def _answer(net: BertModel | BertForSequenceClassification, output: Any) -> Answer | None:
    """What a classification head says, if it was loaded and not just initialised."""
    if isinstance(net, BertModel) or _new(net, "classifier.", "bert.pooler."):
        return None
    kind = problem_type(net.config)
    logits: Tensor = output.logits[0]
    if kind == "single_label_classification":
        numbers = logits.softmax(-1)
    else:
        numbers = logits if kind == "regression" else logits.sigmoid()
    scores = [(net.config.id2label[index], value) for index, value in enumerate(numbers.tolist())]
    scores.sort(key=lambda score: -score[1])
    return Answer(probabilities=kind != "regression", scores=tuple(scores))


def _new(net: BertModel | BertForSequenceClassification, *prefixes: str) -> list[str]:
    """Parameters, by the start of their names, that the checkpoint does not have."""
    assert net.load_report is not None
    return [key for key in net.load_report.missing if key.startswith(prefixes)]


def _remarks(net: BertModel | BertForSequenceClassification) -> list[str]:
    prefix = "" if isinstance(net, BertModel) else "bert."
    remarks = []
    if new := _new(net, f"{prefix}embeddings.", f"{prefix}encoder."):
        remarks.append(
            f"{plural(len(new), 'tensor')} of the encoder not in the file, {new[0]} for one: what "
            "is seen here is partly the noise that they were initialised with."
        )
    if prefix and _new(net, "classifier.", "bert.pooler."):
        remarks.append("The classification head is new, so there is no answer to show.")
    return remarks
