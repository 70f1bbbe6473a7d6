"""The vocabulary of a model that is already built: grown, shrunk, and put in its place.

An encoder inside a head, `model.bert`, does not know the decoder that is tied to its table: the
whole model follows when it is next called or saved.
"""

from __future__ import annotations

import torch
from torch import nn

from bertolt.base.errors import UsageError
from bertolt.checkpoint.loadable import Loadable
from bertolt.models.config import BertConfig


def resize_vocabulary(
    model: Loadable, new_num_tokens: int | None, pad_to_multiple_of: int | None, seed: int
) -> nn.Embedding:
    """See `PreTrainedModel.resize_token_embeddings`."""
    table, decoder = model.get_input_embeddings(), model.get_output_embeddings()
    rows = _rows(model, new_num_tokens, pad_to_multiple_of)
    if rows == table.num_embeddings == model.config.vocab_size:
        return table
    # Embeddings last: where the two share a weight, the rule of the embeddings is to hold.
    both = [layer for layer in (decoder, table) if layer is not None]
    layers = [layer for layer in both if len(layer.weight) != rows]
    swaps = {old: _blank(old, rows) for layer in layers for old in layer.parameters(recurse=False)}
    for module in model.modules():
        for name, old in list(module.named_parameters(recurse=False, remove_duplicate=False)):
            if old in swaps:
                setattr(module, name, swaps[old])
    with torch.random.fork_rng(devices=[]), torch.no_grad():
        torch.manual_seed(seed)
        for layer in layers:
            model._init_weights(layer)
        for old, new in swaps.items():
            kept = min(rows, len(old))
            new[:kept] = old[:kept].to(new.device)
            new.data = new.to(old.device)
    table.num_embeddings = rows
    if decoder is not None:
        decoder.out_features = rows
    model.change_config(vocab_size=rows)
    model.tie_weights()
    return table


def follow_table(model: Loadable) -> None:
    """Let a model follow a table of embeddings that was resized or replaced inside its encoder."""
    table, decoder = model.get_input_embeddings(), model.get_output_embeddings()
    if table.num_embeddings != model.config.vocab_size:
        resize_vocabulary(model, table.num_embeddings, None, seed=0)
    elif decoder is not None and model.config.tie_word_embeddings:
        # A decoder of the user's own is left alone: one that still has the table of before is not.
        if decoder.weight is table.weight:
            model.tied_to[:] = [table.weight]
        elif model.tied_to and decoder.weight is model.tied_to[0]:
            model.tie_weights()


def _rows(model: Loadable, wanted: int | None, multiple: int | None) -> int:
    rows = model.config.vocab_size if wanted is None else wanted
    if not isinstance(rows, int):
        raise UsageError(f"new_num_tokens is {rows!r}", fix="give a whole number: len(tokenizer)")
    if multiple is not None:
        if not isinstance(multiple, int) or multiple < 1:
            raise UsageError(
                f"pad_to_multiple_of is {multiple!r}", fix="give a whole number, 1 or more"
            )
        rows = -(-rows // multiple) * multiple
    if rows <= model.config.pad_token_id:
        raise UsageError(
            f"{rows} rows leave none for the padding token, whose id is "
            f"{model.config.pad_token_id}",
            fix=f"ask for {model.config.pad_token_id + 1} or more",
        )
    return rows


def _blank(old: nn.Parameter, rows: int) -> nn.Parameter:
    """A parameter of more or fewer rows, on the CPU: there, a seed gives the same everywhere."""
    blank = torch.zeros(rows, *old.shape[1:], dtype=old.dtype)
    return nn.Parameter(blank, requires_grad=old.requires_grad)


def require_table(table: object, config: BertConfig) -> None:
    """Refuse what is no table of embeddings of the model's width."""
    width = config.hidden_size
    if not isinstance(table, nn.Embedding) or table.embedding_dim != width:
        raise UsageError(
            f"the table is a {type(table).__name__}, and an nn.Embedding of {width} columns is "
            "needed",
            fix=f"give nn.Embedding(rows, {width}, padding_idx={config.pad_token_id})",
        )


def put_decoder(model: Loadable, decoder: object) -> None:
    """See `PreTrainedModel.set_output_embeddings`."""
    old = model.get_output_embeddings()
    if old is None:
        raise UsageError(
            f"{type(model).__name__} has no layer to the vocabulary",
            fix="use a language model, as BertForMaskedLM",
        )
    if not isinstance(decoder, nn.Linear) or decoder.weight.shape != old.weight.shape:
        shape = tuple(old.weight.shape)[::-1]
        raise UsageError(
            f"the layer is a {type(decoder).__name__}, and nn.Linear{shape} is needed",
            fix="resize_token_embeddings(rows) first for another number of words",
        )
    path = next(name for name, module in model.named_modules() if module is old)
    above, _, name = path.rpartition(".")
    setattr(model.get_submodule(above), name, decoder)
