"""Names of the peer that Bertolt does not have, and what to write instead."""

from __future__ import annotations

REPLACED_NAMES = {
    name: instead
    for names, instead in (
        (
            "BertTokenizerLegacy PreTrainedTokenizer",
            "use BertTokenizer or AutoTokenizer: there is one tokenizer, and it is the fast one",
        ),
        ("PretrainedConfig PreTrainedConfig", "use BertConfig, or that of the family"),
        ("GenerationConfig", "give its values to model.generate as arguments"),
        (
            "LogitsProcessor LogitsProcessorList StoppingCriteria StoppingCriteriaList",
            "write functions: generate takes lists of them",
        ),
        ("TextStreamer TextIteratorStreamer", "give stopping_criteria a function that prints"),
        (
            "ZeroShotClassificationPipeline TextGenerationPipeline",
            "keep it with the peer: pipelines here are for encoders with a head",
        ),
        ("NerPipeline", "use TokenClassificationPipeline"),
        (
            "ProgressCallback PrinterCallback DefaultFlowCallback",
            "leave it out: the Trainer shows its progress, and disable_tqdm=True silences it",
        ),
        ("enable_full_determinism", "use set_seed(seed, deterministic=True)"),
        ("DataCollatorForSeq2Seq", "use DataCollatorWithPadding: Bertolt has encoders alone"),
        ("DataCollator", "use PackingCollator"),
        (
            "Seq2SeqTrainer Seq2SeqTrainingArguments AutoModelForSeq2SeqLM",
            "keep it with the peer: Bertolt has encoders alone",
        ),
        ("TextDataset LineByLineTextDataset glue_processors", "use a list of rows, or datasets"),
        (
            "logging is_torch_available is_datasets_available is_tf_available set_verbosity "
            "set_verbosity_error set_verbosity_warning set_verbosity_info set_verbosity_debug",
            "leave it out: messages go to standard error, and torch is always there",
        ),
        ("HfArgumentParser", "keep it with the peer: it reads the TrainingArguments of Bertolt"),
        ("__version__", "keep it with the peer: Bertolt has versions of its own"),
        ("check_min_version send_example_telemetry require_version", "leave it out"),
        ("TFTrainer TFBertModel TFAutoModel FlaxBertModel", "use the PyTorch class"),
    )
    for name in names.split()
}
"""What stays with the peer is named too: a program may import from both."""

OTHER_FAMILIES = ("GPT", "T5", "Bart", "Llama", "Distil", "Albert", "Electra", "Deberta", "XLNet")
"""How names of models begin that Bertolt does not have."""
