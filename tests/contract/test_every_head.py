"""What every head must do, each held equal to its peer. A new head is one more row of `HEADS`."""

from __future__ import annotations

import copy
import inspect
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import pytest
import torch
import transformers
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

import bertolt
from bertolt import BertConfig, PackedBatch
from bertolt.config import ACTIVATIONS
from bertolt.errors import CheckpointError, UsageError

LENGTHS = [5, 1, 12, 12, 3]

Labels = Callable[[torch.Generator, int, int, BertConfig], Tensor]


def class_ids(generator: torch.Generator, size: int, length: int, config: BertConfig) -> Tensor:
    return torch.randint(config.num_labels, (size,), generator=generator)


def several_classes(g: torch.Generator, size: int, length: int, config: BertConfig) -> Tensor:
    return torch.randint(2, (size, config.num_labels), generator=g).float()


def numbers(generator: torch.Generator, size: int, length: int, config: BertConfig) -> Tensor:
    return torch.randn(size, config.num_labels, generator=generator)


@dataclass(frozen=True, kw_only=True)
class Head:
    """One head, and how to hold it to the contract.

    Attributes:
        ours: its public name; the peer has it under the same.
        labels: makes labels for a padded batch of (size, length); None for a head without a loss.
        config: fields of the config that it needs.
        per_token: outputs of which a padded call lays out one entry a token.
        case: tells rows of the same class apart.
    """

    ours: str
    labels: Labels | None = None
    config: dict[str, Any] = field(default_factory=dict)
    per_token: frozenset[str] = frozenset()
    case: str = ""

    def build(self, config: BertConfig) -> Any:
        return getattr(bertolt, self.ours)(config)

    def build_peer(self, config: BertConfig) -> Any:
        theirs = transformers.BertConfig(**config.to_dict(), attn_implementation="eager")
        return getattr(transformers, self.ours)(theirs)


HEADS = [
    Head(ours="BertModel", per_token=frozenset({"last_hidden_state"})),
    Head(
        ours="BertForSequenceClassification",
        labels=class_ids,
        config={"num_labels": 3, "problem_type": "single_label_classification"},
        case="one-label",
    ),
    Head(
        ours="BertForSequenceClassification",
        labels=several_classes,
        config={"num_labels": 4, "problem_type": "multi_label_classification"},
        case="several-labels",
    ),
    Head(
        ours="BertForSequenceClassification",
        labels=numbers,
        config={"num_labels": 2, "problem_type": "regression"},
        case="numbers",
    ),
]
every_head = pytest.mark.parametrize(
    "head", HEADS, ids=["-".join(filter(None, (head.ours, head.case))) for head in HEADS]
)


class Bench:
    """A head's model with random weights, and batches for both of its doors."""

    def __init__(self, head: Head, config: BertConfig, randomised: Any, padded: Any) -> None:
        self.head, self.config, self.padded = head, config, padded
        self.model = randomised(head.build(config))

    def batch(self, lengths: list[int] = LENGTHS, **options: Any) -> dict[str, Tensor]:
        made = self.padded(
            lengths,
            vocab_size=self.config.vocab_size,
            type_vocab_size=self.config.type_vocab_size,
            **options,
        )
        if self.head.labels is not None:
            generator = torch.Generator().manual_seed(7)
            made["labels"] = self.head.labels(generator, *made["input_ids"].shape, self.config)
        return dict(made)

    def packed(self, batch: dict[str, Tensor], **options: Any) -> dict[str, Tensor]:
        """The outputs of the packed door, laid out as the padded door lays them out."""
        packed, layout = PackedBatch.from_padded(**batch, **options)
        out = self.model(packed)
        return {
            name: layout.unpack(value) if name in self.head.per_token else value
            for name, value in out.items()
        }

    def objective(self, out: Any, batch: dict[str, Tensor]) -> Tensor:
        """The loss, or for a head without one, a fixed weighted sum over all that is real."""
        if self.head.labels is not None:
            return out["loss"]
        total = torch.zeros(())
        for name, value in out.items():
            weights = torch.cos(torch.arange(value.numel())).view(value.shape)
            if name in self.head.per_token:
                weights = weights * batch["attention_mask"][..., None]
            total = total + (value * weights).sum()
        return total

    def gradients(self, run: Callable[[], Any], batch: dict[str, Tensor]) -> dict[str, Tensor]:
        self.model.zero_grad()
        self.objective(run(), batch).backward()
        return {
            name: parameter.grad.clone()
            for name, parameter in self.model.named_parameters()
            if parameter.grad is not None
        }


@pytest.fixture
def bench(head: Head, tiny_config: Any, randomised: Any, padded: Any) -> Bench:
    return Bench(head, tiny_config(**head.config), randomised, padded)


def real(head: Head, name: str, value: Tensor, batch: dict[str, Tensor]) -> Tensor:
    """An output without what stands at the padding."""
    return value[batch["attention_mask"].bool()] if name in head.per_token else value


def assert_same(head: Head, found: Any, wanted: Any, batch: Any, atol: float = 1e-5) -> None:
    names = [name for name, value in found.items() if value is not None]
    assert names
    for name in names:
        torch.testing.assert_close(
            real(head, name, found[name], batch),
            real(head, name, wanted[name], batch),
            atol=atol,
            rtol=0,
            msg=lambda text, name=name: f"{name}: {text}",
        )


def assert_same_gradients(found: dict[str, Tensor], wanted: dict[str, Tensor]) -> None:
    assert found.keys() == wanted.keys()
    floor = 1e-6 * max(float(value.norm()) for value in wanted.values())
    for name, want in wanted.items():
        assert float((found[name] - want).norm()) <= max(1e-4 * float(want.norm()), floor), name


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
        "hidden_size": heads * draw(st.sampled_from([2, 4, 8])),
        "num_hidden_layers": draw(st.integers(1, 3)),
        "num_attention_heads": heads,
        "intermediate_size": draw(st.integers(1, 40)),
        "hidden_act": draw(st.sampled_from(ACTIVATIONS)),
        "max_position_embeddings": draw(st.integers(23, 30)),
        "type_vocab_size": draw(st.integers(1, 3)),
        "layer_norm_eps": draw(st.sampled_from([1e-12, 1e-5])),
    }


@every_head
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
    bench = Bench(head, tiny_config(**{**fields, **head.config}), randomised, padded)
    randomised(bench.model, seed)
    peer = head.build_peer(bench.config)
    peer.load_state_dict(bench.model.state_dict())
    peer.eval()
    batch = bench.batch(lengths, wider_by=wider_by, seed=seed)
    wanted = peer(**batch)
    for run in (lambda: bench.model(**batch), lambda: bench.packed(batch)):
        found = run()
        assert_same(head, found, wanted, batch)
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
    batch = bench.batch()
    with torch.no_grad():
        assert_same(bench.head, bench.model(**batch), peer.eval()(**batch), batch)


@every_head
def test_opens_what_the_peer_saves_and_answers_the_same(bench: Bench, tmp_path: Any) -> None:
    peer = bench.head.build_peer(bench.config).eval()
    peer.load_state_dict(bench.model.state_dict())
    peer.save_pretrained(tmp_path)
    loaded = type(bench.model).from_pretrained(tmp_path, verbose=False, strict=True)
    batch = bench.batch()
    with torch.no_grad():
        assert_same(bench.head, loaded(**batch), peer(**batch), batch)


# ---- the two doors ----


@every_head
@pytest.mark.parametrize("without", ["token_type_ids", "attention_mask"])
def test_what_is_left_out_has_the_usual_meaning(bench: Bench, without: str) -> None:
    batch = bench.batch([6, 6])
    usual = {"token_type_ids": torch.zeros, "attention_mask": torch.ones}[without](2, 6).long()
    with torch.no_grad():
        wanted = bench.model(**{**batch, without: usual})
        found = bench.model(**{name: batch[name] for name in batch if name != without})
    assert_same(bench.head, found, wanted, batch, atol=0)


@every_head
def test_padding_is_laid_out_as_zeros(bench: Bench) -> None:
    batch = bench.batch(wider_by=2)
    with torch.no_grad():
        out = bench.model(**batch)
    for name in bench.head.per_token:
        assert not out[name][batch["attention_mask"] == 0].any()
        assert out[name].shape[:2] == batch["input_ids"].shape


@every_head
def test_left_padding_equals_right_padding(bench: Bench) -> None:
    right, left = bench.batch(), bench.batch(side="left", wider_by=2)
    with torch.no_grad():
        found, wanted = bench.model(**left), bench.model(**right)
    for name in found.keys():  # noqa: SIM118
        torch.testing.assert_close(
            real(bench.head, name, found[name], left),
            real(bench.head, name, wanted[name], right),
            atol=1e-6,
            rtol=0,
        )


@every_head
def test_input_ids_may_come_first_and_position_ids_may_be_given(bench: Bench) -> None:
    batch = bench.batch([4, 4])
    ids = batch.pop("input_ids")
    positions = torch.arange(4).expand(2, 4)
    with torch.no_grad():
        usual = bench.model(ids, **batch)
        same = bench.model(input_ids=ids, position_ids=positions, **batch)
        other = bench.model(input_ids=ids, position_ids=positions.flip(1), **batch)
    for name in usual.keys():  # noqa: SIM118
        assert torch.equal(usual[name], same[name])
        assert not torch.equal(usual[name], other[name])


@every_head
def test_one_door_at_a_time(bench: Bench) -> None:
    batch = bench.batch()
    packed = PackedBatch.from_padded(**batch)[0]
    with pytest.raises(UsageError, match="one of the two"):
        bench.model()
    with pytest.raises(UsageError, match="one of the two"):
        bench.model(packed, input_ids=batch["input_ids"])


@every_head
def test_longer_than_the_position_table_is_refused(bench: Bench) -> None:
    limit = bench.config.max_position_embeddings
    with torch.no_grad():
        bench.model(**bench.batch([limit]))
    with pytest.raises(UsageError, match=f"{limit + 1} tokens .* position table of {limit}"):
        bench.model(**bench.batch([limit + 1]))


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
    bench = Bench(head, tiny_config(**head.config), randomised, padded)
    changed = data.draw(st.integers(0, len(lengths) - 1))
    others = [row for row in range(len(lengths)) if row != changed]
    new_lengths = list(lengths)
    new_lengths[changed] = data.draw(st.integers(1, 20))
    before = bench.batch(lengths, wider_by=20 - max(lengths))
    after = bench.batch(new_lengths, seed=1, wider_by=20 - max(new_lengths))
    for name in ("input_ids", "attention_mask", "token_type_ids"):
        after[name][others] = before[name][others]
    with torch.no_grad():
        first, second = bench.packed(before), bench.packed(after)
    for name in first.keys() - {"loss"}:
        difference = (first[name] - second[name]).flatten(1).abs().amax(1)
        assert difference[others].max() <= 1e-6, name


@every_head
@pytest.mark.parametrize("backend", ["grouped", "reference"])
def test_not_even_a_broken_sequence_reaches_another(bench: Bench, backend: str) -> None:
    """A word whose embedding is not a number spoils its own sequence, and no other."""
    bench.model.set_attention_backend(backend)
    batch = bench.batch([5, 7, 7, 3])
    poison = bench.config.vocab_size - 1
    batch["input_ids"][batch["input_ids"] == poison] = 1
    with torch.no_grad():
        healthy = bench.model(**batch)
        bench.model.get_parameter(word_embeddings(bench.model))[poison] = float("nan")
        batch["input_ids"][1, 4] = poison
        spoilt = bench.model(**batch)
    for name in names(healthy):
        assert spoilt[name][1].isnan().any()
        for row in (0, 2, 3):
            torch.testing.assert_close(spoilt[name][row], healthy[name][row], atol=1e-6, rtol=0)


def word_embeddings(model: torch.nn.Module) -> str:
    return next(
        name for name, _ in model.named_parameters() if name.endswith("word_embeddings.weight")
    )


def names(out: Any) -> list[str]:
    return [name for name in out.keys() if name != "loss"]  # noqa: SIM118


@every_head
def test_the_order_of_a_batch_does_not_matter(bench: Bench) -> None:
    batch = bench.batch()
    order = torch.tensor([3, 0, 4, 2, 1])
    shuffled = {name: value[order] for name, value in batch.items()}
    with torch.no_grad():
        plain, mixed = bench.model(**batch), bench.model(**shuffled)
    for name in names(plain):
        torch.testing.assert_close(mixed[name], plain[name][order], atol=1e-6, rtol=0)
    if bench.head.labels is not None:
        torch.testing.assert_close(mixed["loss"], plain["loss"], atol=1e-6, rtol=0)


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
            bench.head,
            bench.packed(batch, row_multiple=row_multiple),
            bench.packed(batch, row_multiple=33),
            batch,
            atol=1e-6,
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
        outputs.append(bench.model(**batch))
        gradients.append(bench.gradients(lambda: bench.model(**batch), batch))
    assert_same(bench.head, outputs[1], outputs[0], batch)
    assert_same_gradients(gradients[1], gradients[0])


@every_head
def test_bfloat16_comes_close(bench: Bench) -> None:
    batch = bench.batch()
    wanted = bench.gradients(lambda: bench.model(**batch), batch)
    plain = bench.model(**batch)

    def coarse() -> Any:
        with torch.autocast("cpu", dtype=torch.bfloat16):
            return bench.model(**batch)

    found = bench.gradients(coarse, batch)
    for name in names(plain):
        want, have = (real(bench.head, name, out[name], batch) for out in (plain, coarse()))
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
            return bench.model(**batch)[names(bench.model(**batch))[0]]

    assert torch.equal(run(0), run(1))
    bench.model.train()
    assert torch.equal(run(0), run(0))
    assert not torch.equal(run(0), run(1))


@every_head
def test_every_parameter_learns(bench: Bench) -> None:
    bench.model.train()
    gradients = bench.gradients(lambda: bench.model(**bench.batch()), bench.batch())
    assert gradients.keys() == dict(bench.model.named_parameters()).keys()
    assert all(value.isfinite().all() for value in gradients.values())
    assert all(value.any() for name, value in gradients.items() if "key.bias" not in name)


# ---- objects ----


@every_head
def test_a_deep_copy_answers_the_same_and_is_on_its_own(bench: Bench) -> None:
    batch = bench.batch()
    twin = copy.deepcopy(bench.model)
    with torch.no_grad():
        assert_same(bench.head, twin(**batch), bench.model(**batch), batch, atol=0)
        before = bench.model(**batch)
        for parameter in twin.parameters():
            parameter.add_(1.0)
        assert_same(bench.head, bench.model(**batch), before, batch, atol=0)


@every_head
def test_outputs_are_read_by_name_by_place_and_as_a_mapping(bench: Bench) -> None:
    with torch.no_grad():
        out = bench.model(**bench.batch())
    assert list(out) == out.keys() == list(dict(out.items()))
    for place, name in enumerate(out):
        assert out[name] is getattr(out, name)
        assert out[place] is out[name]
    assert len(out) == len(out.to_tuple())


@every_head
def test_without_labels_there_is_no_loss(bench: Bench) -> None:
    batch = bench.batch()
    batch.pop("labels", None)
    with torch.no_grad():
        out = bench.model(**batch)
    assert "loss" not in out
    assert ("labels" in inspect.signature(bench.model.forward).parameters) == (
        bench.head.labels is not None
    )


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
