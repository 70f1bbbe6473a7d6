"""Opening model folders of every kind, and refusing those that cannot be trusted."""

from __future__ import annotations

import json
import os
import pickle
import shutil
import signal
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
import transformers
from hypothesis import given
from hypothesis import strategies as st
from safetensors import safe_open
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

from bertolt import BertForSequenceClassification, BertModel, BertTokenizer
from bertolt.base.errors import BertoltError, CheckpointError
from bertolt.checkpoint import huggingface, weights

WEIGHTS = "model.safetensors"


@pytest.fixture(scope="module")
def saved(tmp_path_factory: Any, tiny_config: Any, randomised: Any) -> Path:
    """A classifier of three labels with random weights. Not to be written to."""
    folder = tmp_path_factory.mktemp("saved")
    randomised(BertForSequenceClassification(tiny_config(num_labels=3))).save_pretrained(folder)
    return folder


@pytest.fixture
def folder(saved: Path, tmp_path: Path) -> Path:
    """The same, to be spoilt."""
    return Path(shutil.copytree(saved, tmp_path / "model"))


@pytest.fixture(scope="module")
def tensors(saved: Path) -> dict[str, Tensor]:
    return load_file(saved / WEIGHTS)


def load(folder: Path, **options: Any) -> Any:
    return BertForSequenceClassification.from_pretrained(folder, verbose=False, **options)


def complaint(folder: Path, **options: Any) -> str:
    with pytest.raises(CheckpointError) as caught:
        load(folder, **options)
    assert caught.value.fix or options.get("strict")
    return str(caught.value)


def rewrite(folder: Path, change: Callable[[dict[str, Tensor]], dict[str, Tensor]]) -> None:
    save_file(change(load_file(folder / WEIGHTS)), folder / WEIGHTS)


def set_config(folder: Path, **values: Any) -> None:
    path = folder / "config.json"
    path.write_text(json.dumps({**json.loads(path.read_text()), **values}))


def assert_holds(model: nn.Module, tensors: dict[str, Tensor]) -> None:
    state = model.state_dict()
    assert state.keys() == tensors.keys()
    for key, value in state.items():
        assert torch.equal(value, tensors[key]), key


# ---- spellings and kinds of files ----


@pytest.mark.parametrize(
    "spelling",
    [
        lambda name: name,
        lambda name: name.removeprefix("bert."),
        lambda name: name.replace("LayerNorm.weight", "LayerNorm.gamma").replace(
            "LayerNorm.bias", "LayerNorm.beta"
        ),
    ],
    ids=["as saved", "without prefix", "gamma and beta"],
)
def test_every_spelling_of_the_names(
    folder: Path, tensors: dict[str, Tensor], spelling: Callable[[str], str]
) -> None:
    rewrite(folder, lambda found: {spelling(name): value for name, value in found.items()})
    model = load(folder, strict=True)
    assert_holds(model, tensors)
    assert model.load_report.loaded["classifier.weight"] == "classifier.weight"
    key = "bert.encoder.layer.1.output.LayerNorm.weight"
    assert model.load_report.loaded[key] == spelling(key)


def test_an_encoder_opens_what_has_a_prefix_and_a_head(
    folder: Path, tensors: dict[str, Tensor]
) -> None:
    model, report = BertModel.from_pretrained(folder, verbose=False, output_loading_info=True)
    inside = {key.removeprefix("bert."): t for key, t in tensors.items() if "classifier" not in key}
    assert_holds(model, inside)
    assert sorted(report.unexpected) == ["classifier.bias", "classifier.weight"]
    assert not report.exact


def test_a_name_as_the_model_has_it_wins_over_an_old_spelling(
    folder: Path, tensors: dict[str, Tensor]
) -> None:
    """Both are in the file: the other is not passed over in silence."""
    key = "bert.embeddings.LayerNorm.weight"
    old = "bert.embeddings.LayerNorm.gamma"
    rewrite(folder, lambda found: {old: found[key] + 1, **found})
    model = load(folder)
    assert_holds(model, tensors)
    assert model.load_report.unexpected == [old]


@pytest.mark.parametrize("safe", [True, False], ids=["safetensors", "pytorch_model.bin"])
def test_what_the_peer_wrote(
    tmp_path: Path, tiny_config: Any, randomised: Any, padded: Any, safe: bool
) -> None:
    config = transformers.BertConfig(**tiny_config(num_labels=3).to_dict())
    peer = randomised(transformers.BertForSequenceClassification(config))
    peer.save_pretrained(tmp_path)
    if not safe:
        (tmp_path / WEIGHTS).unlink()
        torch.save(peer.state_dict(), tmp_path / "pytorch_model.bin")
    model = load(tmp_path, strict=True)
    assert_holds(model, peer.state_dict())
    batch = padded([4, 9, 1])
    with torch.no_grad():
        torch.testing.assert_close(model(**batch).logits, peer(**batch).logits, atol=1e-5, rtol=0)


def test_shards(tmp_path: Path, tiny_config: Any, randomised: Any) -> None:
    config = transformers.BertConfig(**tiny_config(num_labels=3).to_dict())
    peer = randomised(transformers.BertForSequenceClassification(config))
    peer.save_pretrained(tmp_path, max_shard_size="30KB")
    shards = sorted(tmp_path.glob("*.safetensors"))
    assert len(shards) > 2
    assert_holds(load(tmp_path, strict=True), peer.state_dict())
    shards[1].unlink()
    assert shards[1].name in complaint(tmp_path)


@pytest.mark.parametrize(
    "text", ["{", "[]", "{}", '{"weight_map": 1}', '{"weight_map": {"a": 1, "b": "c"}}']
)
def test_a_broken_index_of_shards(folder: Path, text: str) -> None:
    (folder / WEIGHTS).unlink()
    (folder / "model.safetensors.index.json").write_text(text)
    assert "index of shards" in complaint(folder)


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float64])
def test_other_number_formats_become_fp32_and_are_saved_as_such(
    folder: Path, tmp_path: Path, tensors: dict[str, Tensor], padded: Any, dtype: torch.dtype
) -> None:
    rewrite(folder, lambda found: {name: value.to(dtype) for name, value in found.items()})
    set_config(folder, torch_dtype=str(dtype).removeprefix("torch."))
    model = load(folder, strict=True)
    assert_holds(model, {name: value.to(dtype).float() for name, value in tensors.items()})
    model.save_pretrained(tmp_path / "again")
    peer = transformers.BertForSequenceClassification.from_pretrained(tmp_path / "again").eval()
    assert peer.dtype == torch.float32
    batch = padded([4, 9, 1])
    with torch.no_grad():
        torch.testing.assert_close(peer(**batch).logits, model(**batch).logits, atol=1e-5, rtol=0)


def test_loading_leaves_the_random_state_alone(folder: Path) -> None:
    state = torch.get_rng_state()
    load(folder, num_labels=5, ignore_mismatched_sizes=True)
    assert torch.equal(torch.get_rng_state(), state)


def test_the_report_is_printed_unless_silenced(folder: Path, capsys: Any) -> None:
    load(folder)
    assert capsys.readouterr() == ("", "")
    BertForSequenceClassification.from_pretrained(folder)
    out, err = capsys.readouterr()
    assert out == ""
    assert f"Loaded 41 tensors from {folder}" in err


# ---- what cannot be trusted ----


class Malicious:
    """Unpickling it would make a folder."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> tuple[Any, ...]:
        return os.mkdir, (str(self.path),)


def test_a_pickle_that_runs_code_is_refused_without_running_it(
    folder: Path, tmp_path: Path
) -> None:
    (folder / WEIGHTS).unlink()
    trap = tmp_path / "sprung"
    torch.save({"bert.embeddings.LayerNorm.bias": Malicious(trap)}, folder / "pytorch_model.bin")
    said = complaint(folder)
    assert "without running code" in said
    assert f"it asks for {os.mkdir.__module__}.mkdir" in said
    assert "weights_only" not in said
    assert not trap.exists()
    # The trap works: only the careful way of reading does not spring it.
    torch.load(folder / "pytorch_model.bin", weights_only=False)
    assert trap.exists()


def test_a_pickle_of_another_kind_is_refused_without_a_word_of_pytorch(folder: Path) -> None:
    (folder / WEIGHTS).unlink()
    trap = folder / "sprung"
    (folder / "pytorch_model.bin").write_bytes(pickle.dumps(Malicious(trap), protocol=4))
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert "without running code" in complaint(folder)
    assert not trap.exists()


@pytest.mark.parametrize("content", [torch.zeros(3), [torch.zeros(3)], "text"], ids=str)
def test_a_pickle_that_holds_something_else(folder: Path, content: Any) -> None:
    (folder / WEIGHTS).unlink()
    torch.save(content, folder / "pytorch_model.bin")
    assert "not tensors by name" in complaint(folder)


def test_a_damaged_pickle(folder: Path, tensors: dict[str, Tensor]) -> None:
    (folder / WEIGHTS).unlink()
    path = folder / "pytorch_model.bin"
    torch.save(tensors, path)
    whole = path.read_bytes()
    for content in (b"", b"\x80", b"no pickle at all", whole[: len(whole) // 2], whole[:100]):
        path.write_bytes(content)
        said = complaint(folder)
        assert str(path) in said
        assert "truncated or corrupted" in said
        assert "weights_only" not in said, "torch's advice is to run what is not trusted"
    path.write_bytes(b"<html>not found</html>")
    assert "it is no file of PyTorch's" in complaint(folder)


def test_a_program_instead_of_tensors(folder: Path) -> None:
    (folder / WEIGHTS).unlink()
    script = torch.jit.script(torch.nn.Linear(2, 2))
    torch.jit.save(script, str(folder / "pytorch_model.bin"))
    assert "it is a program in TorchScript" in complaint(folder)


def test_an_empty_file(folder: Path) -> None:
    (folder / WEIGHTS).write_bytes(b"")
    assert "truncated or corrupted" in complaint(folder)


@given(share=st.floats(0, 1, exclude_max=True))
def test_a_file_truncated_anywhere(saved: Path, tmp_path_factory: Any, share: float) -> None:
    folder = Path(shutil.copytree(saved, tmp_path_factory.mktemp("cut") / "model"))
    whole = (folder / WEIGHTS).read_bytes()
    (folder / WEIGHTS).write_bytes(whole[: int(len(whole) * share)])
    words = complaint(folder)
    assert "truncated or corrupted" in words
    assert str(folder / WEIGHTS) in words


@given(place=st.integers(0, 3000), value=st.integers(0, 255))
def test_a_byte_changed_in_the_header_is_an_error_or_seen_in_the_report(
    saved: Path, tmp_path_factory: Any, place: int, value: int
) -> None:
    folder = Path(shutil.copytree(saved, tmp_path_factory.mktemp("bent") / "model"))
    content = bytearray((folder / WEIGHTS).read_bytes())
    changed = content[place] != value
    header = int.from_bytes(content[:8], "little")
    content[place] = value
    (folder / WEIGHTS).write_bytes(content)
    try:
        model = load(folder)
    except BertoltError:
        return
    # A blank for a blank, another format of the same size, a name that nobody knows.
    assert not changed or place < header + 8
    assert sum(map(len, (model.load_report.loaded, model.load_report.initialised))) == 41


@pytest.mark.parametrize("where", ["as the file is opened", "as a tensor is read"])
def test_ctrl_c_while_weights_are_read_is_no_error_of_theirs(
    folder: Path, monkeypatch: pytest.MonkeyPatch, where: str
) -> None:
    """Torch asks what is in a value, and takes an interrupt that comes then for an answer."""

    def ask() -> None:
        try:
            signal.raise_signal(signal.SIGINT)
        except KeyboardInterrupt:
            raise ValueError("could not determine the shape of object type") from None

    class Opened:
        def __init__(self, path: Path, framework: str) -> None:
            self._file = safe_open(path, framework)
            if where == "as the file is opened":
                ask()

        def __enter__(self) -> Any:
            return self

        def __exit__(self, *_: object) -> None:
            pass

        def get_tensor(self, name: str) -> Tensor:
            ask()
            tensor: Tensor = self._file.get_tensor(name)
            return tensor

        def __getattr__(self, name: str) -> Any:
            return getattr(self._file, name)

    monkeypatch.setattr(weights, "safe_open", Opened)
    with pytest.raises(KeyboardInterrupt):
        BertModel.from_pretrained(folder)


def test_a_tensor_that_holds_nan(folder: Path) -> None:
    def spoil(found: dict[str, Tensor]) -> dict[str, Tensor]:
        found["bert.encoder.layer.1.output.dense.weight"][3, 5] = float("nan")
        return found

    rewrite(folder, spoil)
    words = complaint(folder)
    assert "bert.encoder.layer.1.output.dense.weight" in words
    assert "NaN" in words


@pytest.mark.parametrize("key", ["classifier.bias", "bert.embeddings.word_embeddings.weight"])
def test_a_copy_that_went_wrong_is_noticed(folder: Path, monkeypatch: Any, key: str) -> None:
    """Each tensor is compared with the file, the first and the last one too."""
    right, target = (
        Tensor.copy_,
        BertForSequenceClassification.from_pretrained(folder, verbose=False),
    )
    shape = target.get_parameter(key).shape

    def wrong(self: Tensor, other: Tensor) -> Tensor:
        right(self, other)
        if self.shape == shape:
            self.view(-1)[-1] += 1
        return self

    monkeypatch.setattr(Tensor, "copy_", wrong)
    assert f"the tensor {key} does not equal its copy" in complaint(folder)


def test_an_index_that_promises_more_than_the_shards_have(
    tmp_path: Path, tiny_config: Any, randomised: Any
) -> None:
    config = transformers.BertConfig(**tiny_config(num_labels=3).to_dict())
    peer = randomised(transformers.BertForSequenceClassification(config))
    peer.save_pretrained(tmp_path, max_shard_size="30KB")
    index = tmp_path / "model.safetensors.index.json"
    values = json.loads(index.read_text())
    shards = sorted(set(values["weight_map"].values()))
    for name, change in (("classifier.weight", shards), ("bert.nowhere", shards[:1])):
        wrong = next(s for s in change if s != values["weight_map"].get(name))
        told = {**values, "weight_map": {**values["weight_map"], name: wrong}}
        index.write_text(json.dumps(told))
        words = complaint(tmp_path)
        assert f"{name} is not in {wrong}" in words


@pytest.mark.parametrize(
    "name", ["../other.safetensors", "/etc/passwd", "gone.safetensors", "pipe"]
)
def test_an_index_names_files_of_its_folder_alone(folder: Path, name: str) -> None:
    os.mkfifo(folder / "pipe")
    shutil.move(folder / "model.safetensors", folder.parent / "other.safetensors")
    index = folder / "model.safetensors.index.json"
    index.write_text(json.dumps({"weight_map": {"classifier.weight": name}}))
    assert f"{name!r} is not a file of this folder" in complaint(folder)


def test_a_folder_without_a_config(folder: Path) -> None:
    (folder / "config.json").unlink()
    words = complaint(folder)
    assert "config.json" in words
    assert str(folder) in words


@pytest.mark.parametrize("content", [b"{", b"\xff\xfe", b"[1]", b"null"])
def test_a_config_that_is_no_config(folder: Path, content: bytes) -> None:
    (folder / "config.json").write_bytes(content)
    assert "config.json" in complaint(folder)


def test_a_model_that_is_not_bert(folder: Path) -> None:
    set_config(folder, model_type="roberta")
    assert "'roberta'" in complaint(folder)


@pytest.mark.parametrize(
    "values",
    [{"position_embedding_type": "relative_key"}, {"hidden_act": "swiglu"}],
    ids=str,
)
def test_a_bert_of_another_make(folder: Path, values: dict[str, Any]) -> None:
    """It would load, and give other numbers than those it was trained to give."""
    set_config(folder, **values)
    words = complaint(folder)
    assert all(name in words for name in values)


def test_a_folder_without_weights(folder: Path) -> None:
    (folder / WEIGHTS).unlink()
    words = complaint(folder)
    assert "no weights" in words
    assert WEIGHTS in words


def test_no_folder_of_that_name(tmp_path: Path) -> None:
    assert "no such folder" in complaint(tmp_path / "nowhere")
    assert "there is no such folder" in complaint(Path("../nowhere/at/all"))


def test_a_file_instead_of_a_folder(folder: Path) -> None:
    words = complaint(folder / WEIGHTS)
    assert "a model is a folder" in words
    assert f"name the folder: {folder}" in words


def test_a_hub_id_that_cannot_be_had() -> None:
    with pytest.raises(CheckpointError, match="neither a folder here nor") as caught:
        huggingface.resolve("nobody/nothing-of-this-name")
    assert caught.value.place == "nobody/nothing-of-this-name"


def test_a_vocabulary_that_does_not_fit(tiny_tokenizer: BertTokenizer, tiny_config: Any) -> None:
    tiny_tokenizer.check_fits(tiny_config().vocab_size)
    with pytest.raises(CheckpointError, match=r"ids up to 96 .* 96 rows"):
        tiny_tokenizer.check_fits(96)


# ---- shapes that differ, tensors that lack ----


def test_a_mismatch_names_both_shapes_and_the_way_out(folder: Path) -> None:
    words = complaint(folder, num_labels=5)
    assert "classifier.weight" in words
    assert "[3, 32] in the file" in words
    assert "[5, 32] in the model" in words
    assert "ignore_mismatched_sizes=True" in words


def test_mismatched_tensors_start_anew_where_that_is_allowed(
    folder: Path, tensors: dict[str, Tensor]
) -> None:
    model = load(folder, num_labels=5, ignore_mismatched_sizes=True)
    report = model.load_report
    assert [(m.key, m.model_shape, m.file_shape) for m in report.mismatched] == [
        ("classifier.weight", (5, 32), (3, 32)),
        ("classifier.bias", (5,), (3,)),
    ]
    assert report.missing == ["classifier.weight", "classifier.bias"]
    assert not model.classifier.bias.any()
    kept = {key: value for key, value in model.state_dict().items() if "classifier" not in key}
    assert all(torch.equal(value, tensors[key]) for key, value in kept.items())


def test_strict_makes_every_difference_an_error(folder: Path) -> None:
    load(folder, strict=True)
    rewrite(folder, lambda found: {**found, "cls.extra": torch.zeros(1)})
    assert "cls.extra" in complaint(folder, strict=True)
    rewrite(folder, lambda found: {k: v for k, v in found.items() if k != "classifier.bias"})
    words = complaint(folder, strict=True)
    assert "classifier.bias" in words
    assert "strict=True" in words


def test_new_weights_follow_the_seed_and_the_published_deviation(tiny_folder: Path) -> None:
    # The tiny encoder has no head: 6,400 new weights.
    first = load(tiny_folder, num_labels=200, seed=1)
    again = load(tiny_folder, num_labels=200, seed=1)
    other = load(tiny_folder, num_labels=200, seed=2)
    weight = first.classifier.weight.detach()
    assert torch.equal(weight, again.classifier.weight)
    assert not torch.equal(weight, other.classifier.weight)
    deviation = first.config.initializer_range
    assert abs(float(weight.std()) - deviation) < 0.05 * deviation
    assert abs(float(weight.mean())) < 5 * deviation / weight.numel() ** 0.5
    assert not first.classifier.bias.any()
    assert first.load_report.initialised == {
        "classifier.weight": f"normal, std {deviation:g}",
        "classifier.bias": "zeros",
    }


@pytest.mark.parametrize("without", ["weight", "bias"])
def test_half_a_module_that_lacks_is_filled_and_half_is_kept(
    folder: Path, tensors: dict[str, Tensor], without: str
) -> None:
    gone = f"bert.embeddings.LayerNorm.{without}"
    rewrite(folder, lambda found: {k: v for k, v in found.items() if k != gone})
    model = load(folder)
    assert list(model.load_report.initialised) == [gone]
    fresh = torch.ones(32) if without == "weight" else torch.zeros(32)
    assert_holds(model, {**tensors, gone: fresh})


# ---- what subclasses may change ----


class Patterned(BertForSequenceClassification):
    _keys_to_ignore_on_load_unexpected = (r"^cls\.", r"position_ids$")
    _keys_to_ignore_on_load_missing = (r"^classifier\.",)


def test_patterns_excuse_what_is_unexpected_and_what_is_missing(
    folder: Path, tensors: dict[str, Tensor]
) -> None:
    rewrite(
        folder,
        lambda found: {
            "cls.predictions.bias": torch.zeros(3),
            "bert.embeddings.position_ids": torch.arange(160.0)[None],
            "bert.surplus": torch.zeros(1),
            **{name: value for name, value in found.items() if "classifier" not in name},
        },
    )
    report = Patterned.from_pretrained(folder, verbose=False).load_report
    assert report.ignored == {
        "classifier.weight": r"^classifier\.",
        "classifier.bias": r"^classifier\.",
        "cls.predictions.bias": r"^cls\.",
        "bert.embeddings.position_ids": r"embeddings\.position_ids$",
    }
    # Excused, and told all the same: what is new is new.
    assert report.initialised.keys() == {"classifier.weight", "classifier.bias"}
    assert report.missing == []
    assert report.unexpected == ["bert.surplus"]
    assert r"excused: cls.predictions.bias: by the pattern ^cls\." in str(report)
    assert "new, not from the file: classifier.weight" in str(report)
    plain = load(folder).load_report
    assert plain.missing == ["classifier.weight", "classifier.bias"]
    assert set(plain.unexpected) == {"cls.predictions.bias", "bert.surplus"}


def test_positions_that_old_versions_saved_are_excused(folder: Path) -> None:
    positions = {"bert.embeddings.position_ids": torch.arange(160)[None]}
    rewrite(folder, lambda found: {**found, **positions})
    assert load(folder, strict=True).load_report.ignored.keys() == positions.keys()


class OwnRule(BertForSequenceClassification):
    """A head with a rule of its own, and a parameter that only this rule knows."""

    def __init__(self, config: Any) -> None:
        super().__init__(config)
        self.scale = nn.Parameter(torch.empty(3))
        self.init_weights()

    def _init_weights(self, module: nn.Module) -> None:
        super()._init_weights(module)
        if module is self and hasattr(self, "scale"):
            nn.init.constant_(self.scale, 2.0)
            nn.init.constant_(self.classifier.bias, 0.25)


def test_an_own_rule_is_honoured_when_building_and_when_loading(
    tiny_folder: Path, tiny_config: Any
) -> None:
    for model in (
        OwnRule(tiny_config()),
        OwnRule.from_pretrained(tiny_folder, verbose=False),
    ):
        assert torch.equal(model.scale, torch.full((3,), 2.0))
        assert torch.equal(model.classifier.bias, torch.full((2,), 0.25))
        assert model.classifier.weight.detach().std() > 0


def test_a_parameter_that_no_rule_sets_is_refused(tiny_folder: Path) -> None:
    class Forgetful(BertForSequenceClassification):
        def __init__(self, config: Any) -> None:
            super().__init__(config)
            self.scale = nn.Parameter(torch.ones(3))

    with pytest.raises(CheckpointError, match="scale is not in the file, and no rule") as caught:
        Forgetful.from_pretrained(tiny_folder, verbose=False)
    assert "Forgetful._init_weights" in caught.value.fix


# ---- saving ----


def test_saving_fails_as_a_whole(folder: Path, monkeypatch: Any) -> None:
    before = {path.name: path.read_bytes() for path in folder.iterdir()}
    model = load(folder)

    def full(*_: Any, **__: Any) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("bertolt.checkpoint.weights.save_file", full)
    with pytest.raises(BertoltError, match="No space left") as caught:
        model.save_pretrained(folder)
    assert "free some space" in caught.value.fix
    assert {path.name: path.read_bytes() for path in folder.iterdir()} == before


def test_saving_writes_what_the_config_said_besides(folder: Path, tmp_path: Path) -> None:
    set_config(folder, finetuning_task="reviews", torch_dtype="float16")
    load(folder).save_pretrained(tmp_path / "again")
    values = json.loads((tmp_path / "again" / "config.json").read_text())
    assert values["finetuning_task"] == "reviews"
    assert values["architectures"] == ["BertForSequenceClassification"]
    assert values["dtype"] == "float32"
    assert "torch_dtype" not in values
