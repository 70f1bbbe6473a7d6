"""`/v1/embeddings` by the clients that people have: OpenAI's, LangChain's and curl, unchanged."""

from __future__ import annotations

import asyncio
import json
import shutil
import subprocess
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest

pytest.importorskip("uvicorn")
pytest.importorskip("openai")

import openai

from bertolt import Predictor
from tests.serve.live import Live, live

pytestmark = pytest.mark.slow

KEY = "a-key-that-nobody-guesses"
TEXTS = ["How do I send the lamp back?", "We deliver within three days.", "😀 Größe"]


@pytest.fixture(scope="module")
def server(real_checkpoint: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Live]:
    folder = tmp_path_factory.mktemp("serve")
    keys = folder / "keys.txt"
    keys.write_text(KEY + "\n")
    with live(folder / "log", f"near={real_checkpoint}", "--keys", keys) as running:
        yield running


@pytest.fixture(scope="module")
def predictor(real_checkpoint: Path) -> Predictor:
    return Predictor.from_pretrained(real_checkpoint)


@pytest.fixture(scope="module")
def vectors(predictor: Predictor) -> np.ndarray:
    """What `predict` answers."""
    return np.array([each.vector for each in predictor.predict(TEXTS)], dtype=np.float32)


@pytest.fixture
def client(server: Live) -> Iterator[Any]:
    with openai.OpenAI(base_url=f"{server.address}/v1", api_key=KEY, max_retries=0) as made:
        yield made


def of(response: Any) -> np.ndarray:
    assert [each.index for each in response.data] == list(range(len(response.data)))
    return np.array([each.embedding for each in response.data], dtype=np.float32)


def close(one: Any, other: Any) -> None:
    """Alike but for the rounding of other sums: a text's batch may differ."""
    np.testing.assert_allclose(one, other, atol=2e-6, rtol=0)


def ids_of(predictor: Predictor, texts: Sequence[str]) -> list[list[int]]:
    """Ids without the special tokens, as clients make them."""
    return [predictor.tokenizer.encode(text, add_special_tokens=False) for text in texts]


def test_the_official_client_has_the_vectors_of_predict(
    client: Any, vectors: np.ndarray, predictor: Predictor
) -> None:
    response = client.embeddings.create(model="near", input=TEXTS)  # base64, its default
    close(of(response), vectors)
    assert response.model == "near"
    assert response.object == "list"
    assert {each.object for each in response.data} == {"embedding"}
    tokens = sum(each.tokens for each in predictor.predict(TEXTS))
    assert response.usage.prompt_tokens == response.usage.total_tokens == tokens
    floats = client.embeddings.create(model="near", input=TEXTS, encoding_format="float")
    np.testing.assert_array_equal(of(floats), of(response))
    (one,) = of(client.embeddings.create(model="near", input=TEXTS[0]))
    close(one, vectors[0])
    assert [each.id for each in client.models.list()] == ["near"]


def test_ids_of_tokens_are_read_as_their_texts_are(
    client: Any, predictor: Predictor, vectors: np.ndarray
) -> None:
    ids = ids_of(predictor, TEXTS)
    close(of(client.embeddings.create(model="near", input=ids)), vectors)
    close(of(client.embeddings.create(model="near", input=ids[1])), vectors[1:2])


def test_shorter_vectors_are_the_first_numbers_at_length_1(
    client: Any, vectors: np.ndarray
) -> None:
    short = of(client.embeddings.create(model="near", input=TEXTS, dimensions=64))
    first = vectors[:, :64]
    close(short, first / np.linalg.norm(first, axis=1, keepdims=True))
    with pytest.raises(openai.APIStatusError) as refused:
        client.embeddings.create(model="near", input=TEXTS, dimensions=385)
    assert refused.value.status_code in (400, 422)
    assert "384" in str(refused.value)


@pytest.mark.parametrize(
    ("changed", "kind"),
    [
        ({"model": "another"}, openai.NotFoundError),
        ({"input": []}, openai.APIStatusError),
        ({"input": [[99_999_999]]}, openai.APIStatusError),
        ({"input": [[-1]]}, openai.APIStatusError),
        ({"input": ["a", [1]]}, openai.APIStatusError),
        ({"dimensions": 0}, openai.APIStatusError),
        ({"encoding_format": "int3"}, openai.APIStatusError),
    ],
    ids=str,
)
def test_what_is_wrong_is_told_in_the_client_s_own_errors(
    client: Any, changed: dict[str, Any], kind: type[Exception]
) -> None:
    asked: dict[str, Any] = {"model": "near", "input": "a", **changed}
    with pytest.raises(kind) as refused:
        client.embeddings.create(**asked)
    error = refused.value
    assert isinstance(error, openai.APIStatusError)
    assert 400 <= error.status_code < 500
    assert isinstance(error.body, dict)
    assert {"message", "type", "code", "param"} <= error.body.keys()


def test_ids_of_another_vocabulary_are_answered_with_what_to_set(client: Any) -> None:
    with pytest.raises(openai.APIStatusError) as refused:
        client.embeddings.create(model="near", input=[[100_257]])
    assert "check_embedding_ctx_length=False" in refused.value.body["fix"]


def test_without_the_key_nobody_is_answered(server: Live) -> None:
    for key in ("another", KEY[:-1], KEY + "x"):
        stranger = openai.OpenAI(base_url=f"{server.address}/v1", api_key=key, max_retries=0)
        with pytest.raises(openai.AuthenticationError):
            stranger.embeddings.create(model="near", input="a")
    assert KEY not in server.log.read_text(encoding="utf-8")


def test_many_at_once_by_the_asynchronous_client(server: Live, vectors: np.ndarray) -> None:
    async def ask() -> list[np.ndarray]:
        async with openai.AsyncOpenAI(base_url=f"{server.address}/v1", api_key=KEY) as made:
            asked = [made.embeddings.create(model="near", input=text) for text in TEXTS * 8]
            return [of(response)[0] for response in await asyncio.gather(*asked)]

    close(np.array(asyncio.run(ask())), np.tile(vectors, (8, 1)))


class _Encoding:
    """The model's own tokenizer where tiktoken would download OpenAI's."""

    def __init__(self, predictor: Predictor) -> None:
        self._predictor = predictor

    def encode_ordinary(self, text: str) -> list[int]:
        return ids_of(self._predictor, [text])[0]


@pytest.mark.parametrize("settings", [{"check_embedding_ctx_length": False}, {}], ids=str)
def test_langchain_has_the_vectors_of_predict(
    server: Live,
    predictor: Predictor,
    vectors: np.ndarray,
    settings: dict[str, Any],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    langchain = pytest.importorskip("langchain_openai")
    import tiktoken

    monkeypatch.setattr(tiktoken, "get_encoding", lambda name: _Encoding(predictor))
    place = {"base_url": f"{server.address}/v1", "api_key": KEY}
    made = langchain.OpenAIEmbeddings(model="near", **place, **settings)
    close(made.embed_documents(TEXTS), vectors)
    close(made.embed_query(TEXTS[0]), vectors[0])
    close(asyncio.run(made.aembed_documents(TEXTS)), vectors)


@pytest.mark.skipif(shutil.which("curl") is None, reason="there is no curl here")
def test_curl_has_the_vectors_of_predict(server: Live, vectors: np.ndarray) -> None:
    body = json.dumps({"model": "near", "input": TEXTS})
    words = ["curl", "--silent", "--show-error", "--fail", f"{server.address}/v1/embeddings"]
    words += ["--header", f"Authorization: Bearer {KEY}"]
    words += ["--header", "Content-Type: application/json", "--data", body]
    done = subprocess.run(words, capture_output=True, check=True, timeout=60)
    told = json.loads(done.stdout)
    close([each["embedding"] for each in told["data"]], vectors)
    assert json.loads(done.stdout)["usage"]["prompt_tokens"] > 0
