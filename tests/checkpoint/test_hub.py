"""A model by its id: what is fetched, from which cache, and what is said when it cannot be had."""

from __future__ import annotations

import shutil
from collections.abc import Sequence
from fnmatch import fnmatch
from pathlib import Path
from typing import Any

import huggingface_hub
import pytest
import torch

from bertolt import AutoConfig, BertConfig, BertModel, BertTokenizer
from bertolt.base.errors import CheckpointError
from bertolt.checkpoint import huggingface

COMMIT = "0123456789abcdef0123456789abcdef01234567"


@pytest.fixture
def repository(tmp_path: Path, tiny_folder: Path) -> Path:
    """What a model has on the hub, all of its formats and extras."""
    folder = Path(shutil.copytree(tiny_folder, tmp_path / "repository"))
    state = BertModel.from_pretrained(folder, verbose=False).state_dict()
    torch.save(state, folder / "pytorch_model.bin")
    for extra in ("tf_model.h5", "flax_model.msgpack", "adapter.safetensors", "README.md"):
        (folder / extra).write_text("not for us")
    for extra in ("onnx", "1_Pooling"):
        (folder / extra).mkdir()
        for name in ("model.safetensors", "config.json", "pytorch_model.bin"):
            (folder / extra / name).write_text("not for us")
    return folder


class Hub:
    """In the client's place: copies what is asked for into a cache, and counts."""

    def __init__(self, repository: Path, cache: Path) -> None:
        self.repository, self.cache = repository, cache
        self.fetched: list[str] = []
        self.options: list[dict[str, Any]] = []

    def snapshot_download(self, name: str, *, allow_patterns: Sequence[str], **options: Any) -> str:
        assert name == "somebody/model"
        self.options.append(options)
        for path in sorted(self.repository.rglob("*")):
            relative = str(path.relative_to(self.repository))
            target = self.cache / relative
            wanted = any(fnmatch(relative, pattern) for pattern in allow_patterns)
            if path.is_file() and wanted and not target.exists():
                target.parent.mkdir(parents=True, exist_ok=True)
                shutil.copyfile(path, target)
                self.fetched.append(relative)
        return str(self.cache)


@pytest.fixture
def hub(repository: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Hub:
    made = Hub(repository, tmp_path / "cache")
    monkeypatch.setattr(huggingface_hub, "snapshot_download", made.snapshot_download)
    return made


def test_safetensors_are_fetched_and_no_other_format_of_the_same(hub: Hub) -> None:
    BertModel.from_pretrained("somebody/model", verbose=False, strict=True)
    assert hub.fetched == ["config.json", "model.safetensors", "vocab.txt"]
    BertTokenizer.from_pretrained("somebody/model")
    assert len(hub.fetched) == 3


def test_the_legacy_file_is_fetched_where_there_is_no_other(hub: Hub) -> None:
    (hub.repository / "model.safetensors").unlink()
    model = BertModel.from_pretrained("somebody/model", verbose=False, strict=True)
    assert hub.fetched == ["config.json", "vocab.txt", "pytorch_model.bin"]
    wanted = torch.load(hub.repository / "pytorch_model.bin")
    assert all(torch.equal(value, wanted[key]) for key, value in model.state_dict().items())


def test_all_shards_are_fetched(hub: Hub, tiny_folder: Path) -> None:
    import transformers

    (hub.repository / "model.safetensors").unlink()
    peer = transformers.BertModel.from_pretrained(tiny_folder)
    peer.save_pretrained(hub.repository, max_shard_size="30KB")
    shards = {path.name for path in hub.repository.glob("model-*.safetensors")}
    assert len(shards) > 2
    BertModel.from_pretrained("somebody/model", verbose=False, strict=True)
    assert {*shards, "model.safetensors.index.json"} < set(hub.fetched)
    assert "pytorch_model.bin" not in hub.fetched


def test_revision_and_cache_are_passed_on(hub: Hub, tmp_path: Path) -> None:
    wanted = {"revision": "v2", "cache_dir": tmp_path / "mine", "local_files_only": True}
    BertModel.from_pretrained("somebody/model", verbose=False, **wanted)
    assert hub.options == [wanted]


@pytest.mark.parametrize("door", [AutoConfig, BertConfig, BertModel])
def test_a_token_and_a_fresh_download_are_passed_on(hub: Hub, door: Any) -> None:
    door.from_pretrained("somebody/model", use_auth_token="secret", force_download=True)
    assert hub.options[0]["token"] == "secret"
    assert hub.options[0]["force_download"]


def test_a_model_without_weights_that_can_be_read(hub: Hub) -> None:
    for name in ("model.safetensors", "pytorch_model.bin"):
        (hub.repository / name).unlink()
    with pytest.raises(CheckpointError, match="no weights here"):
        BertModel.from_pretrained("somebody/model", verbose=False)


@pytest.mark.parametrize("legacy", [False, True], ids=["safetensors", "pytorch_model.bin"])
def test_offline_the_clients_own_cache_is_enough(
    repository: Path, tmp_path: Path, legacy: bool
) -> None:
    """The real client, told by HF_HUB_OFFLINE to leave the network alone, and a cache as it is."""
    assert huggingface_hub.constants.HF_HUB_OFFLINE
    root = tmp_path / "hub" / "models--somebody--model"
    snapshot = root / "snapshots" / COMMIT
    snapshot.mkdir(parents=True)
    (root / "refs").mkdir()
    (root / "refs" / "main").write_text(COMMIT)
    weights = "pytorch_model.bin" if legacy else "model.safetensors"
    for name in ("config.json", "vocab.txt", weights):
        shutil.copyfile(repository / name, snapshot / name)
    options = {"cache_dir": tmp_path / "hub"}
    ours = BertModel.from_pretrained("somebody/model", verbose=False, strict=True, **options)
    assert ours.load_report.source == str(snapshot)
    wanted = BertModel.from_pretrained(repository, verbose=False).state_dict()
    assert all(torch.equal(value, wanted[key]) for key, value in ours.state_dict().items())
    tokenizer = BertTokenizer.from_pretrained("somebody/model", **options)
    assert tokenizer.get_vocab() == BertTokenizer.from_pretrained(repository).get_vocab()


def test_an_id_that_is_not_in_the_cache() -> None:
    with pytest.raises(CheckpointError, match="neither a folder here nor") as caught:
        BertModel.from_pretrained("nobody/nothing-of-this-name", verbose=False)
    assert caught.value.place == "nobody/nothing-of-this-name"
    assert caught.value.fix


class DroppedError(Exception):
    """As the network library's own exceptions are: of no common kind."""


@pytest.mark.parametrize(
    "error", [OSError("no route"), ValueError(), DroppedError("reset\nby peer")]
)
def test_whatever_goes_wrong_is_one_message(error: Exception, monkeypatch: Any) -> None:
    def fail(*_: Any, **__: Any) -> str:
        raise error

    monkeypatch.setattr(huggingface_hub, "snapshot_download", fail)
    with pytest.raises(CheckpointError, match="anything that the hub gave") as caught:
        huggingface.resolve("somebody/model")
    assert caught.value.__cause__ is error
    assert "by peer" not in str(caught.value)
