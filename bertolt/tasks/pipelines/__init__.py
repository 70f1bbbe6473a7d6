"""`pipeline(task, model)`: a model that answers in the forms of the peer's pipelines.

Where a model was trained here, `Predictor` answers by its contract, and in the forms of its task;
a pipeline is for programs that expect labels, entities, answers and words as the peer gives them.
`base.py` has windows answered by what `Predictor` stands on; each other file is one task: what it
takes, how a text becomes windows, and how their outputs become an answer.
"""

from bertolt.tasks.pipelines.base import Pipeline
from bertolt.tasks.pipelines.feature_extraction import FeatureExtractionPipeline
from bertolt.tasks.pipelines.fill_mask import FillMaskPipeline
from bertolt.tasks.pipelines.open import pipeline
from bertolt.tasks.pipelines.question_answering import QuestionAnsweringPipeline
from bertolt.tasks.pipelines.text_classification import TextClassificationPipeline
from bertolt.tasks.pipelines.token_classification import TokenClassificationPipeline

__all__ = [
    "FeatureExtractionPipeline",
    "FillMaskPipeline",
    "Pipeline",
    "QuestionAnsweringPipeline",
    "TextClassificationPipeline",
    "TokenClassificationPipeline",
    "pipeline",
]
