"""The routes: what is asked becomes examples of a task, waits in the queue, and is answered."""

from __future__ import annotations

import asyncio
import json
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator, Mapping, Sequence
from contextlib import asynccontextmanager, contextmanager, suppress
from functools import partial
from typing import Any

from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import Response
from starlette.types import Receive, Scope, Send

from bertolt.base.errors import BertoltError
from bertolt.base.threads import begun_in_a_thread
from bertolt.serve import embeddings
from bertolt.serve.arriving import GONE, read, until_gone
from bertolt.serve.asked import asked_in, examples_of, parse
from bertolt.serve.clients import Keys, Rate
from bertolt.serve.errors import RefusedError, as_json, in_request, status_of
from bertolt.serve.guard import Guard
from bertolt.serve.hosts import Hosts
from bertolt.serve.limits import Limits
from bertolt.serve.log import Log, log_nothing
from bertolt.serve.metrics import CONTENT_TYPE, Metrics
from bertolt.serve.models import Models, ServedModel, example_for
from bertolt.serve.openapi import Files, openapi
from bertolt.serve.page import page_routes
from bertolt.serve.queue import Ask, Queue, Result
from bertolt.serve.routes import Route
from bertolt.tasks.base import TASKS, Example
from bertolt.tasks.evaluation import token_budget
from bertolt.tasks.predictor import Prediction

_PROBE_SECONDS = 10.0
_SHOWN = 80  # characters of a path, in a message
_LAST_PASS = 0.5  # seconds for a pass that nobody waits for, so that no thread is cut in it
_WRITER = json.JSONEncoder(ensure_ascii=False, allow_nan=False, separators=(",", ":"))


class Json(Response):
    """Plain values; half a surrogate pair that a client sent goes back escaped."""

    media_type = "application/json"

    def render(self, content: Any) -> bytes:
        """As bytes."""
        return _WRITER.encode(content).encode("utf-8", "backslashreplace")


class _Answering:
    """A route without a second handler of errors: those around all routes are told in any case."""

    def __init__(self, answer: Callable[[Request], Awaitable[Response]]) -> None:
        self.answer = answer

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        response = await self.answer(Request(scope, receive, send))
        await response(scope, receive, send)


class Server:
    """The models, their queue, and who may ask.

    Args:
        models: that answer.
        limits: of requests.
        keys: of clients; None: anybody may ask.
        log: takes a line for each request.
        vocabulary: of the token ids that clients send instead of texts; None: the model's own.
        hosts: by which names it may be asked; None: by any.
    """

    def __init__(
        self,
        models: Models,
        limits: Limits | None = None,
        keys: Keys | None = None,
        log: Log = log_nothing,
        vocabulary: embeddings.OtherVocabulary | None = None,
        hosts: Hosts | None = None,
    ) -> None:
        self.models, self.limits, self.keys, self.log = models, limits or Limits(), keys, log
        models.log = log
        self.metrics, self.vocabulary, self.hosts = Metrics(), vocabulary, hosts
        self.rate = Rate(self.limits.rate) if self.limits.rate else None
        devices = [model.predictor.device for model in models.served]
        budget = max(map(token_budget, devices), default=4096)
        self.queue = Queue(self.limits, budget, self.metrics.watch)
        self.files: Files | None = None
        self.unanswered = 0
        self._routes: list[Route] = []
        self.open_connections: Callable[[], int] = lambda: 0  # till it is a process
        self._end: float | None = None

    def app(self, more: Sequence[Route] = ()) -> Starlette:
        """The application.

        Args:
            more: further routes.
        """
        routes = [
            Route("/v1/models", self.listed),
            # What is asked most is looked for first.
            Route("/v1/embeddings", _Answering(self.vectors), methods=["POST"]),
            Route("/v1/{task}", _Answering(self.answers), methods=["POST"]),
            Route("/health", self.health),
            Route("/ready", self.ready),
            Route("/metrics", self.counted),
            Route("/openapi.json", self.described),
            Route("/v1/models/{name}", self.one),
            Route("/v1/models/{name}/load", self.load, methods=["POST"]),
            Route("/v1/models/{name}/unload", self.unload, methods=["POST"]),
            *more,
        ]
        self._routes = routes
        handlers: dict[Any, Any] = {
            BertoltError: _refused,
            HTTPException: self._not_there,
        }
        every = [*routes, *page_routes()]
        app = Starlette(routes=every, exception_handlers=handlers, lifespan=self._lifespan)
        app.router.redirect_slashes = False  # a route that is none is told as one
        app.add_middleware(Guard, server=self)
        return app

    @asynccontextmanager
    async def _lifespan(self, app: Starlette) -> AsyncIterator[None]:
        yield
        self.leave()
        await asyncio.to_thread(self.queue.close, max(_LAST_PASS, self.seconds_left))

    # ---- its end

    @property
    def leaving(self) -> bool:
        """Whether it takes requests only until its port is closed."""
        return self._end is not None

    @property
    def seconds_left(self) -> float:
        """How long an answer may still take; all of `limits.seconds` unless it is leaving."""
        return self.deadline() - time.monotonic()

    @property
    def crowded(self) -> bool:
        """Whether more connections are open than it takes requests of."""
        return self.open_connections() > self.limits.connections

    def leave(self) -> None:
        """Be ready no more; all that is taken, before and from now on, is answered by one end."""
        if self._end is None:
            self._end = time.monotonic() + self.limits.seconds

    def deadline(self) -> float:
        """When an answer to a request that comes now is given up, by `time.monotonic`."""
        end = time.monotonic() + self.limits.seconds
        return end if self._end is None else min(end, self._end)

    # ---- what there is

    async def health(self, request: Request) -> Response:
        """Whether the process lives."""
        return Json({"status": "alive"})

    async def ready(self, request: Request) -> Response:
        """Whether every model answers; one whose last pass failed is probed."""
        for model in self.models.served:
            if model.error is not None:
                await self._probe(model)
        states = {model.name: model.error for model in self.models.served}
        well = bool(states) and not any(states.values()) and not self.leaving
        words = {name: "ready" if error is None else error for name, error in states.items()}
        status = "leaving" if self.leaving else "ready" if well else "not ready"
        return Json({"status": status, "models": words}, 200 if well else 503)

    async def _probe(self, model: ServedModel) -> None:
        ask = Ask(
            served=model,
            predictor=model.asked_in(bool(model.predictor.trained_on_pairs)),
            examples=[example_for(model.predictor)],
            deadline=time.monotonic() + _PROBE_SECONDS,
        )
        with suppress(Exception):
            self.queue.put(ask)
            (result,) = await asyncio.wait_for(asyncio.wrap_future(ask.done), _PROBE_SECONDS)
            if isinstance(result, Prediction):
                model.error = None

    async def counted(self, request: Request) -> Response:
        """What the server counts of itself."""
        ready = {model.name: model.error is None for model in self.models.served}
        return Response(self.metrics.text(self.queue, ready), media_type=CONTENT_TYPE)

    async def described(self, request: Request) -> Response:
        """The description of this API."""
        described = openapi(
            self.models.served,
            self.limits,
            keys=self.keys is not None,
            files=self.files,
            ids=None if self.vocabulary is None else self.vocabulary.size,
        )
        return Json(described)

    async def listed(self, request: Request) -> Response:
        """The models that answer."""
        return Json({"object": "list", "data": [each.to_dict() for each in self.models.served]})

    async def one(self, request: Request) -> Response:
        """One of them."""
        return Json(self.models.named(request.path_params["name"]).to_dict())

    async def load(self, request: Request) -> Response:
        """Load a model, or the new version that is in its folder."""
        name, changed = request.path_params["name"], request.query_params.get("changed", "no")
        if changed not in ("yes", "no"):
            raise RefusedError(400, "changed is yes or no", fix="add ?changed=yes", param="changed")
        try:
            load = partial(self.models.load, name, changed=changed == "yes")
            # No pool's: the end of the server would wait for it, beyond the time that all has.
            model = await asyncio.wrap_future(begun_in_a_thread(load))
        except RefusedError:
            raise
        except BertoltError as error:
            self.log("not loaded", model=name, error=str(error).split("\n")[0], fix=error.fix)
            raise RefusedError(409, error.problem, fix=error.fix, param="name") from error
        self.log("loaded", model=model.name, version=model.version)
        return Json(model.to_dict())

    async def unload(self, request: Request) -> Response:
        """Take no more requests for a model."""
        name = request.path_params["name"]
        version = await asyncio.to_thread(self.models.unload, name)
        self.log("unloaded", model=name, version=version)
        return Json({"id": name, "version": version, "unloaded": True})

    def take_over(self) -> None:
        """Read the keys again, and load the new version of each model that has one; till then the
        old one answers."""
        if self.keys is not None:
            try:
                self.keys.read_again()
            except BertoltError as error:
                self.log("keys not read", error=error.problem)
            else:
                self.log("keys read")
        for name in [model.name for model in self.models.served]:
            try:
                model = self.models.load(name, again=True)  # not what is unloaded meanwhile
            except Exception as error:  # noqa: BLE001 - the other models wait behind it
                fix = getattr(error, "fix", "")
                self.log("not loaded", model=name, error=str(error).split("\n")[0], fix=fix)
            else:
                self.log("loaded", model=name, version=model.version)

    # ---- answers

    async def answers(self, request: Request) -> Response:
        """Answer the texts of a request by their task."""
        if request.path_params["task"] == "models":  # which is no task, and is read alone
            raise HTTPException(405, headers={"Allow": "GET, HEAD"})
        self._require_task(request)
        asked = asked_in(parse(await self.body(request)))
        model = self.models.of_task(request.path_params["task"], asked.model)
        examples = examples_of(model.predictor, asked.input, self.limits)
        listed = isinstance(asked.input, list)
        results, ask = await self.ask(request, model, examples, listed=listed)
        if not listed and isinstance(results[0], BertoltError):
            raise results[0]
        task = model.predictor.task
        told = [
            {"error": as_json(each)}
            if isinstance(each, BertoltError)
            else {**task.public(each.answer), **_account(each)}
            for each in results
        ]
        tokens = self._count(model, ask, results)
        values = {"model": model.name, "version": model.version, "task": task.name}
        return Json({**values, "answers": told, "usage": {"tokens": tokens}, "time": _times(ask)})

    def _require_asked(self, request: Request) -> None:
        """Refuse what no method would be answered for: a task, vectors or a file without a model.

        Raises:
            RefusedError: there is no model for it, as when it is asked by POST.
        """
        if request.path_params.get("task", "models") != "models":
            self._require_task(request)
        elif "model" in request.path_params:
            self.models.named(request.path_params["model"])
        elif getattr(request.scope.get("route"), "path", "") == "/v1/embeddings":
            with _in_one_message():
                self._models_of_vectors()

    def _require_task(self, request: Request) -> None:
        """Refuse what is no task of a model here, before its body is looked at.

        Raises:
            RefusedError: there is no such route, or no model for it.
        """
        task = request.path_params["task"]
        if task in TASKS:
            self.models.doing(task)
        elif all(each.predictor.task.name != task for each in self.models.served):
            raise self._no_route(request)

    def _no_route(self, request: Request) -> RefusedError:
        """That there is no such route, and which there are."""
        tasks = sorted({each.predictor.task.name for each in self.models.served})
        known = []
        vectors = any(each.predictor.task.vectors for each in self.models.served)
        for route in self._routes:
            if route.path == "/v1/embeddings" and not vectors:
                continue
            method = "POST" if "POST" in (route.methods or ()) else "GET"
            paths = [route.path]
            if route.path.endswith("{task}"):
                paths = [route.path.replace("{task}", task) for task in tasks]
            known += [f"{method} {path}" for path in paths]
        asked = f"{request.method} {request.scope['path'][:_SHOWN]}"
        return RefusedError(
            404,
            f"there is no route {asked}",
            fix=f"the routes are {', '.join(known)}; GET /openapi.json describes them",
        )

    async def _not_there(self, request: Request, error: Exception) -> Response:
        """A route that there is not, or that is asked by another method."""
        assert isinstance(error, HTTPException)
        headers, refused = error.headers or {}, self._no_route(request)
        if error.status_code == 405:
            try:
                self._require_asked(request)
            except RefusedError as none:
                return Json({"error": as_json(none)}, none.status)
            allowed = headers.get("Allow", "")
            refused = RefusedError(
                405, f"this route does not take {request.method}", fix=f"ask it by {allowed}"
            )
        elif error.status_code != 404:
            refused = RefusedError(error.status_code, error.detail, fix=refused.fix)
        return Json({"error": as_json(refused)}, error.status_code, headers)

    async def vectors(self, request: Request) -> Response:
        """Vectors of texts, as OpenAI's API gives them."""
        with _in_one_message():
            self._models_of_vectors()  # before its body is looked at
            return await self._vectors(request)

    async def _vectors(self, request: Request) -> Response:
        values = parse(await self.body(request))
        asked = asked_in(values, embeddings.FIELDS)
        model = self._of_vectors(asked.model)
        form, ids = embeddings.form_of(values), embeddings.ids_of(asked.input)
        texts = asked.input
        if ids is not None and self.vocabulary is not None:
            texts, ids = await asyncio.to_thread(self.vocabulary.texts, ids), None
        if ids is not None:
            encoded = await asyncio.to_thread(
                embeddings.encoded_ids, model.predictor, ids, self.limits
            )
            results, ask = await self.ask(request, model, [{"text": ""}] * len(ids), encoded)
        else:
            examples = examples_of(model.predictor, texts, self.limits)
            embeddings.refuse_pairs(examples, model.predictor.task.name)
            listed = isinstance(texts, list)
            results, ask = await self.ask(request, model, examples, listed=listed)
        predictions = []
        for each in results:
            if isinstance(each, BertoltError):
                raise each
            predictions.append(each)
        normalized = bool(getattr(model.predictor.model.config, "normalize", True))
        vectors = embeddings.vectors_of(
            predictions, values.get("dimensions"), normalized=normalized
        )
        tokens = self._count(model, ask, results)
        data = [
            {"object": "embedding", "index": n, "embedding": embeddings.written(vector, form)}
            for n, vector in enumerate(vectors)
        ]
        usage = {"prompt_tokens": tokens, "total_tokens": tokens}
        cut = sum(each.tokens_cut for each in predictions)
        account = {"tokens_cut": cut, "truncated": sum(each.truncated for each in predictions)}
        return Json(
            {"object": "list", "data": data, "model": model.name, "usage": usage, **account}
        )

    def _models_of_vectors(self) -> list[ServedModel]:
        models = [each for each in self.models.served if each.predictor.task.vectors]
        if not models:
            there_is = self.models.what_there_is()
            raise RefusedError(
                404, "no model gives vectors", fix=f"{there_is}; one of sentence-similarity would"
            )
        return models

    def _of_vectors(self, name: str | None) -> ServedModel:
        return self.models.of_task(self._models_of_vectors()[0].predictor.task.name, name)

    async def ask(
        self,
        request: Request,
        model: ServedModel,
        examples: Sequence[Example | BertoltError],
        encoded: Sequence[Any] | None = None,
        *,
        listed: bool = True,
    ) -> tuple[list[Result], Ask]:
        """The answers to examples, in their order; errors stay where they are, and name the part
        of the request.

        Raises:
            RefusedError: there is no room, the time is over, or the client is gone.
        """
        request.scope["model"] = model.name
        good = [each for each in examples if not isinstance(each, BertoltError)]
        pairs = {each.get("text_pair") is not None for each in good}
        if len(pairs) > 1:
            raise RefusedError(
                422,
                "some of the examples have a second text and others do not",
                fix="send pairs and single texts in two requests",
                param="input",
            )
        ask = Ask(model, model.asked_in(pairs == {True}), good, self.deadline(), encoded)
        answered: list[Result] = []
        if good:
            self.queue.put(ask)
            answered = await self._wait(request, ask)
        rest, results = iter(answered), list[Result]()
        for number, each in enumerate(examples):
            result = each if isinstance(each, BertoltError) else next(rest)
            if isinstance(result, BertoltError):
                result = in_request(result, f"input[{number}]" if listed else "input")
            results.append(result)
        return results, ask

    async def _wait(self, request: Request, ask: Ask) -> list[Result]:
        """The results; whoever leaves frees what has not begun."""
        loop = asyncio.get_running_loop()
        over = loop.create_future()

        def end(_: object = None) -> None:
            if not over.done():
                over.set_result(None)

        def told(_: object) -> None:  # in the thread that answers
            with suppress(RuntimeError):  # the loop is closed, and nobody waits
                loop.call_soon_threadsafe(end)

        gone = loop.create_task(until_gone(request))
        gone.add_done_callback(end)
        late = loop.call_later(max(0.0, ask.deadline - time.monotonic()), end)
        ask.done.add_done_callback(told)
        try:
            await over
            if ask.done.done():
                return ask.done.result()
            if gone.done():
                raise RefusedError(GONE, "the client is gone")
            raise RefusedError(504, "the time for an answer is over", fix="ask for less, or later")
        except (BertoltError, asyncio.CancelledError):
            raise
        except Exception as error:
            raise RefusedError(
                500, "the forward pass failed", fix="ask again; the log has the error"
            ) from error
        finally:
            ask.cancel()
            gone.cancel()
            late.cancel()

    async def body(self, request: Request) -> bytes:
        """The body of a request, within its limits.

        Raises:
            RefusedError: it is too large, too slow, or no JSON by its header.
        """
        kind = request.headers.get("content-type", "application/json").split(";")[0].strip()
        if kind.lower() != "application/json":
            raise RefusedError(
                415, "the body is not of JSON", fix="send Content-Type: application/json"
            )
        parts: list[bytes] = []
        await read(request, self.limits.body_bytes, self.limits, parts.append)
        return b"".join(parts)

    def _count(self, model: ServedModel, ask: Ask, results: Sequence[Result]) -> int:
        """Count what was answered; the tokens of it."""
        answered = [each for each in results if isinstance(each, Prediction)]
        tokens = sum(each.tokens - each.tokens_cut for each in answered)
        cut = sum(each.tokens_cut for each in answered)
        self.metrics.count(ask, model.name, tokens, cut, len(answered))
        return tokens


@contextmanager
def _in_one_message() -> Iterator[None]:
    """Have an error say its fix in its message too: OpenAI's clients show that alone."""
    try:
        yield
    except BertoltError as error:
        if error.fix:
            error.problem = f"{error.problem}; {error.fix}"
        raise


def _account(prediction: Prediction) -> dict[str, Any]:
    """What of a text was read, or of several that are compared: one window where each is short."""
    return {
        "tokens": prediction.tokens,
        "tokens_cut": prediction.tokens_cut,
        "truncated": prediction.truncated,
        "windows": prediction.windows if prediction.parted else 1,
    }


def _times(ask: Ask) -> dict[str, float]:
    """Where the time went, in milliseconds."""
    stages: Mapping[str, float] = {
        "queue_ms": ask.queue_seconds,
        "tokenize_ms": ask.tokenize_seconds,
        "model_ms": ask.model_seconds,
    }
    return {name: round(1000 * max(0.0, seconds), 3) for name, seconds in stages.items()}


async def _refused(request: Request, error: Exception) -> Response:
    assert isinstance(error, BertoltError)
    headers = error.headers if isinstance(error, RefusedError) else {}
    return Json({"error": as_json(error)}, status_of(error), headers)
