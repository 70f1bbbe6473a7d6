"""Vectors, losses and folders of sentence encoders are those of sentence-transformers."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

from bertolt import AutoTokenizer, BertTokenizer, PackedBatch
from bertolt.base.errors import CheckpointError, DataError
from bertolt.checkpoint.sentence_files import SentenceFiles
from bertolt.data.encode import encode_texts
from bertolt.models.heads import SentenceEncoder
from bertolt.models.losses import CosineRegression, InBatchNegatives

TEXTS = ["Warm, funny and far too short.", "x", "I laughed all the way through.", "好 " * 300]


@pytest.fixture(scope="module")
def peer() -> Any:
    return pytest.importorskip("sentence_transformers")


def vectors_of(model: Any, folder: Path) -> torch.Tensor:
    rows = encode_texts(BertTokenizer.from_pretrained(folder), TEXTS, model.max_length)
    ids = [rows[number]["input_ids"] for number in range(len(rows))]
    with torch.no_grad():
        vectors: torch.Tensor = model(PackedBatch.from_sequences(ids)).logits
    return vectors


def test_vectors_of_a_real_checkpoint_in_both_directions(
    peer: Any, real_checkpoint: Path, tmp_path: Path
) -> None:
    model = SentenceEncoder.from_pretrained(real_checkpoint, verbose=False)
    assert (model.pooling, model.normalized, model.max_length) == ("mean", True, 256)
    ours = vectors_of(model, real_checkpoint).numpy()
    theirs = peer.SentenceTransformer(str(real_checkpoint), device="cpu")
    assert abs(theirs.encode(TEXTS) - ours).max() < 1e-5
    model.save_pretrained(tmp_path / "ours")
    AutoTokenizer.from_pretrained(real_checkpoint).save_pretrained(tmp_path / "ours")
    again = peer.SentenceTransformer(str(tmp_path / "ours"), device="cpu")
    assert again.max_seq_length == 256
    assert abs(again.encode(TEXTS) - ours).max() < 1e-5
    theirs.save_pretrained(str(tmp_path / "theirs"))
    back = SentenceEncoder.from_pretrained(tmp_path / "theirs", verbose=False)
    assert abs(vectors_of(back, tmp_path / "theirs").numpy() - ours).max() < 1e-5


@pytest.mark.parametrize("pooling", ["mean", "cls"])
@pytest.mark.parametrize("normalized", [True, False])
def test_every_pooling_survives_a_folder(
    peer: Any,
    tiny_folder: Path,
    tmp_path: Path,
    randomised: Callable[..., Any],
    pooling: Any,
    normalized: bool,
) -> None:
    model = SentenceEncoder.from_pretrained(
        tiny_folder, verbose=False, pooling=pooling, normalized=normalized, max_length=40
    )
    randomised(model).save_pretrained(tmp_path)
    AutoTokenizer.from_pretrained(tiny_folder).save_pretrained(tmp_path)
    assert json.loads((tmp_path / "config.json").read_text())["architectures"] == ["BertModel"]
    again = SentenceEncoder.from_pretrained(tmp_path, verbose=False)
    assert (again.pooling, again.normalized, again.max_length) == (pooling, normalized, 40)
    ours = vectors_of(again, tmp_path)
    assert torch.equal(ours, vectors_of(model, tiny_folder))
    theirs = peer.SentenceTransformer(str(tmp_path), device="cpu").encode(TEXTS)
    assert abs(theirs - ours.numpy()).max() < 1e-5


def test_losses_are_those_of_the_peer(peer: Any, real_checkpoint: Path) -> None:
    losses = pytest.importorskip("sentence_transformers.losses")
    model = peer.SentenceTransformer(str(real_checkpoint), device="cpu")
    texts = torch.randn(6, 3, 16, generator=torch.Generator().manual_seed(0))
    ranking = losses.MultipleNegativesRankingLoss(model)
    for count in (2, 3):
        columns = [texts[:, place] for place in range(count)]
        theirs = ranking.compute_loss_from_embeddings(columns, None)
        ids = torch.arange(6 * count).view(6, count)
        ours = InBatchNegatives()(texts[:, :count].flatten(0, 1), ids)
        assert float(ours.total / ours.count) == pytest.approx(float(theirs), abs=1e-5)
    scores = torch.rand(6)
    ours = CosineRegression()(texts[:, :2].flatten(0, 1), scores)
    cosines = torch.cosine_similarity(texts[:, 0], texts[:, 1])
    assert float(ours.total / ours.count) == pytest.approx(
        float(torch.nn.functional.mse_loss(cosines, scores)), abs=1e-6
    )


def test_texts_that_are_known_to_belong_together_are_no_negatives() -> None:
    vectors = torch.randn(4, 2, 8, generator=torch.Generator().manual_seed(1))
    # Rows 0 and 1 have one second text, 0 and 2 one first text, which is the second one of row 3.
    ids = torch.tensor([[0, 1], [2, 1], [0, 3], [4, 0]])
    cosines = torch.nn.functional.normalize(vectors, dim=-1)
    scores = 20 * cosines[:, 0] @ cosines[:, 1].T
    rivals: list[list[int]] = [[], [2, 3], [], [0, 1, 2]]
    expected = sum(
        torch.logsumexp(scores[row, [row, *others]], 0) - scores[row, row]
        for row, others in enumerate(rivals)
    )
    loss = InBatchNegatives()(vectors.flatten(0, 1), ids)
    assert float(loss.total) == pytest.approx(float(expected), abs=1e-5)
    assert int(loss.count) == 4


def test_another_number_of_texts_is_refused() -> None:
    with pytest.raises(DataError, match="5 vectors for 2 examples of 2 texts"):
        InBatchNegatives()(torch.randn(5, 4), torch.zeros(2, 2, dtype=torch.long))


MODULES = [
    {"idx": 0, "name": "0", "path": "", "type": "sentence_transformers.models.Transformer"},
    {"idx": 1, "name": "1", "path": "1_Pooling", "type": "sentence_transformers.models.Pooling"},
]
DENSE = {"idx": 2, "name": "2", "path": "2_Dense", "type": "sentence_transformers.models.Dense"}
OWN = {"idx": 2, "name": "2", "path": "", "type": "my_package.Layer"}


@pytest.mark.parametrize(
    ("files", "problem"),
    [
        ({"modules.json": [*MODULES, DENSE]}, "models.Dense"),
        ({"modules.json": [*MODULES, OWN]}, "no code or weights of it run here"),
        ({"modules.json": MODULES[:1]}, "its modules are Transformer"),
        ({"modules.json": [MODULES[0] | {"path": "0_BERT"}, MODULES[1]]}, "0_BERT"),
        ({"modules.json": {}}, "it holds no list"),
        ({"modules.json": [{"idx": 0}]}, "has no type"),
        ({"1_Pooling/config.json": {"pooling_mode": "lasttoken"}}, "lasttoken"),
        ({"1_Pooling/config.json": {"pooling_mode": ["mean", "cls"]}}, "it pools by"),
        ({"sentence_bert_config.json": {"max_seq_length": "many"}}, "max_seq_length is 'many'"),
        (
            {
                "config_sentence_transformers.json": {
                    "prompts": {"query": "query: "},
                    "default_prompt_name": "query",
                }
            },
            "the prompt 'query: '",
        ),
    ],
)
def test_what_is_not_made_here_is_refused_in_words(
    files: dict[str, Any], problem: str, tmp_path: Path
) -> None:
    SentenceFiles().write(tmp_path, 32)
    for name, values in files.items():
        (tmp_path / name).write_text(json.dumps(values))
    with pytest.raises(CheckpointError, match=problem) as refused:
        SentenceFiles.read(tmp_path)
    assert refused.value.fix
    assert str(tmp_path) in refused.value.place


def test_broken_and_missing_files(tmp_path: Path) -> None:
    assert SentenceFiles.read(tmp_path) is None
    SentenceFiles(pooling="cls", normalized=False).write(tmp_path, 32)
    assert SentenceFiles.read(tmp_path) == SentenceFiles(pooling="cls", normalized=False)
    shutil.rmtree(tmp_path / "1_Pooling")
    with pytest.raises(CheckpointError, match="cannot be read"):
        SentenceFiles.read(tmp_path)
    (tmp_path / "modules.json").write_text("[")
    with pytest.raises(CheckpointError, match="cannot be read"):
        SentenceFiles.read(tmp_path)
