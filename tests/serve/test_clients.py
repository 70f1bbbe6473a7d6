"""The server by the clients that people have: OpenAI, LangChain and curl; and the guide."""

from __future__ import annotations

import asyncio
import base64
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
from bertolt.base.errors import UsageError
from bertolt.serve.app import Server
from bertolt.serve.embeddings import OtherVocabulary
from bertolt.serve.limits import Limits
from bertolt.serve.models import Models
from bertolt.serve.openapi import openapi
from tests.docs.pages import DOCS, blocks
from tests.serve.live import Live, answering, live

pytestmark = pytest.mark.slow

KEY = "a-key-that-nobody-guesses"
GUIDE = DOCS / "en/guides/serving.md"
TEXTS = ["How do I send the lamp back?", "We deliver within three days.", "😀 Größe"]


@pytest.fixture(scope="module")
def server(
    real_checkpoint: Path, tuned: Path, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Live]:
    folder = tmp_path_factory.mktemp("serve")
    keys = folder / "keys.txt"
    keys.write_text(KEY + "\n")
    models = f"similar-model={real_checkpoint}", f"my-model={tuned}"
    with live(folder / "log", *models, "--keys", keys) as running:
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
    """Ids as the model's own tokenizer gives them, with the special tokens."""
    return [predictor.tokenizer.encode(text) for text in texts]


def test_the_official_client_has_the_vectors_of_predict(
    client: Any, vectors: np.ndarray, predictor: Predictor
) -> None:
    response = client.embeddings.create(model="similar-model", input=TEXTS)  # base64, its default
    close(of(response), vectors)
    assert response.model == "similar-model"
    assert response.object == "list"
    assert {each.object for each in response.data} == {"embedding"}
    tokens = sum(each.tokens for each in predictor.predict(TEXTS))
    assert response.usage.prompt_tokens == response.usage.total_tokens == tokens
    floats = client.embeddings.create(model="similar-model", input=TEXTS, encoding_format="float")
    np.testing.assert_array_equal(of(floats), of(response))
    (one,) = of(client.embeddings.create(model="similar-model", input=TEXTS[0]))
    close(one, vectors[0])
    assert [each.id for each in client.models.list()] == ["my-model", "similar-model"]


def test_ids_of_tokens_are_read_as_their_texts_are(
    client: Any, predictor: Predictor, vectors: np.ndarray
) -> None:
    ids = ids_of(predictor, TEXTS)
    close(of(client.embeddings.create(model="similar-model", input=ids)), vectors)
    close(of(client.embeddings.create(model="similar-model", input=ids[1])), vectors[1:2])


def test_shorter_vectors_are_the_first_numbers_at_length_1(
    client: Any, vectors: np.ndarray
) -> None:
    short = of(client.embeddings.create(model="similar-model", input=TEXTS, dimensions=64))
    first = vectors[:, :64]
    close(short, first / np.linalg.norm(first, axis=1, keepdims=True))
    with pytest.raises(openai.APIStatusError) as refused:
        client.embeddings.create(model="similar-model", input=TEXTS, dimensions=385)
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
        ({"user": 1}, openai.APIStatusError),
        ({"input": [{"text": "a", "text_pair": "b"}]}, openai.APIStatusError),
        ({"encoding_format": "int3"}, openai.APIStatusError),
    ],
    ids=str,
)
def test_what_is_wrong_is_told_in_the_client_s_own_errors(
    client: Any, changed: dict[str, Any], kind: type[Exception]
) -> None:
    asked: dict[str, Any] = {"model": "similar-model", "input": "a", **changed}
    with pytest.raises(kind) as refused:
        client.embeddings.create(**asked)
    error = refused.value
    assert isinstance(error, openai.APIStatusError)
    assert 400 <= error.status_code < 500
    assert isinstance(error.body, dict)
    assert {"message", "type", "code", "param"} <= error.body.keys()


@pytest.mark.parametrize(
    "ids",
    [
        [100_257],
        [15339],  # "hello", "hello world" and "the lamp" in OpenAI's cl100k_base
        [15339, 1917],
        [1820, 29062],
        [101, 15339, 1917],
        [101, 4438, 656, 358, 3708, 433, 1203, 30, 102],  # "How do I send it back?", framed
        [101, 2129, 2079, 1045, 4604, 2009, 2067, 1029, 2],
        [101, 2129, 22571, 2102, 2361, 102],  # "how ph ##t ##p": its text has other ids
    ],
    ids=str,
)
def test_ids_of_another_vocabulary_are_answered_with_what_to_set(
    client: Any, ids: list[int]
) -> None:
    for asked in (ids, [[101, 2129, 102], ids]):
        with pytest.raises(openai.APIStatusError) as refused:
            client.embeddings.create(model="similar-model", input=asked)
        assert "check_embedding_ctx_length=False" in refused.value.body["fix"]
        assert refused.value.body["code"] == "other_vocabulary"


def test_the_description_has_lists_of_pairs_or_of_single_texts(predictor: Predictor) -> None:
    models = Models({"near": "any"}, lambda folder: predictor)
    described = openapi([models.load("near")], Limits(), keys=False)
    body = described["paths"]["/v1/sentence-similarity"]["post"]["requestBody"]
    schema = body["content"]["application/json"]["schema"]["properties"]["input"]
    singles, pairs = (each["items"] for each in schema["anyOf"] if each.get("type") == "array")
    assert singles["anyOf"][1]["properties"].keys() == {"text"}
    assert set(pairs["required"]) == {"text", "text_pair"}


def test_without_the_key_nobody_is_answered(server: Live) -> None:
    for key in ("another", KEY[:-1], KEY + "x"):
        stranger = openai.OpenAI(base_url=f"{server.address}/v1", api_key=key, max_retries=0)
        with pytest.raises(openai.AuthenticationError):
            stranger.embeddings.create(model="similar-model", input="a")
    assert KEY not in server.log.read_text(encoding="utf-8")


def test_many_at_once_by_the_asynchronous_client(server: Live, vectors: np.ndarray) -> None:
    async def ask() -> list[np.ndarray]:
        async with openai.AsyncOpenAI(base_url=f"{server.address}/v1", api_key=KEY) as made:
            asked = [
                made.embeddings.create(model="similar-model", input=text) for text in TEXTS * 8
            ]
            return [of(response)[0] for response in await asyncio.gather(*asked)]

    close(np.array(asyncio.run(ask())), np.tile(vectors, (8, 1)))


def test_langchain_has_the_vectors_of_predict(server: Live, vectors: np.ndarray) -> None:
    langchain = pytest.importorskip("langchain_openai")
    place = {"base_url": f"{server.address}/v1", "api_key": KEY}
    made = langchain.OpenAIEmbeddings(
        model="similar-model", check_embedding_ctx_length=False, **place
    )
    close(made.embed_documents(TEXTS), vectors)
    close(made.embed_query(TEXTS[0]), vectors[0])
    close(asyncio.run(made.aembed_documents(TEXTS)), vectors)


def test_langchain_s_own_ids_are_read_by_their_vocabulary(
    server: Live,
    predictor: Predictor,
    vectors: np.ndarray,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """LangChain as it is, with a small vocabulary where tiktoken would download OpenAI's."""
    langchain = pytest.importorskip("langchain_openai")
    import tiktoken

    pieces = [bytes([n]) for n in range(256)] + [b"th", b"How", b" do", b" I", b" s", b"We", b" w"]
    ranks = {piece: number for number, piece in enumerate(pieces)}
    encoding = tiktoken.Encoding(
        "small", pat_str=r"\w+|\W+", mergeable_ranks=ranks, special_tokens={}
    )
    monkeypatch.setattr(tiktoken, "get_encoding", lambda name: encoding)
    lines = [f"{base64.b64encode(piece).decode()} {number}\n" for piece, number in ranks.items()]
    (file := tmp_path / "small.tiktoken").write_text("".join(lines), encoding="ascii")
    made = langchain.OpenAIEmbeddings(
        model="similar-model", base_url=f"{server.address}/v1", api_key=KEY
    )
    with pytest.raises(openai.APIStatusError, match="--token-ids"):
        made.embed_query(TEXTS[0])
    models = Models({"similar-model": "any"}, lambda folder: predictor)
    models.load("similar-model")
    app = Server(models, vocabulary=OtherVocabulary.read(file)).app()
    with answering(app) as address:
        made = langchain.OpenAIEmbeddings(
            model="similar-model", base_url=f"{address}/v1", api_key=KEY
        )
        close(made.embed_documents(TEXTS), vectors)
        close(made.embed_query(TEXTS[0]), vectors[0])
        official = openai.OpenAI(base_url=f"{address}/v1", api_key=KEY, max_retries=0)
        with pytest.raises(openai.APIStatusError, match="no id 999"):
            official.embeddings.create(model="similar-model", input=[[72, 999]])
    with pytest.raises(UsageError, match="no vocabulary of tiktoken"):
        OtherVocabulary.read(GUIDE)


# ---- the guide


def as_here(text: str, server: Live) -> str:
    """A block of the guide for the server that runs here."""
    return text.replace("http://127.0.0.1:8000", server.address).replace("KEY", KEY)


@pytest.mark.skipif(shutil.which("curl") is None, reason="there is no curl here")
def test_curl_is_answered_as_the_guide_shows(
    server: Live, reviews: list[tuple[str, str]], tmp_path: Path
) -> None:
    rows = [("opinion",), *((text,) for text, _ in reviews[:3])]
    (tmp_path / "reviews.csv").write_text("".join(f'"{text}"\n' for (text,) in rows))
    said = []
    for block in blocks(GUIDE):
        if block.kind == "bash" and block.text.startswith("curl "):
            words = ["bash", "-c", as_here(block.text, server)]
            done = subprocess.run(
                words, cwd=tmp_path, capture_output=True, encoding="utf-8", check=True, timeout=60
            )
            said.append(done.stdout)
    told, of_file = said
    shown, error = (json.loads(block.text) for block in blocks(GUIDE) if block.kind == "text")
    answer = json.loads(told)
    assert answer.keys() == shown.keys()
    assert answer["time"].keys() == shown["time"].keys()
    assert [each.keys() for each in answer["answers"]] == [e.keys() for e in shown["answers"]]
    assert of_file == ""
    answers = (tmp_path / "answers.csv").read_text(encoding="utf-8").splitlines()
    assert len(answers) == len(rows)
    assert "label" in answers[0]
    assert json.loads(server.post("/v1/text-classification", {}, KEY)[1]) == error


@pytest.mark.parametrize("name", ["embed.py", "langchain_embed.py"])
def test_programs_of_the_guide_run(
    server: Live, name: str, capsys: pytest.CaptureFixture[str]
) -> None:
    pytest.importorskip("langchain_openai")
    (block,) = (block for block in blocks(GUIDE) if f'title="{name}"' in block.kind)
    exec(compile(as_here(block.text, server), name, "exec"), {})
    assert "384" in capsys.readouterr().out
