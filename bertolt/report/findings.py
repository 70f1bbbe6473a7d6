"""What the report says before it draws: the verdict, and what the reader should be wary of."""

from __future__ import annotations

from dataclasses import dataclass

from bertolt.base.format import interval, is_number, number, percent, plural, shorten
from bertolt.report.record import (
    CorpusAccount,
    DataAccount,
    Evaluation,
    ModelSummary,
    PretrainRecord,
    RunRecord,
    TrainingLog,
)

EXPECTED_STATUSES = ("loaded", "tied", "ignored", "initialised")


@dataclass(frozen=True)
class Caution:
    """One thing to be wary of: a short claim, and the numbers behind it."""

    claim: str
    detail: str


@dataclass(frozen=True)
class Verdict:
    """The headline: the accuracy and its interval, where measured, and the rest of the sentence."""

    accuracy: str
    interval: str
    sentence: str


def verdict(record: RunRecord) -> Verdict:
    """The number that matters and what to hold it against."""
    scores = record.evaluation
    if scores is None or not is_number(scores.accuracy.value):
        steps = plural(record.training.steps, "step")
        return Verdict("", "", f"Trained for {steps}; the accuracy was not measured.")
    ends = interval(scores.accuracy.low, scores.accuracy.high)
    sentence = f"on {plural(scores.rows, 'held-out row')}"
    if is_number(scores.baseline.value):
        guess = percent(scores.baseline.value)
        sentence += f"; guessing the majority label would give {guess}"
    return Verdict(percent(scores.accuracy.value), f"({ends})" if ends else "", f"{sentence}.")


def pretraining_verdict(record: PretrainRecord) -> tuple[str, str]:
    """The held-out loss and the rest of the sentence; no loss where nothing was measured."""
    points = record.training.eval_points
    if not points or not is_number(points[-1].loss):
        return "", f"Trained for {plural(record.training.steps, 'step')}; no text was held out."
    last, entropy = points[-1], record.corpus.token_entropy
    masked = last.loss if last.masked_loss is None else last.masked_loss
    words = f"{percent(last.accuracy)} of the masked tokens guessed right"
    if last.next_sentence_accuracy is not None:
        words += f", and {percent(last.next_sentence_accuracy)} of the pairs"
    words += f". Knowing how frequent tokens are, and no more, gives {number(entropy)}."
    return number(masked), words


def pretraining_cautions(record: PretrainRecord) -> list[Caution]:
    """Everything to be wary of in a pretraining run, gravest first."""
    found = [Caution("The run stopped early", record.stopped_early)] if record.stopped_early else []
    if record.stuck:
        found.append(Caution("The loss is that of single tokens", record.stuck))
    found += _about_training(record.training) + _about_corpus(record.corpus)
    return found + _about_loading(record.model)


def _about_corpus(corpus: CorpusAccount) -> list[Caution]:
    found = [Caution("The corpus was prepared with a warning", each) for each in corpus.warnings]
    if not corpus.held_out_tokens:
        found.append(Caution("Nothing was measured", "The corpus holds no text out."))
    return found


def loaded_counts(model: ModelSummary) -> list[tuple[str, int]]:
    """How many tensors have each status, in the order of the load report."""
    totals: dict[str, int] = {}
    for row in model.load_report:
        totals[row.status] = totals.get(row.status, 0) + row.count
    return list(totals.items())


def cautions(record: RunRecord) -> list[Caution]:
    """Everything that the reader should know before trusting the verdict, gravest first."""
    found = [Caution("The run stopped early", record.stopped_early)] if record.stopped_early else []
    if record.evaluation is not None:
        found += _about_scores(record.evaluation)
    found += _about_training(record.training)
    return found + _about_data(record.data) + _about_loading(record.model)


def _about_scores(scores: Evaluation) -> list[Caution]:
    found = []
    accuracy, ceiling = scores.accuracy.value, scores.baseline.high
    if not is_number(ceiling):
        ceiling = scores.baseline.value
    if is_number(accuracy) and is_number(ceiling) and accuracy <= ceiling:
        guess = f"Always guessing “{shorten(scores.baseline_label, 60)}” gives"
        reach = interval(scores.baseline.low, scores.baseline.high)
        detail = f"{guess} {percent(scores.baseline.value)}{f' ({reach})' if reach else ''}."
        found.append(Caution("No better than guessing the majority label", detail))
    silent = [c.name for c in scores.classes if c.support and not c.predicted]
    if silent:
        claim = f"{plural(len(silent), 'label')} never predicted"
        found.append(Caution(claim, f"In the held-out rows but never given: {_listed(silent)}."))
    unseen = [c.name for c in scores.classes if not c.support]
    if unseen:
        claim = f"{plural(len(unseen), 'label')} not measured"
        found.append(Caution(claim, f"No held-out row carries {_listed(unseen)}."))
    return found


def _about_training(log: TrainingLog) -> list[Caution]:
    found = []
    broken = [p.step for p in log.curve if p.loss is not None and not is_number(p.loss)]
    if broken:
        detail = f"First at step {broken[0]:,}. The curve leaves them out."
        found.append(Caution(f"The loss was not finite at {plural(len(broken), 'step')}", detail))
    losses = [(p.loss, p.step) for p in log.eval_points if is_number(p.loss)]
    if len(losses) > 1 and losses[-1][0] > 1.1 * min(losses)[0]:
        best, step = min(losses)
        detail = f"{number(best)} at step {step:,}, {number(losses[-1][0])} at the end."
        found.append(Caution("The evaluation loss rose after its best", detail))
    return found


def _about_data(data: DataAccount) -> list[Caution]:
    found = []
    if data.repeated:
        rows = sum(label.eval for label in data.labels)
        detail = (
            f"{data.repeated:,} of {rows:,} stand word for word among the training texts, which "
            "flatters every number here."
        )
        claim = f"{plural(data.repeated, 'evaluation text')} seen in training"
        found.append(Caution(claim, detail))
    lengths = data.lengths
    if lengths is not None and lengths.texts_cut:
        share = percent(lengths.texts_cut / max(lengths.texts, 1))
        detail = (
            f"{share} of the texts are longer than {lengths.max_length:,} tokens; "
            f"{plural(lengths.tokens_cut, 'token')} of {lengths.tokens:,} were never seen."
        )
        found.append(Caution(f"{plural(lengths.texts_cut, 'text')} cut", detail))
    dropped = sum(d.count for d in data.dropped)
    if dropped:
        reasons = ", ".join(f"{d.reason} {d.count:,}" for d in data.dropped if d.count)
        detail = f"Of {plural(data.rows_read, 'row')} read: {reasons}."
        found.append(Caution(f"{plural(dropped, 'row')} dropped", detail))
    return found


def _about_loading(model: ModelSummary) -> list[Caution]:
    odd = [row for row in model.load_report if row.status not in EXPECTED_STATUSES]
    if not odd:
        return []
    claim = f"{plural(sum(row.count for row in odd), 'tensor')} did not load as expected"
    return [Caution(claim, f"{_listed([f'{row.name} ({row.status})' for row in odd])}.")]


def _listed(names: list[str], most: int = 8) -> str:
    shown = ", ".join(shorten(name, 60) for name in names[:most])
    return shown if len(names) <= most else f"{shown} and {len(names) - most} more"
