"""The programs, and what has to be known of each to compare two runs of it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

PROGRAMS = Path(__file__).parent / "programs"


@dataclass(frozen=True, kw_only=True)
class Case:
    """A program of `programs/`.

    Attributes:
        tolerance: by which printed fractions may differ, of their size where that is over 1; whole
            numbers and words have to be the same.
        why: the reason of a tolerance above the usual one.
        words: its command line.
        today: what today's `transformers` no longer has, and what stands there for its run, as far
            as the program has it.
        peers: names that it imports from the peer all the same.
    """

    tolerance: float = 2e-4
    why: str = ""
    words: tuple[str, ...] = ()
    today: Mapping[str, str] = field(default_factory=dict)
    peers: tuple[str, ...] = ()


_GLUE = (
    "--model_name_or_path tiny-bert-reviews --train_file reviews.csv --output_dir glue --do_train "
    "--do_eval --do_predict --max_seq_length 48 --per_device_train_batch_size 16 "
    "--learning_rate 1e-3 --num_train_epochs 3 --report_to none"
)
_OLDER_CALLS = {
    ".encode_plus(": "(",
    ".batch_encode_plus(": "(",
    "pad_to_max_length=True": 'padding="max_length"',
}

CASES = {
    "added_tokens": Case(),
    "adversarial_embeddings": Case(),
    "best_weights_kept": Case(today=_OLDER_CALLS),
    "callbacks_early_stopping": Case(),
    "checkpoint_resume": Case(),
    "competition_pooling": Case(today=_OLDER_CALLS),
    "config_and_saving": Case(),
    "contrastive_pairs": Case(),
    "cross_validation": Case(),
    "custom_module": Case(),
    "custom_module_trainer": Case(),
    "distillation": Case(),
    "features_logistic_regression": Case(),
    "frozen_layers_rates": Case(),
    "generate_text": Case(),
    "glue_arguments": Case(words=tuple(_GLUE.split()), peers=("HfArgumentParser",)),
    "hidden_state_probes": Case(),
    "label_smoothing": Case(),
    "long_texts_windows": Case(),
    "loop_accelerate": Case(),
    "loop_accumulation_bf16": Case(
        tolerance=2e-2,  # processors without bfloat16 of their own round at other places again
        why="products in bfloat16 are rounded to 8 bits, in another order",
    ),
    "loop_by_hand": Case(),
    "masked_lm_perplexity": Case(),
    "masked_words_metrics": Case(),
    "model_init_search": Case(),
    "multi_label_bce": Case(),
    "multiple_choice": Case(),
    "new_vocabulary": Case(),
    "next_sentence": Case(),
    "own_dataloader": Case(),
    "pipeline_classification": Case(),
    "pipeline_features": Case(),
    "pipeline_fill_mask": Case(),
    "pipeline_tags": Case(),
    "pretrained_subclass": Case(),
    "pretraining_two_losses": Case(),
    "quantized_linear": Case(),
    "questions_one_text": Case(),
    "questions_squad": Case(
        tolerance=0.25,
        why="a span's loss is over the tokens of its window here, and over the padding too there",
    ),
    "regression_pearson": Case(),
    "roberta_pairs": Case(),
    "sentence_embeddings": Case(),
    "several_eval_sets": Case(),
    "streamed_rows": Case(),
    "style_2019": Case(today=_OLDER_CALLS),
    "tags_seqeval": Case(),
    "trainer_datasets_map": Case(),
    "trainer_predict": Case(),
    "trainer_torch_dataset": Case(),
    "trainer_weighted_loss": Case(),
    "whole_word_mask": Case(),
}
