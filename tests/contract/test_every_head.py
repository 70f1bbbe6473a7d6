"""What every head must do, each held equal to its peer. A new head is one more row of `HEADS`."""

from __future__ import annotations

import copy
import functools
import inspect
from collections import Counter
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch
import transformers
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from torch import Tensor

from bertolt.base.errors import BertoltError, CheckpointError, UsageError
from bertolt.data.batch import IGNORE_INDEX
from bertolt.models.bert import BertLayer
from bertolt.models.config import ACTIVATIONS
from bertolt.train.loop import RunningLoss, predict_batches
from tests.contract.heads import (
    HEADS,
    Batch,
    Bench,
    Head,
    assert_same,
    assert_same_gradients,
    every_head,
    real,
    tensors,
)


@pytest.fixture
def bench(head: Head, tiny_config: Any, randomised: Any, padded: Any) -> Bench:
    return Bench(head, tiny_config(head.config_class, **head.config), randomised, padded)


COMPILED = {
    *("BertModel", "BertForPreTraining", "BertForMaskedLM", "BertForQuestionAnswering"),
    *("BertForSequenceClassification-one-label", "BertForTokenClassification"),
    *("BertForMultipleChoice", "RobertaModel", "RobertaForSequenceClassification-one-label"),
}
"""One of each way through a model: tracing takes as long as all the other checks of a head."""
assert {str(each) for each in HEADS} >= COMPILED


# ---- against the peer ----


@every_head
def test_parameters_have_the_names_and_shapes_of_the_peer(bench: Bench) -> None:
    ours = {key: tuple(value.shape) for key, value in bench.model.state_dict().items()}
    peer = bench.head.build_peer(bench.config)
    assert ours == {key: tuple(value.shape) for key, value in peer.state_dict().items()}


@st.composite
def configs(draw: st.DrawFn) -> dict[str, Any]:
    heads = draw(st.integers(1, 4))
    return {
        "vocab_size": draw(st.integers(5, 60)),
        "hidden_size": heads * draw(st.sampled_from([4, 8])),
        "num_hidden_layers": draw(st.integers(1, 3)),
        "num_attention_heads": heads,
        "intermediate_size": draw(st.integers(1, 40)),
        "hidden_act": draw(st.sampled_from(ACTIVATIONS)),
        "max_position_embeddings": draw(st.integers(23, 30)),
        "type_vocab_size": draw(st.integers(1, 3)),
        "layer_norm_eps": draw(st.sampled_from([1e-12, 1e-5])),
    }


@every_head
@settings(max_examples=12)  # of each of two dozen heads
@given(
    fields=configs(),
    lengths=st.lists(st.integers(1, 20), min_size=1, max_size=6),
    wider_by=st.integers(0, 3),
    seed=st.integers(0, 2**16),
)
def test_equals_the_peer_forward_and_in_every_gradient(
    head: Head,
    fields: dict[str, Any],
    lengths: list[int],
    wider_by: int,
    seed: int,
    tiny_config: Any,
    randomised: Any,
    padded: Any,
    same_gradients: Any,
) -> None:
    bench = Bench(
        head, tiny_config(head.config_class, **{**fields, **head.config}), randomised, padded
    )
    randomised(bench.model, seed)
    peer = head.build_peer(bench.config)
    peer.load_state_dict(bench.model.state_dict())
    peer.eval()
    head.join_biases(peer)
    batch = bench.batch(lengths, wider_by=wider_by, seed=seed)
    assume(head.has_something_to_learn(batch))
    answer = head.call(peer, batch)
    labelled = {"logits": "labelled"} if head.labelled_only else {}
    for run, alone in (
        (lambda: bench.call(batch), False),
        (lambda: bench.packed(batch), True),
        *([(lambda: bench.call(batch, **labelled), True)] if labelled else []),
    ):
        found, wanted = run(), head.expected(answer, batch, labelled=alone)
        assert_same(bench, found, wanted, batch)
        bench.model.zero_grad()
        peer.zero_grad()
        bench.objective(found, batch).backward()
        bench.objective(wanted, batch).backward(retain_graph=True)
        same_gradients(bench.model, peer)


@every_head
def test_what_it_saves_the_peer_opens_and_answers_the_same(bench: Bench, tmp_path: Any) -> None:
    bench.model.save_pretrained(tmp_path)
    peer, told = getattr(transformers, bench.head.ours).from_pretrained(
        tmp_path, output_loading_info=True
    )
    assert not any(told.values())
    batch = bench.inputs()
    with torch.no_grad():
        assert_same(bench, bench.call(batch), bench.head.call(peer.eval(), batch), batch)


@every_head
def test_opens_what_the_peer_saves_and_answers_the_same(bench: Bench, tmp_path: Any) -> None:
    peer = bench.head.build_peer(bench.config).eval()
    peer.load_state_dict(bench.model.state_dict())
    peer.save_pretrained(tmp_path)
    loaded = type(bench.model).from_pretrained(tmp_path, verbose=False, strict=True)
    batch = bench.inputs()
    with torch.no_grad():
        assert_same(bench, bench.head.call(loaded, batch), bench.head.call(peer, batch), batch)


# ---- the two doors ----


@every_head
@pytest.mark.parametrize("without", ["token_type_ids", "attention_mask"])
def test_what_is_left_out_has_the_usual_meaning(bench: Bench, without: str) -> None:
    batch = bench.batch([6, 6])
    usual = {"token_type_ids": torch.zeros, "attention_mask": torch.ones}[without](2, 6).long()
    with torch.no_grad():
        wanted = bench.call({**batch, without: usual})
        found = bench.call({name: batch[name] for name in batch if name != without})
    assert_same(bench, found, wanted, batch, atol=0)


@every_head
def test_padding_is_laid_out_as_zeros_or_never_the_best(bench: Bench) -> None:
    batch = bench.inputs(wider_by=2)
    with torch.no_grad():
        out = bench.call(batch, output_hidden_states=True, output_attentions=True)
    padding = batch["attention_mask"] == 0
    for name in out.per_token:
        # Where the best position is an answer, the padding is the worst.
        lowest = torch.finfo(out[name].dtype).min if out.lowest_at_padding else 0.0
        assert (out[name][padding] == lowest).all()
        assert out[name].shape[:2] == batch["input_ids"].shape
    for value in out.hidden_states:
        assert not value[padding].any()
        assert value.shape[:2] == batch["input_ids"].shape
    for value in out.attentions:
        assert not value.transpose(1, 2)[padding].any()


@every_head
def test_left_padding_equals_right_padding(bench: Bench) -> None:
    right, left = bench.batch(), bench.batch(side="left", wider_by=2)
    with torch.no_grad():
        found, wanted = bench.call(left), bench.call(right)
    for name in found.keys():  # noqa: SIM118
        torch.testing.assert_close(
            real(bench, name, found[name], left),
            real(bench, name, wanted[name], right),
            atol=5e-6,
            rtol=0,
        )


@every_head
def test_input_ids_may_come_first_and_position_ids_may_be_given(bench: Bench) -> None:
    batch = bench.inputs([4, 4])
    if bench.head.choices > 1:
        batch = {name: value[None] for name, value in batch.items()}
    ids = batch.pop("input_ids")
    positions = (torch.arange(4) + bench.config.position_offset).expand(ids.shape)
    with torch.no_grad():
        usual = bench.model(ids, **batch)
        same = bench.model(input_ids=ids, position_ids=positions, **batch)
        other = bench.model(input_ids=ids, position_ids=positions.flip(-1), **batch)
    for name in usual.keys():  # noqa: SIM118
        assert torch.equal(usual[name], same[name])
        assert not torch.equal(usual[name], other[name])


@every_head
def test_one_door_at_a_time(bench: Bench) -> None:
    batch = bench.batch()
    packed = bench.pack(batch)[0]
    with pytest.raises(UsageError, match="one of the two"):
        bench.model()
    with pytest.raises(UsageError, match="one of the two"):
        bench.model(packed, input_ids=batch["input_ids"].unflatten(0, (-1, 1)))
    with pytest.raises(UsageError, match="one of the two"):
        bench.model(batch["input_ids"], input_ids=batch["input_ids"])


@every_head
def test_longer_than_the_position_table_is_refused(bench: Bench) -> None:
    limit = bench.config.max_tokens
    with torch.no_grad():
        bench.call(bench.inputs([limit]))
    with pytest.raises(UsageError, match=f"{limit + 1} tokens .* position table of {limit}"):
        bench.call(bench.inputs([limit + 1]))


# ---- sequences do not see each other ----


@every_head
@given(lengths=st.lists(st.integers(1, 20), min_size=2, max_size=6), data=st.data())
def test_changing_one_sequence_never_changes_another(
    head: Head,
    lengths: list[int],
    data: st.DataObject,
    tiny_config: Any,
    randomised: Any,
    padded: Any,
) -> None:
    bench = Bench(head, tiny_config(head.config_class, **head.config), randomised, padded)
    changed = data.draw(st.integers(0, len(lengths) - 1))
    new_lengths = list(lengths)
    new_lengths[changed] = data.draw(st.integers(1, 20))
    before = bench.inputs(lengths, wider_by=20 - max(lengths))
    after = bench.inputs(new_lengths, seed=1, wider_by=20 - max(new_lengths))
    others = [row for row in range(len(before["input_ids"])) if row != changed]
    for name in ("input_ids", "attention_mask", "token_type_ids"):
        after[name][others] = before[name][others]
    with torch.no_grad():
        first, second = bench.packed(before), bench.packed(after)
    for name in tensors(first):
        difference = bench.by_sequence(first[name] - second[name]).flatten(1).abs().amax(1)
        assert difference[others].max() <= 5e-6, name


@every_head
@pytest.mark.parametrize("backend", ["grouped", "reference"])
def test_not_even_a_broken_sequence_reaches_another(bench: Bench, backend: str) -> None:
    """A word whose embedding is not a number spoils its own sequence, and no other."""
    bench.model.set_attention_backend(backend)
    batch = bench.inputs([5, 7, 7, 3])
    poison = bench.config.vocab_size - 1
    batch["input_ids"][batch["input_ids"] == poison] = 1
    untied(bench.model)
    with torch.no_grad():
        healthy = bench.call(batch)
        bench.model.get_parameter(word_embeddings(bench.model))[poison] = float("nan")
        batch["input_ids"][1, 0] = poison
        spoilt = bench.call(batch)
    for name in tensors(healthy):
        want, have = (bench.by_sequence(out[name]) for out in (healthy, spoilt))
        assert have[1].isnan().any()
        for row in (0, 2, 3):
            torch.testing.assert_close(have[row], want[row], atol=5e-6, rtol=0)


def untied(model: Any) -> None:
    """So that a word that is spoilt for reading is not spoilt for writing too."""
    if model.config.tie_word_embeddings and model.tied_weights():
        model.untie_weights()


def word_embeddings(model: torch.nn.Module) -> str:
    return next(
        name for name, _ in model.named_parameters() if name.endswith("word_embeddings.weight")
    )


@every_head
def test_the_order_of_a_batch_does_not_matter(bench: Bench) -> None:
    batch, inputs = bench.batch(), bench.inputs()
    examples = torch.tensor([2, 0, 1] if bench.head.choices > 1 else [3, 0, 4, 2, 1])
    rows = torch.arange(len(inputs["input_ids"])).view(-1, bench.head.choices)[examples].flatten()

    def shuffled(values: Batch) -> Batch:
        return {
            name: value[rows if len(value) == len(rows) else examples]
            for name, value in values.items()
        }

    with torch.no_grad():
        plain, mixed = bench.call(inputs), bench.call(shuffled(inputs))
        for name in tensors(plain):
            torch.testing.assert_close(mixed[name], plain[name][examples], atol=5e-6, rtol=0)
        if bench.head.targets is not None:
            loss = bench.call(batch).loss
            torch.testing.assert_close(bench.call(shuffled(batch)).loss, loss, atol=5e-6, rtol=0)


# ---- filler, backends, number formats ----


@every_head
@pytest.mark.parametrize("row_multiple", [1, 16, 128, 512])
def test_filler_rows_change_nothing(bench: Bench, row_multiple: int) -> None:
    batch = bench.batch()
    wanted = bench.gradients(lambda: bench.packed(batch, row_multiple=33), batch)
    found = bench.gradients(lambda: bench.packed(batch, row_multiple=row_multiple), batch)
    assert_same_gradients(found, wanted)
    with torch.no_grad():
        assert_same(
            bench,
            bench.packed(batch, row_multiple=row_multiple),
            bench.packed(batch, row_multiple=33),
            batch,
            atol=5e-6,
        )


MIXES = {
    "ones": [1, 1, 1],
    "a single one": [1],
    "equal": [8, 8, 8, 8],
    "one long tail": [150, 2, 3, 2, 1, 2],
    "all different": list(range(1, 30, 3)),
    "exactly 128 tokens": [64, 32, 32],
    "exactly 256 tokens": [100, 100, 56],
    "one row more than 128": [127, 2],
}


@every_head
@pytest.mark.parametrize("lengths", MIXES.values(), ids=MIXES.keys())
def test_the_grouped_backend_equals_the_reference(bench: Bench, lengths: list[int]) -> None:
    batch = bench.batch(lengths)
    outputs, gradients = [], []
    for backend in ("reference", "grouped"):
        assert bench.model.set_attention_backend(backend).name == backend
        outputs.append(bench.call(batch))
        gradients.append(bench.gradients(lambda: bench.call(batch), batch))
    assert_same(bench, outputs[1], outputs[0], batch)
    assert_same_gradients(gradients[1], gradients[0])


@every_head
def test_bfloat16_comes_close(bench: Bench) -> None:
    batch = bench.batch()
    wanted = bench.gradients(lambda: bench.call(batch), batch)
    plain = bench.call(batch)

    def coarse() -> Any:
        with torch.autocast("cpu", dtype=torch.bfloat16):
            return bench.call(batch)

    found = bench.gradients(coarse, batch)
    for name in tensors(plain):
        want, have = (real(bench, name, out[name], batch) for out in (plain, coarse()))
        assert float((have - want).detach().norm() / want.detach().norm()) < 0.05, name
    total = torch.cat([value.flatten() for value in wanted.values()])
    difference = torch.cat([(found[name] - wanted[name]).flatten() for name in wanted])
    assert float(difference.norm() / total.norm()) < 0.1
    assert all(value.dtype == torch.float32 for value in found.values())


# ---- training and evaluation modes ----


@every_head
def test_dropout_follows_the_seed_while_training_and_is_off_otherwise(bench: Bench) -> None:
    batch = bench.batch()

    def run(seed: int) -> Tensor:
        torch.manual_seed(seed)
        with torch.no_grad():
            out = bench.call(batch)
            return out[tensors(out)[0]]

    assert torch.equal(run(0), run(1))
    bench.model.train()
    assert torch.equal(run(0), run(0))
    assert not torch.equal(run(0), run(1))


@every_head
def test_every_parameter_learns(bench: Bench) -> None:
    bench.model.train()
    batch = bench.batch()
    gradients = bench.gradients(lambda: bench.call(batch), batch)
    assert gradients.keys() == dict(bench.model.named_parameters()).keys()
    assert all(value.isfinite().all() for value in gradients.values())
    assert all(value.any() for name, value in gradients.items() if "key.bias" not in name)


# ---- objects ----


@every_head
def test_a_deep_copy_answers_the_same_and_is_on_its_own(bench: Bench) -> None:
    batch = bench.batch()
    twin = copy.deepcopy(bench.model)
    with torch.no_grad():
        before = bench.call(batch)
        assert_same(bench, bench.head.call(twin, batch), before, batch, atol=0)
        for parameter in twin.parameters():
            parameter.add_(1.0)
        assert_same(bench, bench.call(batch), before, batch, atol=0)
    assert twin.tied_weights() == bench.model.tied_weights()
    for alias, source in twin.tied_weights().items():
        assert twin.get_parameter(alias) is twin.get_parameter(source)


@every_head
def test_outputs_are_read_by_name_by_place_and_as_a_mapping(bench: Bench) -> None:
    with torch.no_grad():
        out = bench.call(bench.batch())
    assert list(out) == out.keys() == list(dict(out.items()))
    for place, name in enumerate(out):
        assert out[name] is getattr(out, name)
        assert out[place] is out[name]
    assert len(out) == len(out.to_tuple())


@every_head
def test_a_plain_tuple_is_given_on_request(bench: Bench) -> None:
    batch = bench.inputs()
    with torch.no_grad():
        plain, usual = bench.call(batch, return_dict=False), bench.call(batch)
    assert isinstance(plain, tuple)
    assert len(plain) == len(usual)
    assert all(torch.equal(value, usual[place]) for place, value in enumerate(plain))


@every_head
def test_without_labels_there_is_no_loss(bench: Bench) -> None:
    with torch.no_grad():
        assert "loss" not in bench.call(bench.inputs())


@every_head
def test_targets_of_another_head_are_refused(bench: Bench) -> None:
    foreign = {"labels", "next_sentence_label", "start_positions"} - bench.model.targets
    for name in foreign:
        with pytest.raises(UsageError, match=f"{bench.head.ours} has no {name}"):
            bench.call({**bench.inputs([3, 3]), name: torch.zeros(2, dtype=torch.long)})


@every_head
def test_without_a_single_label_the_loss_is_zero_and_no_weight_moves(bench: Bench) -> None:
    batch = bench.batch()
    integral = {name: batch[name] for name in batch.keys() & bench.model.targets}
    if not integral or any(value.is_floating_point() for value in integral.values()):
        pytest.skip("every row has its labels")
    batch.update({name: torch.full_like(value, IGNORE_INDEX) for name, value in integral.items()})
    gradients = bench.gradients(lambda: bench.call(batch), batch)
    assert bench.call(batch).loss == 0
    assert gradients
    assert not any(bool(value.any()) for value in gradients.values())


@every_head
def test_saving_and_opening_again_changes_nothing(bench: Bench, tmp_path: Any) -> None:
    bench.model.save_pretrained(tmp_path)
    again = type(bench.model).from_pretrained(tmp_path, verbose=False, strict=True)
    assert again.load_report.exact
    assert not again.training
    wanted = bench.model.state_dict()
    assert all(torch.equal(value, wanted[key]) for key, value in again.state_dict().items())
    assert again.config.changed(architectures=[], extra={}) == bench.config.changed(extra={})


@every_head
def test_weights_that_are_not_numbers_are_not_loaded(bench: Bench, tmp_path: Any) -> None:
    with torch.no_grad():
        bench.model.get_parameter(word_embeddings(bench.model))[3, 0] = float("nan")
    bench.model.save_pretrained(tmp_path)
    with pytest.raises(CheckpointError, match=r"word_embeddings\.weight holds NaN"):
        type(bench.model).from_pretrained(tmp_path, verbose=False)


# ---- several batches as one ----


@every_head
def test_micro_batches_learn_as_one_batch(bench: Bench) -> None:
    if bench.head.targets is None:
        pytest.skip("nothing to learn from")
    batch = bench.batch([5, 1, 12, 9, 3, 2])
    wanted = bench.gradients(lambda: bench.packed(batch), batch)
    parts = [bench.pack(rows_of(bench, batch, rows))[0] for rows in ((0, 2), (2, 6))]
    counts = sum((Counter(bench.model.count_targets(part)) for part in parts), Counter())
    assert counts == bench.model.count_targets(bench.pack(batch)[0])
    bench.model.zero_grad()
    for part in parts:
        bench.model(replace(part, loss_counts=counts)).loss.backward()
    found = {
        name: parameter.grad
        for name, parameter in bench.model.named_parameters()
        if parameter.grad is not None
    }
    assert_same_gradients(found, wanted)


@every_head
def test_the_loss_of_an_evaluation_does_not_depend_on_its_batches(bench: Bench) -> None:
    if bench.head.targets is None:
        pytest.skip("nothing to learn from")
    batch = bench.batch([5, 1, 12, 9, 3, 2])
    loss = RunningLoss()
    for rows in ((0, 4), (4, 6)):
        part = bench.pack(rows_of(bench, batch, rows))[0]
        found = predict_batches(
            bench.model, [part], np.ones(1), lambda rows: rows[0], token_budget=9
        )
        loss.add(next(iter(found)))
    with torch.no_grad():
        assert loss.mean() == pytest.approx(float(bench.call(batch).loss), abs=1e-5)


def rows_of(bench: Bench, batch: Batch, rows: tuple[int, int]) -> Batch:
    """Some rows of a padded batch, with their targets."""
    begin, end = rows
    size, choices = len(batch["input_ids"]), bench.head.choices
    return {
        name: value[begin:end] if len(value) == size else value[begin // choices : end // choices]
        for name, value in batch.items()
    }


# ---- what does not fit ----


@every_head
@pytest.mark.parametrize(
    "spoil",
    [
        {"input_ids": lambda ids: ids.float()},
        {"input_ids": lambda ids: ids.tolist()},
        {"input_ids": lambda ids: ids[..., :0]},
        {"input_ids": lambda ids: ids[:0]},
        {"input_ids": lambda ids: ids + 1000},
        {"input_ids": lambda ids: ids - 1000},
        {"attention_mask": lambda mask: (1.0 - mask) * -1e4},
        {"attention_mask": lambda mask: mask[..., 1:]},
        {"attention_mask": lambda mask: mask * 0},
        {"token_type_ids": lambda types: types[..., :1]},
        {"token_type_ids": lambda types: types.float()},
        {"token_type_ids": lambda types: types + 9},
        {"position_ids": lambda _: torch.zeros(3, 3, dtype=torch.long)},
    ],
    ids=["float", "list", "no column", "no row", "too large", "negative", "additive mask",
         "short mask", "empty mask", "short types", "float types", "strange types", "positions"],
)  # fmt: skip
def test_inputs_that_do_not_fit_are_refused_in_words(bench: Bench, spoil: dict[str, Any]) -> None:
    batch = bench.inputs([4, 4])
    if bench.head.choices > 1:
        batch = {name: value[None] for name, value in batch.items()}
    for name, change in spoil.items():
        batch[name] = change(batch.get(name))
    with pytest.raises(BertoltError) as told:
        bench.model(**batch)
    assert told.value.fix


@every_head
def test_targets_that_do_not_fit_are_refused_in_words(bench: Bench) -> None:
    batch = bench.batch([4, 4, 4, 4])
    for name in batch.keys() & bench.model.targets:
        for spoilt in (batch[name][:1], batch[name].sum(), torch.cat([batch[name]] * 2)):
            with pytest.raises(BertoltError) as told:
                bench.call({**batch, name: spoilt})
            assert told.value.fix
    packed = bench.pack(bench.inputs([4, 4]))[0]
    with pytest.raises(UsageError, match="beside a PackedBatch"):
        bench.model(packed, attention_mask=torch.ones(2, 4))


# ---- on request ----


@every_head
@pytest.mark.parametrize("backend", ["grouped", "reference"])
def test_hidden_states_and_attention_maps_equal_the_peers(bench: Bench, backend: str) -> None:
    bench.model.set_attention_backend(backend)
    peer = bench.head.build_peer(bench.config).eval()
    peer.load_state_dict(bench.model.state_dict())
    batch = bench.inputs(wider_by=2)
    mask = batch["attention_mask"].bool()
    with torch.no_grad():
        found, wanted = (
            bench.head.call(model, batch, output_hidden_states=True, output_attentions=True)
            for model in (bench.model, peer)
        )
        assert_same(bench, found, bench.call(batch), batch, atol=5e-6)
    layers = bench.config.num_hidden_layers
    assert len(found.hidden_states) == len(wanted.hidden_states) == layers + 1
    for have, want in zip(found.hidden_states, wanted.hidden_states, strict=True):
        torch.testing.assert_close(have[mask], want[mask], atol=1e-5, rtol=0)
    assert len(found.attentions) == len(wanted.attentions) == layers
    for have, want in zip(found.attentions, wanted.attentions, strict=True):
        assert have.shape == want.shape
        have, want = (maps.transpose(1, 2)[mask] for maps in (have, want))
        torch.testing.assert_close(have, want, atol=1e-5, rtol=0)


@every_head
def test_hidden_states_and_attention_maps_of_a_packed_batch(bench: Bench) -> None:
    batch = bench.inputs(side="left", wider_by=3)
    packed, layout = bench.pack(batch)
    with torch.no_grad():
        found, padded = (
            run(output_hidden_states=True, output_attentions=True)
            for run in (
                lambda **ask: bench.model(packed, **ask),
                lambda **ask: bench.call(batch, **ask),
            )
        )
    for have, want in zip(found.hidden_states, padded.hidden_states, strict=True):
        assert have.shape == (packed.num_tokens, bench.config.hidden_size)
        torch.testing.assert_close(layout.unpack(have), want, atol=0, rtol=0)
    for have, want in zip(found.attentions, padded.attentions, strict=True):
        longest = packed.max_seqlen
        assert have.shape == (packed.num_sequences, 4, longest, longest)
        for row, length in enumerate(packed.lengths.tolist()):
            torch.testing.assert_close(
                have[row, :, :length, :length], want[row, :, -length:, -length:], atol=0, rtol=0
            )


def watched(bench: Bench, model: Any, batch: Batch) -> tuple[Any, Batch, Tensor]:
    """An answer whose tensors keep their gradients, a loss over all that is real, and the words."""
    embeds = model.get_input_embeddings()(batch["input_ids"]).detach().requires_grad_()
    places = torch.arange(embeds.shape[1]) + bench.config.position_offset
    choices = bench.head.choices
    words = embeds if choices == 1 else embeds.unflatten(0, (-1, choices))
    inputs = {**batch, "inputs_embeds": words, "position_ids": places.expand(embeds.shape[:2])}
    del inputs["input_ids"]
    out = bench.head.call(model, inputs, output_hidden_states=True, output_attentions=True)
    own = {name: out[name] for name in tensors(out)}
    for value in (*out.hidden_states, *out.attentions, *own.values()):
        value.retain_grad()
    loss = torch.zeros(())
    for name, value in own.items():
        taken = real(bench, name, value, batch)
        loss = loss + (taken * torch.cos(torch.arange(taken.numel())).view(taken.shape)).mean()
    loss = loss + out.loss if "loss" in out and "start_positions" not in batch else loss
    loss.backward()
    return out, embeds.grad, loss.detach()


@every_head
@pytest.mark.parametrize("wider_by", [0, 3])
def test_what_is_handed_out_is_part_of_the_graph_as_the_peers_is(
    bench: Bench, wider_by: int
) -> None:
    """`retain_grad`, gradients by a hidden state and by `inputs_embeds`, as attribution reads."""
    peer = bench.head.build_peer(bench.config).eval()
    peer.load_state_dict(bench.model.state_dict())
    batch = bench.batch([5, 3, 9, 9, 2, 4], wider_by=wider_by)
    mask = batch["attention_mask"].bool()
    (found, words, loss), (wanted, peer_words, peer_loss) = (
        watched(bench, model, batch) for model in (bench.model, peer)
    )
    same = functools.partial(torch.testing.assert_close, atol=2e-5, rtol=1e-4)
    same(loss, peer_loss)
    same(words[mask], peer_words[mask])
    for have, want in zip(found.hidden_states, wanted.hidden_states, strict=True):
        same(have[mask], want[mask])
        same(have.grad[mask], want.grad[mask])
    pairs = mask[:, None, :, None] & mask[:, None, None, :]
    for have, want in zip(found.attentions, wanted.attentions, strict=True):
        same(have.grad * pairs, want.grad * pairs)
    for name in tensors(found):
        assert found[name].shape == wanted[name].shape
        assert found[name].grad is not None


@every_head
def test_hidden_states_and_maps_of_a_packed_batch_are_part_of_its_graph(bench: Bench) -> None:
    batch = bench.batch()
    out = bench.model(bench.pack(batch)[0], output_hidden_states=True, output_attentions=True)
    for value in (*out.hidden_states, *out.attentions):
        value.retain_grad()
    loss = out.loss if "loss" in out else out.last_hidden_state.square().sum()
    loss.backward()
    assert all(value.grad.any() for value in out.hidden_states[:-1])
    assert all(value.grad.any() for value in out.attentions)


@every_head
@pytest.mark.parametrize("collecting", [False, True])
def test_hooks_see_what_those_of_the_peer_see(bench: Bench, collecting: bool) -> None:
    """Of every module but the pooler, which gets the first tokens alone: (B, L, …), and answers."""
    peer = bench.head.build_peer(bench.config).eval()
    peer.load_state_dict(bench.model.state_dict())
    batch = bench.batch([5, 3, 9, 9, 2, 4], wider_by=2)
    ask = {"output_attentions": True} if collecting else {}
    with torch.no_grad():
        plain = bench.call(batch, **ask)
        seen: list[dict[str, Tensor]] = [{}, {}]
        for notes, model in zip(seen, (bench.model, peer), strict=True):
            for name, module in model.named_modules():
                module.register_forward_hook(
                    lambda _, __, out, name=name, notes=notes: notes.__setitem__(name, out)
                )
        out = bench.call(batch, **ask)
        bench.head.call(peer, batch, **ask)
    assert_same(bench, out, plain, batch, atol=1e-6)
    mask = batch["attention_mask"].bool()
    assert all(name.endswith(("act_fn", "activation")) for name in seen[1].keys() - seen[0].keys())
    for name, have in seen[0].items():
        if not name or name.endswith("position_embeddings"):  # its own are one row for all
            continue
        have, want = (
            value if isinstance(value, Tensor) else value[0] for value in (have, seen[1][name])
        )
        assert have.shape == want.shape, name
        if have.shape[:2] == mask.shape:
            have, want = have[mask], want[mask]
        torch.testing.assert_close(have, want, atol=2e-5, rtol=0, msg=name)


@every_head
def test_a_hook_may_change_what_goes_on(bench: Bench) -> None:
    batch = bench.inputs()
    backbone = bench.model.base_model
    with torch.no_grad():
        before = bench.call(batch)
        for part in (backbone.embeddings, backbone.encoder.layer[-1], backbone):
            handle = part.register_forward_hook(doubled)
            after = bench.call(batch)
            handle.remove()
            name = tensors(before)[0]
            assert not torch.allclose(after[name], before[name])
        assert_same(bench, bench.call(batch), before, batch, atol=0)


def doubled(_: Any, __: Any, out: Any) -> Any:
    """A hook that doubles what comes out."""
    if isinstance(out, Tensor):
        return out * 2
    out.last_hidden_state = out.last_hidden_state * 2
    if out.pooler_output is not None:
        out.pooler_output = out.pooler_output * 2
    return out


@every_head
def test_inputs_may_come_by_their_places_in_the_peers_order(bench: Bench) -> None:
    peer = getattr(transformers, bench.head.ours)
    order = list(inspect.signature(peer.forward).parameters)[1:-1]
    order = order[: order.index("logits_to_keep")] if "logits_to_keep" in order else order
    without = {"encoder_hidden_states", "encoder_attention_mask", "past_key_values", "use_cache"}
    ours = list(bench.model.call_order)
    assert ["input_ids", *ours] == order or set(order[len(ours) + 1 :]) <= without
    batch = bench.batch()
    shaped = {
        name: value.unflatten(0, (-1, bench.head.choices))
        if bench.head.choices > 1 and value.dim() == 2
        else value
        for name, value in batch.items()
    }
    with torch.no_grad():
        found = bench.model(*[shaped.get(name) for name in ["input_ids", *ours]])
    assert_same(bench, found, bench.call(batch), batch, atol=0)
    with pytest.raises(UsageError, match="by its place and by its name"):
        bench.model(shaped["input_ids"], shaped[ours[0]], **{ours[0]: shaped[ours[0]]})
    with pytest.raises(UsageError, match="takes"):
        bench.model(*[shaped.get(name) for name in ["input_ids", *ours]], None, None)


# ---- ways to run ----


@every_head
def test_gradient_checkpointing_changes_no_gradient(bench: Bench) -> None:
    batch = bench.batch()
    bench.model.train()

    def gradients() -> Batch:
        torch.manual_seed(0)
        return bench.gradients(lambda: bench.call(batch), batch)

    wanted = gradients()
    bench.model.gradient_checkpointing_enable()
    seen = []
    layer = next(module for module in bench.model.modules() if isinstance(module, BertLayer))
    layer.register_forward_pre_hook(lambda *_: seen.append(1))
    assert_same_gradients(gradients(), wanted)
    assert len(seen) == 2, "a layer is computed again in the backward pass"
    bench.model.gradient_checkpointing_disable()
    gradients()
    assert len(seen) == 3


@pytest.mark.parametrize("head", [each for each in HEADS if str(each) in COMPILED], ids=str)
def test_a_compiled_model_answers_and_learns_the_same(
    head: Head, tiny_config: Any, randomised: Any, padded: Any
) -> None:
    # Layers are alike, and each is compiled anew: one of them does, and two of a plain model.
    depth = {} if head.ours == "BertModel" else {"num_hidden_layers": 1}
    config = tiny_config(head.config_class, **{**head.config, **depth})
    bench = Bench(head, config, randomised, padded)
    batch = bench.batch()
    wanted, gradients = bench.call(batch), bench.gradients(lambda: bench.call(batch), batch)
    torch.compiler.reset()
    compiled = torch.compile(bench.model, backend="aot_eager")
    run = lambda: bench.head.call(compiled, batch)  # noqa: E731
    assert_same(bench, run(), wanted, batch)
    assert_same_gradients(bench.gradients(run, batch), gradients)


@every_head
@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16], ids=str)
def test_weights_of_half_precision(bench: Bench, dtype: torch.dtype) -> None:
    batch = bench.inputs()
    with torch.no_grad():
        wanted = bench.call(batch)
        found = bench.head.call(copy.deepcopy(bench.model).to(dtype), batch)
    for name in tensors(wanted):
        want, have = (real(bench, name, out[name], batch).float() for out in (wanted, found))
        assert float((have - want).norm() / want.norm()) < 0.05, name
