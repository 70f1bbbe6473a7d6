"""A finished run as the facts that its report is drawn from."""

from __future__ import annotations

from typing import Any

from bertolt.base.format import is_number, number, percent, plural
from bertolt.base.paths import real
from bertolt.pretrain.log import NEAR, Plateau
from bertolt.pretrain.measure import masked_loss
from bertolt.pretrain.setup import Run
from bertolt.report import plain
from bertolt.train.loop import History
from bertolt.train.record import (
    curve_facts,
    evaluation_facts,
    machine_facts,
    model_facts,
    run_head,
)

MOST_SOURCES = 50
"""Sources that the table of the page shows; the facts have all of them."""
_CALM = "the loss fell below the entropy of single tokens, and the run met no trouble"


def pretrain_facts(
    run: Run,
    history: History,
    plateau: Plateau,
    metrics: dict[str, Any],
    *,
    started: float,
    command: str,
    arguments: dict[str, Any],
) -> dict[str, Any]:
    """Gather what `run.json` holds.

    Args:
        run: that has ended.
        history: of its steps.
        plateau: who has watched the loss.
        metrics: the content of `metrics.json`.
        started: when, as `time.monotonic` gives it.
        command: a command line that repeats the run.
        arguments: resolved.
    """
    title = f"{real(run.shards).name}: {run.objective}"
    facts = run_head("pretrain", title, started=started, command=command, arguments=arguments)
    facts |= {
        "task": None,
        "stopped_early": "",
        "machine": machine_facts(run.model, run.precision),
        "model": model_facts(run.model, run.source),
        "data": _corpus(run),
        "training": _training(run, history, metrics["train"]),
    }
    values: dict[str, Any] = plain(facts | explain(facts, stuck(run, history, plateau)))
    return values


def stuck(run: Run, history: History, plateau: Plateau) -> str:
    """A message for a run whose last held-out loss is near the entropy of single tokens, or ""."""
    if not history.evaluations:
        return ""
    loss = masked_loss(history.evaluations[-1][1])
    return plateau.describe(loss) if loss >= NEAR * run.entropy else ""


def _corpus(run: Run) -> dict[str, Any]:
    """The text of the run: tokens of a sequence and of each evaluation include special ones."""
    manifest, held_out = run.corpus.manifest, run.held_out
    return {
        "folder": str(run.shards),
        "fingerprint": manifest.fingerprint,
        "objective": run.objective,
        "max_length": run.max_length,
        "documents": manifest.train.documents,
        "sentences": manifest.train.sentences,
        "tokens": manifest.train.tokens,
        "held_out_documents": manifest.held_out.documents,
        "held_out_tokens": manifest.held_out.tokens,
        "measured_tokens": held_out.tokens if held_out else 0,
        "sources": [
            {name: getattr(each, name) for name in ("name", "documents", "sentences", "tokens")}
            for each in manifest.sources
        ],
        "warnings": manifest.warnings,
        "token_entropy": run.entropy,
        "pairs_baseline": held_out.pairs_baseline if held_out else None,
        "left_out": run.data.left_out,
    }


def _training(run: Run, history: History, rates: dict[str, Any]) -> dict[str, Any]:
    names = ("epochs", "samples_per_second", "tokens_per_second", "tokens", "flops_per_second")
    return {
        "curve": curve_facts(history.steps, lambda log: run.work.rate(log) / run.work.peak),
        "eval_points": evaluation_facts(history.evaluations),
        "unit": "tokens",
        "steps": len(history.steps),
        **{name: rates[name] for name in (*names, "peak_share")},
        "padding_share": rates["filler_share"],
    }


def explain(facts: dict[str, Any], stuck: str = "") -> dict[str, Any]:
    """The parts of the facts that are particular to pretraining.

    Args:
        facts: those that every run has.
        stuck: a message where the loss is near the entropy of single tokens, or an empty string.
    """
    corpus, training = facts["data"], facts["training"]
    cautions = [("The loss is near the entropy of single tokens", stuck)] if stuck else []
    cautions += [("The corpus was prepared with a warning", each) for each in corpus["warnings"]]
    if not corpus["held_out_tokens"]:
        cautions.append(("Nothing was measured", "The corpus holds no text out."))
    return {
        "headline": _headline(training["eval_points"], corpus["token_entropy"]),
        "tiles": _tiles(training, facts["machine"]["precision"]),
        "curves": _curves(training["eval_points"], corpus),
        "blocks": [_block(corpus)],
        "data_blocks": [],
        "cautions": [{"claim": claim, "detail": detail} for claim, detail in cautions],
        "calm": [_CALM],
    }


def _headline(points: list[dict[str, Any]], entropy: float) -> dict[str, Any]:
    last = points[-1]["metrics"] if points else {}
    loss = last.get("masked_loss", last.get("loss"))
    sentence = "no text was held out"
    if is_number(loss):
        sentence = f"{percent(last['masked_accuracy'])} of the masked tokens guessed right"
        if "next_sentence_accuracy" in last:
            sentence += f", and {percent(last['next_sentence_accuracy'])} of the pairs"
        sentence += f". Knowing how frequent tokens are, and no more, gives {number(entropy)}."
    return {
        "name": "Held-out loss",
        "value": loss,
        "low": None,
        "high": None,
        "format": "number",
        "scale": None,
        "greater_is_better": False,
        "sentence": sentence,
        "baseline": {"name": "single tokens", "value": entropy},
    }


def _tiles(training: dict[str, Any], precision: str) -> list[dict[str, Any]]:
    epochs, rate = training["epochs"], training["flops_per_second"]
    passed = f"{number(epochs)} {'epoch' if epochs == 1 else 'epochs'}"
    speed = f"{number(rate / 1e9)} GFLOP/s" if is_number(rate) else ""
    products = f"of its matrix products, in {precision}"
    steps = plural(training["steps"], "step")
    tiles = [
        ("Tokens trained on", "tokens", "millions", f"{passed}, {steps}"),
        ("Tokens a second", "tokens_per_second", "number", speed),
        ("Of the machine", "peak_share", "whole percent", products),
        ("Filler", "padding_share", "percent", "of the tokens computed"),
    ]
    return [
        {"label": label, "value": training[name], "format": format, "note": note}
        for label, name, format, note in tiles
    ]


def _curves(points: list[dict[str, Any]], corpus: dict[str, Any]) -> list[dict[str, Any]]:
    """The loss and the shares; with pairs the loss of masked tokens has a drawing of its own."""
    pairs = any("next_sentence_accuracy" in point["metrics"] for point in points)
    single = {"name": "single tokens", "value": corpus["token_entropy"]}
    accuracy = {
        "metric": "masked_accuracy",
        "label": "Accuracy",
        "title": "Accuracy on masked tokens, held out",
        "format": "percent",
    }
    if not pairs:
        return [{"metric": "loss", "label": "Loss", "title": "Loss", "baseline": single}, accuracy]
    masked = {"metric": "masked_loss", "label": "Masked", "format": "number", "baseline": single}
    answer = {"name": "the more frequent answer", "value": corpus["pairs_baseline"]}
    return [
        masked | {"title": "Loss of masked tokens, held out"},
        accuracy,
        {
            "metric": "next_sentence_accuracy",
            "label": "Pairs",
            "title": "Accuracy on pairs, held out",
            "format": "percent",
            "baseline": answer,
        },
    ]


def _block(corpus: dict[str, Any]) -> dict[str, Any]:
    return {
        "kind": "row",
        "id": "corpus",
        "title": "Corpus",
        "blocks": [{"kind": "facts", "items": _corpus_facts(corpus)}, _sources(corpus["sources"])],
    }


def _corpus_facts(corpus: dict[str, Any]) -> list[dict[str, Any]]:
    """The rows about the corpus on the page: name, value and note."""
    limit, measured = (plural(corpus[name], "token") for name in ("max_length", "measured_tokens"))
    documents, held_out = (
        plural(corpus[name], "document") for name in ("documents", "held_out_documents")
    )
    sentences = plural(corpus["sentences"], "sentence")
    items = {
        "Folder": (corpus["folder"], corpus["fingerprint"][:12]),
        "Objective": (corpus["objective"], f"sequences of up to {limit}"),
        "Trained on": (plural(corpus["tokens"], "token"), f"{documents} · {sentences}"),
        "Held out": (
            plural(corpus["held_out_tokens"], "token"),
            f"{held_out} · {measured} measured each time, with fixed masks",
        ),
        "Single tokens": (
            f"entropy {number(corpus['token_entropy'])}",
            "the loss of a model that knows how frequent tokens are, and no more",
        ),
    }
    if corpus["left_out"]:
        left = plural(corpus["left_out"], "pair")
        items["Left out"] = (left, "for which the last epoch had no room")
    return [{"name": name, "value": value, "note": note} for name, (value, note) in items.items()]


def _sources(sources: list[dict[str, Any]]) -> dict[str, Any]:
    return {
        "kind": "table",
        "caption": "Sources",
        "columns": [
            {"name": "Source", "kind": "text"},
            {"name": "Tokens", "kind": "bar"},
            {"name": "Documents", "kind": "count"},
        ],
        "rows": [[each["name"], each["tokens"], each["documents"]] for each in sources],
        "noun": "source",
        "most": MOST_SOURCES,
    }
