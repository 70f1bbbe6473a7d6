"""What the server counts of itself, for Prometheus."""

from __future__ import annotations

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram
from prometheus_client.exposition import CONTENT_TYPE_LATEST, generate_latest

from bertolt.serve.queue import Ask, Pass, Queue

CONTENT_TYPE = CONTENT_TYPE_LATEST
STAGES = ("queue", "tokenize", "model", "all")
_SECONDS = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60)
_TOKENS = (16, 32, 64, 128, 256, 512, 1024, 2048, 4096, 8192, 16384, 32768)


class Metrics:
    """Counters of one server."""

    def __init__(self) -> None:
        self.registry = CollectorRegistry()
        to = self.registry
        self.requests = Counter(
            "bertolt_requests_total",
            "Requests by route, model and status.",
            ["route", "model", "status"],
            registry=to,
        )
        self.texts = Counter("bertolt_texts_total", "Texts answered.", ["model"], registry=to)
        self.tokens = Counter("bertolt_tokens_total", "Tokens answered.", ["model"], registry=to)
        self.cut = Counter("bertolt_tokens_cut_total", "Tokens cut.", ["model"], registry=to)
        self.seconds = Histogram(
            "bertolt_request_seconds",
            f"Seconds of a request by stage: {', '.join(STAGES)}.",
            ["stage"],
            buckets=_SECONDS,
            registry=to,
        )
        self.passes = Histogram(
            "bertolt_batch_tokens", "Tokens of a forward pass.", buckets=_TOKENS, registry=to
        )
        self.pass_seconds = Histogram(
            "bertolt_batch_seconds", "Seconds of a forward pass.", buckets=_SECONDS, registry=to
        )
        self.waiting = Gauge(
            "bertolt_waiting_texts", "Texts that wait or are being answered.", registry=to
        )
        self.ready = Gauge("bertolt_ready", "1 if a model answers, else 0.", ["model"], registry=to)
        # To look for a child by its labels takes longer than to count.
        self.stages = {name: self.seconds.labels(name) for name in STAGES}

    def watch(self, over: Pass) -> None:
        """Count a forward pass."""
        self.passes.observe(over.tokens)
        self.pass_seconds.observe(over.seconds)

    def count(self, ask: Ask, model: str, tokens: int, cut: int, texts: int) -> None:
        """Count a request that was answered."""
        self.texts.labels(model).inc(texts)
        self.tokens.labels(model).inc(tokens)
        self.cut.labels(model).inc(cut)
        self.stages["queue"].observe(max(0.0, ask.queue_seconds))
        self.stages["tokenize"].observe(ask.tokenize_seconds)
        self.stages["model"].observe(ask.model_seconds)

    def text(self, queue: Queue, ready: dict[str, bool]) -> bytes:
        """All of it, as Prometheus reads it."""
        self.waiting.set(queue.waiting)
        self.ready.clear()
        for name, well in ready.items():
            self.ready.labels(name).set(int(well))
        return generate_latest(self.registry)
