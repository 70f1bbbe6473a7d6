"""How a decoder writes: what can be asked for, and the loops that choose one token after another.

Shapes: B prompts, R rows (prompts, or their beams or repetitions), P columns of the prompts,
L columns, V vocabulary.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, fields
from typing import Any

import torch
from torch import Tensor

from bertolt.base.arguments import refuse_unknown, tell_unused
from bertolt.base.checks import is_real, is_whole
from bertolt.base.errors import UsageError
from bertolt.models.beams import Beams, EarlyStopping
from bertolt.models.logit_changes import (
    BannedWords,
    Change,
    Given,
    Repeated,
    RepeatedRuns,
    Shortest,
)
from bertolt.models.outputs import GenerationOutput
from bertolt.models.sampling import Sampling

Read = Callable[[Tensor | None, Tensor | None], Tensor]
"""Reads one token for each row, of rows that are ordered anew before, and gives logits (R, V) of
the next; the first time neither."""

_CHANGE = "write it as a function and give logits_processor=[function]"
INSTEAD = {
    name: instead
    for names, instead in (
        (
            "min_p typical_p epsilon_cutoff eta_cutoff top_h sequence_bias suppress_tokens "
            "begin_suppress_tokens forced_bos_token_id forced_eos_token_id remove_invalid_values "
            "exponential_decay_length_penalty renormalize_logits guidance_scale "
            "watermarking_config prefix_allowed_tokens_fn encoder_repetition_penalty "
            "encoder_no_repeat_ngram_size",
            _CHANGE,
        ),
        (
            "max_time stop_strings streamer",
            "write it as a function of the ids so far and give stopping_criteria=[function]",
        ),
        ("generation_config", "give its values as arguments: model.generate(ids, num_beams=4)"),
        ("output_attentions output_hidden_states", "call the model with what generate returned"),
        (
            "num_beam_groups diversity_penalty penalty_alpha constraints force_words_ids "
            "dola_layers assistant_model prompt_lookup_num_tokens custom_generate",
            "leave it out: texts are written greedily, by sampling or by beam search",
        ),
        ("inputs_embeds", "give input_ids"),
        ("past_key_values", "give the whole text as input_ids"),
    )
    for name in names.split()
}
"""Arguments of the peer's `generate`, and what to write instead."""

_UNUSED = {
    "use_cache": "what was read is always remembered",
    "synced_gpus": "every process writes its own texts",
    "cache_implementation": "the cache grows with the texts",
    "low_memory": "the cache grows with the texts",
    "bos_token_id": "texts begin with their prompts",
    "disable_compile": "nothing is compiled",
}


@dataclass(frozen=True, kw_only=True)
class Writing:
    """What `generate` can be asked for.

    Raises:
        UsageError: settings that cannot be, or not together.
    """

    max_new_tokens: int | None = None
    """Tokens to add; None: 20, or up to `max_length`."""
    max_length: int | None = None
    """Columns of the result, prompt included."""
    min_new_tokens: int | None = None
    """Tokens to add before a text may end."""
    min_length: int | None = None
    """Columns before a text may end, prompt included."""
    do_sample: bool = False
    """Draw each token, instead of taking the most probable one."""
    temperature: float = 1.0
    """Of a draw, see `Sampling`."""
    top_k: int | None = 50
    """The same."""
    top_p: float | None = 1.0
    """The same."""
    seed: int | None = None
    """Of the draws; None: PyTorch's own random state."""
    num_beams: int = 1
    """Continuations of each prompt that are gone on with side by side."""
    num_return_sequences: int = 1
    """Texts to return of each prompt: draws, or the best of its beams."""
    early_stopping: EarlyStopping = False
    """When beam search is over, see `Beams`."""
    length_penalty: float = 1.0
    """Of beams: above 0 longer texts are liked better, below 0 shorter ones."""
    repetition_penalty: float = 1.0
    """Above 1, tokens that are there already become less probable."""
    no_repeat_ngram_size: int = 0
    """No run of so many tokens is written twice; 0: any may be."""
    bad_words_ids: Sequence[Sequence[int]] | None = None
    """Words, as lists of ids, that are not written."""
    logits_processor: Any = ()
    """Functions from ids (R, L) and scores (R, V) to scores, after the changes above."""
    stopping_criteria: Any = ()
    """Functions from ids (R, L) and scores to whether each text ends, (R,), or whether all do."""
    eos_token_id: int | Sequence[int] | None = None
    """A text ends with it, or with any of several; None: none does."""
    pad_token_id: int | None = None
    """What follows an ended text; None: the config's."""
    return_dict_in_generate: bool = False
    """Return a `GenerationOutput` instead of the ids."""
    output_scores: bool = False
    """With it, the scores that each token was chosen by."""
    output_logits: bool = False
    """With it, the logits as the model gave them."""

    @classmethod
    def of(cls, options: dict[str, Any]) -> Writing:
        """From the arguments of a call; what changes nothing is told.

        Raises:
            UsageError: arguments that there are not, all in one error, or values that cannot be.
        """
        if options.get("use_cache"):
            options.pop("use_cache")  # as it is
        tell_unused(options, _UNUSED)
        refuse_unknown("generate", options, [field.name for field in fields(cls)], INSTEAD)
        return cls(**options)

    def __post_init__(self) -> None:
        for name, least in (("num_beams", 1), ("num_return_sequences", 1)):
            _require(name, getattr(self, name), least)
        for name in ("no_repeat_ngram_size", "min_new_tokens", "min_length"):
            _require(name, getattr(self, name) or 0, 0)
        penalty, power = self.repetition_penalty, self.length_penalty
        for name, value, fits, allowed in (
            ("repetition_penalty", penalty, is_real(penalty) and penalty > 0, "a number above 0"),
            ("length_penalty", power, is_real(power), "a number"),
        ):
            if not fits:
                raise UsageError(f"{name} is {value!r}", fix=f"give {allowed}")
        if self.early_stopping not in (True, False, "never"):
            raise UsageError(
                f"early_stopping is {self.early_stopping!r}", fix='give True, False or "never"'
            )
        beams, several = self.num_beams, self.num_return_sequences
        if several > beams and not (self.do_sample and beams == 1):
            raise UsageError(
                f"num_return_sequences is {several}, and there are {beams} beams",
                fix=f"use num_beams={several}, or do_sample=True without beams",
            )
        if (self.output_scores or self.output_logits) and not self.return_dict_in_generate:
            raise UsageError(
                "output_scores and output_logits have no place in ids alone",
                fix="give return_dict_in_generate=True beside them",
            )

    @property
    def repeats(self) -> int:
        """Rows that each prompt becomes."""
        return self.num_beams if self.num_beams > 1 else self.num_return_sequences

    def budget(self, prompt: int) -> int:
        """How many tokens to write behind prompts of so many columns.

        Raises:
            UsageError: none, or both limits, or less than is to be written at least.
        """
        budget = _budget(prompt, self.max_new_tokens, self.max_length)
        least = max(self.min_new_tokens or 0, (self.min_length or 0) - prompt)
        if least > budget:
            raise UsageError(
                f"{least} new tokens are to be written at least, and {budget} at most",
                fix=f"use max_new_tokens={least}",
            )
        return budget

    def ends(self, vocabulary: int) -> list[int]:
        """The ids that end a text."""
        return token_ids("eos_token_id", self.eos_token_id, vocabulary)

    def filler(self, vocabulary: int, usual: int) -> int:
        """What follows an ended text."""
        return (*token_ids("pad_token_id", self.pad_token_id, vocabulary), usual)[0]

    def changes(self, padding: Tensor, ends: Tensor, vocabulary: int) -> list[Change]:
        """What changes scores, in order; (R, P) `padding` is where prompts have no token."""
        changes: list[Change] = []
        if self.repetition_penalty != 1.0:
            changes.append(Repeated(self.repetition_penalty, padding))
        if self.no_repeat_ngram_size:
            changes.append(RepeatedRuns(self.no_repeat_ngram_size, padding))
        if self.bad_words_ids is not None:
            words = self._bad_words(vocabulary)
            single = [[end] for end in ends.tolist()]
            kept = [word for word in words if word not in single]
            changes.append(BannedWords(kept, padding.device))
        prompt = padding.shape[1]
        for length in (self.min_length or 0, prompt + (self.min_new_tokens or 0)):
            if length > prompt and ends.numel():
                changes.append(Shortest(length, ends))
        return [*changes, *map(Given, functions("logits_processor", self.logits_processor))]

    def _bad_words(self, vocabulary: int) -> list[list[int]]:
        words = self.bad_words_ids
        if not isinstance(words, list | tuple) or not all(
            isinstance(word, list | tuple) and word for word in words
        ):
            raise UsageError(
                f"bad_words_ids is {words!r}",
                fix="give lists of ids: [tokenizer.encode(w, add_special_tokens=False) for w in …]",
            )
        return [token_ids("bad_words_ids", word, vocabulary) for word in words]


def _require(name: str, value: object, least: int) -> None:
    if not (is_whole(value) and value >= least):
        raise UsageError(f"{name} is {value!r}", fix=f"give a whole number from {least} on")


def functions(name: str, given: Any) -> list[Any]:
    """Functions that are given: several, or one.

    Raises:
        UsageError: something that cannot be called.
    """
    if given is None:
        return []
    several = list(given) if isinstance(given, list | tuple) else [given]
    for each in several:
        if not callable(each):
            raise UsageError(
                f"{name} has a {type(each).__name__}", fix="give functions of ids and scores"
            )
    return several


def token_ids(name: str, given: int | Sequence[int] | None, vocabulary: int) -> list[int]:
    """The ids given, each of them a row of the vocabulary.

    Raises:
        UsageError: one is none.
    """
    several = isinstance(given, (list, tuple))
    ids: list[Any] = [] if given is None else list(given) if several else [given]  # type: ignore[arg-type]
    for each in ids:
        if not is_whole(each) or not 0 <= each < vocabulary:
            raise UsageError(
                f"{name} is {each!r}", fix=f"give an id of the vocabulary, 0 to {vocabulary - 1}"
            )
    return ids


def _budget(prompt: int, new: int | None, length: int | None) -> int:
    """How many tokens to write behind prompts of so many columns."""
    if new is not None and length is not None:
        raise UsageError("max_new_tokens and max_length were both given", fix="give one")
    name, value = ("max_length", length) if new is None else ("max_new_tokens", new)
    if value is None:
        return 20
    if not is_whole(value):
        raise UsageError(f"{name} is {value!r}", fix="give a whole number")
    budget = int(value) if new is not None else int(value) - prompt
    if budget < 1:
        raise UsageError(
            f"max_new_tokens is {new}"
            if new is not None
            else f"max_length {length} leaves no room behind a prompt of {prompt} tokens",
            fix="ask for at least one token",
        )
    return budget


@dataclass
class Writer:
    """Writes behind prompts by reading one token after another.

    Attributes:
        read: of the model.
        asked: what for.
        prompts: (R, P) as they came, each `asked.repeats` times.
        padding: (R, P) where they have no token.
        vocabulary: V.
        usual_filler: what follows ended texts when nothing is said.
    """

    read: Read
    asked: Writing
    prompts: Tensor
    padding: Tensor
    vocabulary: int
    usual_filler: int

    def __post_init__(self) -> None:
        asked, device = self.asked, self.prompts.device
        ends = asked.ends(self.vocabulary)
        self.filler = asked.filler(self.vocabulary, self.usual_filler)
        self.ends = torch.tensor(ends, dtype=torch.long, device=device)
        self.budget = asked.budget(self.prompts.shape[1])
        least = 1 if asked.num_beams == 1 else len(ends) + 1 if ends else 2
        self.sampling = Sampling(
            asked.do_sample,
            asked.temperature,
            asked.top_k,
            asked.top_p,
            asked.seed,
            device,
            least=least,
        )
        self.changes = asked.changes(self.padding, self.ends, self.vocabulary)
        self.criteria = functions("stopping_criteria", asked.stopping_criteria)
        self.scores: list[Tensor] = []
        self.logits: list[Tensor] = []

    def write(self) -> GenerationOutput:
        """The prompts with what is written behind them."""
        written = self._by_beams() if self.asked.num_beams > 1 else self._one_by_one()
        if self.asked.output_scores:
            written.scores = tuple(self.scores)
        else:
            written.sequences_scores = None
        if self.asked.output_logits:
            written.logits = tuple(self.logits)
        return written

    def _one_by_one(self) -> GenerationOutput:
        running = torch.ones(len(self.prompts), dtype=torch.bool, device=self.prompts.device)
        columns = [self.prompts]
        # Functions of the user see padding on the left, whatever side the prompts have it on.
        seen = [_from_the_right(self.prompts, self.padding)] if self._looks_back else []
        logits = self.read(None, None)
        while True:
            ids = torch.cat(seen, 1) if seen else self.prompts
            token = self.sampling.choose(self._changed(ids, logits))
            if self.ends.numel():
                token = token.where(running, self.filler)
            columns.append(token[:, None])
            if seen:
                seen = [ids, token[:, None]]
            if self.ends.numel():
                running = running & ~torch.isin(token, self.ends)
            if self.criteria:
                running = running & ~self._stopped(torch.cat(seen, 1))
            ended = (self.ends.numel() or self.criteria) and not running.any()
            if ended or len(columns) > self.budget:
                return GenerationOutput(sequences=torch.cat(columns, 1))
            logits = self.read(token, None)

    def _by_beams(self) -> GenerationOutput:
        asked, prompt = self.asked, self.prompts.shape[1]
        beams = Beams(
            _from_the_right(self.prompts, self.padding),
            asked.num_beams,
            prompt + self.budget,
            filler=self.filler,
            ends=self.ends.numel(),
            length_penalty=asked.length_penalty,
            early_stopping=asked.early_stopping,
            draw=self.sampling.several if asked.do_sample else None,
        )
        token: Tensor | None = None
        order: Tensor | None = None
        while True:
            logits = self.sampling.require_finite(self.read(token, order))
            log_probs = self._changed(beams.ids, logits, logits.log_softmax(-1))
            chosen = beams.advance(log_probs, self._ends_here)
            if chosen is None:
                break
            token, order = chosen
        sequences, scores, origins = beams.best(asked.num_return_sequences)
        own = self.prompts[:: asked.num_beams].repeat_interleave(asked.num_return_sequences, 0)
        sequences[:, :prompt] = own
        return GenerationOutput(sequences=sequences, sequences_scores=scores, beam_indices=origins)

    @property
    def _looks_back(self) -> bool:
        return bool(self.changes or self.criteria)

    def _changed(self, ids: Tensor, logits: Tensor, scores: Tensor | None = None) -> Tensor:
        """The scores to choose by, and notes of them."""
        scores = logits if scores is None else scores
        if self.asked.output_logits:
            self.logits.append(logits.clone())
        for change in self.changes:
            scores = change(ids, scores)
        if self.asked.num_beams > 1 or self.asked.output_scores:
            warped = self.sampling.warped(scores)
            if self.asked.output_scores:
                self.scores.append(warped.clone())
            scores = warped if self.asked.num_beams > 1 else scores
        return scores

    def _ends_here(self, ids: Tensor) -> Tensor:
        """(R,) whether each text ends with its last token."""
        ended = torch.isin(ids[:, -1], self.ends)
        return ended | self._stopped(ids) if self.criteria else ended

    def _stopped(self, ids: Tensor) -> Tensor:
        """(R,) whether a criterion of the user's ends each text."""
        stopped = torch.zeros(len(ids), dtype=torch.bool, device=ids.device)
        scores = tuple(self.scores) if self.asked.output_scores else None
        for criterion in self.criteria:
            answer = torch.as_tensor(criterion(ids, scores), device=ids.device)
            if answer.dtype != torch.bool or answer.shape not in ((), stopped.shape):
                raise UsageError(
                    f"a stopping criterion gave {answer.dtype} {tuple(answer.shape)}",
                    fix=f"let it return True or False, or a tensor of {len(ids)} of them",
                )
            stopped = stopped | answer
        return stopped


def _from_the_right(prompts: Tensor, padding: Tensor) -> Tensor:
    """Prompts (R, P) with their padding, wherever it is, on the left."""
    order = (~padding).int().argsort(dim=1, stable=True)
    return prompts.gather(1, order)
