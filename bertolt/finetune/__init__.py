"""The main job: a file of texts and labels and a checkpoint in, a measured classifier out."""

from bertolt.finetune.run import FinetuneResult, finetune

__all__ = ["FinetuneResult", "finetune"]
