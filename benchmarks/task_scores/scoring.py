"""Answers and truth to figures, by seqeval, SciPy and scikit-learn: the same for both sides."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence

import numpy as np

Scores = dict[str, float]
OUTSIDE = "O"


def score_tags(truth: Sequence[Sequence[str]], answers: Sequence[Sequence[str]]) -> Scores:
    """Precision, recall and F1 of whole entities, over all and of each kind."""
    from seqeval.metrics import classification_report

    report = classification_report(
        [list(tags) for tags in truth],
        [list(tags) for tags in answers],
        output_dict=True,
        zero_division=0,
    )
    names = {"precision": "precision", "recall": "recall", "f1": "f1-score"}
    scores = {name: float(report["micro avg"][key]) for name, key in names.items()}
    kinds = [kind for kind in report if not kind.endswith(" avg")]
    for kind in sorted(kinds):
        scores |= {f"{name}({kind})": float(report[kind][key]) for name, key in names.items()}
    return scores


def score_numbers(truth: Sequence[float], answers: Sequence[float]) -> Scores:
    """Errors in the unit of the numbers, and both correlations."""
    from scipy.stats import pearsonr, spearmanr
    from sklearn.metrics import mean_absolute_error, r2_score, root_mean_squared_error

    return {
        "rmse": float(root_mean_squared_error(truth, answers)),
        "mae": float(mean_absolute_error(truth, answers)),
        "r2": float(r2_score(truth, answers)),
        "pearson": float(pearsonr(truth, answers).statistic),
        "spearman": float(spearmanr(truth, answers).statistic),
    }


def score_choices(truth: Sequence[int], answers: Sequence[int]) -> Scores:
    """The share of rows whose choice is the right one."""
    from sklearn.metrics import accuracy_score

    return {"accuracy": float(accuracy_score(truth, answers))}


def score_classes(truth: Sequence[str], answers: Sequence[str]) -> Scores:
    """The share of rows with the right label, and the mean F1 of the labels."""
    from sklearn.metrics import accuracy_score, f1_score

    return {
        "accuracy": float(accuracy_score(truth, answers)),
        "f1_macro": float(f1_score(truth, answers, average="macro", zero_division=0)),
    }


def score_words(truth: Sequence[Sequence[str]], answers: Sequence[Sequence[str]]) -> Scores:
    """The same of all words, each with one tag."""
    return score_classes([tag for row in truth for tag in row], [t for row in answers for t in row])


def score_answers(truth: Sequence[Sequence[str]], answers: Sequence[str]) -> Scores:
    """Exact match and F1 of the characters that both share, as SQuAD counts them for words; of all
    questions, and of those with and without an answer.

    Args:
        truth: the right answers of each question; nothing where there is none.
        answers: one of each, empty where none is given.
    """
    exact, shared = np.zeros(len(answers)), np.zeros(len(answers))
    for row, (golds, answer) in enumerate(zip(truth, answers, strict=True)):
        pairs = [(_characters(gold), _characters(answer)) for gold in golds or [""]]
        exact[row] = max(gold == said for gold, said in pairs)
        shared[row] = max(_overlap(gold, said) for gold, said in pairs)
    there = np.array([bool(golds) for golds in truth])
    return {
        "f1_answers": float(shared.mean()),
        "exact_match": float(exact.mean()),
        "f1 of answers": float(shared[there].mean()),
        "exact of answers": float(exact[there].mean()),
        "none told": float(exact[~there].mean()),
    }


def _characters(text: str) -> list[str]:
    """Those that are letters or digits, without case."""
    return [each for each in text.casefold() if each.isalnum()]


def _overlap(gold: Sequence[str], said: Sequence[str]) -> float:
    """F1 of two bags of characters; of nothing and nothing it is 1."""
    if not gold or not said:
        return float(not gold and not said)
    common = sum((Counter(gold) & Counter(said)).values())
    return 2 * common / (len(gold) + len(said))


def score_labels(
    truth: Sequence[Sequence[str]], answers: Sequence[Sequence[str]], names: Sequence[str]
) -> Scores:
    """F1 in three ways, and the share of rows whose labels are all right.

    A row without labels counts 1 in the F1 of rows where no label is given to it.
    """
    from sklearn.metrics import accuracy_score, f1_score

    true, given = _flags(truth, names), _flags(answers, names)
    scores = {
        "f1_micro": float(f1_score(true, given, average="micro", zero_division=0)),
        "f1_macro": float(f1_score(true, given, average="macro", zero_division=0)),
        "f1_samples": float(f1_score(true, given, average="samples", zero_division=1)),
        "subset_accuracy": float(accuracy_score(true, given)),
    }
    each = f1_score(true, given, average=None, zero_division=0)
    return scores | {f"f1({name})": float(f1) for name, f1 in zip(names, each, strict=True)}


def _flags(rows: Sequence[Sequence[str]], names: Sequence[str]) -> np.ndarray:
    return np.array([[name in labels for name in names] for labels in rows], dtype=np.int64)


def above(probabilities: Sequence[Mapping[str, float]], threshold: float = 0.5) -> list[list[str]]:
    """The labels of each row whose probability is the threshold or more."""
    return [[name for name, p in row.items() if p >= threshold] for row in probabilities]


def first_pieces(word_ids: Sequence[int | None]) -> list[tuple[int, int]]:
    """Of each word that has a piece, the place of its first piece and its number.

    Args:
        word_ids: the number of the word of each piece; None for special tokens.
    """
    firsts: dict[int, int] = {}
    for place, word in enumerate(word_ids):
        if word is not None:
            firsts.setdefault(word, place)
    return [(place, word) for word, place in firsts.items()]


def tags_of_words(
    labels: Sequence[str], word_ids: Sequence[int | None], words: int
) -> tuple[list[str], int]:
    """The tag of each word by its first piece, and how many words had no piece: they are O.

    Args:
        labels: of each piece.
        word_ids: see `first_pieces`.
        words: that there are, those beyond the limit too.
    """
    tags = [OUTSIDE] * words
    pieces = first_pieces(word_ids)
    for place, word in pieces:
        tags[word] = labels[place]
    return tags, words - len(pieces)
