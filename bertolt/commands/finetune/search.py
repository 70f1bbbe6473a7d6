"""A search of settings by Optuna: which are tried next, given the trials that are done.

Each trial follows from the seed, its number and the trials before it, which are given to a study in
memory as `runs.json` has them. So a search that was killed goes on as if it had not been, whatever
moment that was, and nothing is kept that would have to be unpickled or unlocked.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import fields
from typing import Any, ClassVar

from bertolt.base.console import info
from bertolt.base.errors import UsageError
from bertolt.base.format import is_number, plural
from bertolt.base.options import flag
from bertolt.commands.finetune.options import FinetuneOptions
from bertolt.commands.finetune.planned import Goal, Outcome, Planned, best_of
from bertolt.commands.finetune.space import Dimension, read_space
from bertolt.train.arguments import TrainingArguments
from bertolt.train.events import TrainerCallback, TrainerControl, TrainerState


def require_optuna() -> Any:
    """Optuna, told to keep quiet.

    Raises:
        UsageError: it is not installed.
    """
    try:
        import optuna
    except ImportError as error:
        raise UsageError(
            f"a search needs the package optuna ({error})",
            place="--search",
            fix='pip install "bertolt[search]"',
        ) from error
    optuna.logging.set_verbosity(optuna.logging.ERROR)
    return optuna


class Search:
    """Trials of settings, each chosen by those before it.

    Args:
        options: of the command.

    Raises:
        UsageError: Optuna is not there, or the space cannot be searched.
    """

    kind: ClassVar[str] = "search"

    def __init__(self, options: FinetuneOptions) -> None:
        assert options.search is not None
        self._optuna = require_optuna()
        self.space = read_space(options.search, options)
        own = {option.name: option.default for option in fields(options)}
        for name in self.space:
            if (value := getattr(options, name)) != own[name]:
                info(f"{flag(name)} {value} has no effect: --search tries {name}")
        self._options = options
        self._greater = True
        self._trial: Any = None

    @property
    def words(self) -> str:
        """How many trials."""
        return plural(self.total, "trial")

    @property
    def settings(self) -> dict[str, Any]:
        """What is tried, and whether trials are ended early; how many there are may change."""
        space = {name: each.to_dict() for name, each in self.space.items()}
        return {"--search": space, "--prune": self._options.prune}

    @property
    def total(self) -> int:
        """How many trials there are."""
        return self._options.trials

    def name(self, number: int) -> str:
        """The folder of a trial, counted from 0."""
        return f"trial-{number + 1}"

    def next(self, done: Sequence[Outcome], begun: Outcome | None) -> Planned | None:
        """The next trial; one that was broken off has the settings that it had."""
        number = len(done)
        if number >= self.total:
            return None
        study = self._study(done)
        if begun is not None:
            study.enqueue_trial(dict(begun.changes))
        self._trial = study.ask()
        changes = {name: self._suggest(name, each) for name, each in self.space.items()}
        return Planned(
            name=self.name(number),
            title=f"trial {number + 1}",
            changes=changes,
            values={"Trial": number + 1, **changes},
        )

    def know(self, goal: Goal) -> None:
        """Take over whether more is better, which the task says."""
        self._greater = goal.greater

    def callbacks(
        self, goal: Callable[[], Goal], note_pruned: Callable[[], None]
    ) -> list[TrainerCallback]:
        """What ends the trial, if that is asked for."""
        return [Pruning(self._trial, goal, note_pruned)] if self._options.prune else []

    def winner(self, done: Sequence[Outcome], goal: Goal) -> Outcome | None:
        """The best trial that came to its end."""
        return best_of(done, goal)

    def _study(self, done: Sequence[Outcome]) -> Any:
        """A study in memory that knows these trials."""
        optuna = self._optuna
        study = optuna.create_study(
            direction="maximize" if self._greater else "minimize",
            sampler=optuna.samplers.TPESampler(seed=(self._options.seed + len(done)) % 2**32),
            pruner=optuna.pruners.MedianPruner(n_startup_trials=3),
        )
        spread = {name: self._distribution(each) for name, each in self.space.items()}
        states = optuna.trial.TrialState
        for each in done:
            values = {
                step: value for step, value in enumerate(each.evaluations, 1) if is_number(value)
            }
            state = states.PRUNED if each.pruned else states.COMPLETE
            state = states.FAIL if each.score is None else state
            trial = optuna.trial.create_trial(
                params=dict(each.changes),
                distributions=spread,
                intermediate_values=values,
                value=None if each.score is None else each.score,
                state=state,
            )
            study.add_trial(trial)
        return study

    def _distribution(self, space: Dimension) -> Any:
        kinds = self._optuna.distributions
        if space.choices is not None:
            return kinds.CategoricalDistribution(space.choices)
        if space.whole:
            step = int(space.step or 1)
            return kinds.IntDistribution(int(space.low), int(space.high), log=space.log, step=step)
        return kinds.FloatDistribution(space.low, space.high, log=space.log, step=space.step)

    def _suggest(self, name: str, space: Dimension) -> Any:
        if space.choices is not None:
            return self._trial.suggest_categorical(name, space.choices)
        if space.whole:
            low, high, step = int(space.low), int(space.high), int(space.step or 1)
            return self._trial.suggest_int(name, low, high, log=space.log, step=step)
        value = self._trial.suggest_float(
            name, space.low, space.high, log=space.log, step=space.step
        )
        return float(value)

    def importance(self, done: Sequence[Outcome]) -> dict[str, float]:
        """How much each setting decides whether a trial is among the best (PED-ANOVA); empty where
        too few trials tell."""
        scored = [each for each in done if each.score is not None and not each.pruned]
        if len(scored) < 10 or len(self.space) < 2:
            return {}
        evaluator = self._optuna.importance.PedAnovaImportanceEvaluator()
        try:
            shares: Mapping[str, float] = self._optuna.importance.get_param_importances(
                self._study(scored), evaluator=evaluator
            )
        except (ValueError, RuntimeError):  # all scores alike
            return {}
        return {name: float(value) for name, value in shares.items()}


class Pruning(TrainerCallback):
    """Ends a trial whose best evaluation so far is worse than the median of the others by then.

    Args:
        trial: of Optuna.
        goal: gives the metric to go by.
        note_pruned: called when it ends the trial, before that is evaluated and saved.
    """

    def __init__(
        self, trial: Any, goal: Callable[[], Goal], note_pruned: Callable[[], None]
    ) -> None:
        self._trial, self._goal, self._note = trial, goal, note_pruned
        self._count = 0

    def on_train_begin(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any
    ) -> None:
        """Look at the evaluations of the checkpoint that the trial goes on from."""
        name = f"eval_{self._goal().metric}"
        for entry in state.log_history:
            if name in entry and entry["step"] < state.max_steps:
                self._report(entry[name], control)

    def on_evaluate(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any
    ) -> None:
        """Look at one more evaluation; the last is the trial's score, and ends nothing."""
        value = kwargs["metrics"].get(f"eval_{self._goal().metric}")
        if state.global_step < state.max_steps:
            self._report(value, control)

    def _report(self, value: float | None, control: TrainerControl) -> None:
        self._count += 1
        if not is_number(value):
            return
        self._trial.report(value, self._count)
        if self._trial.should_prune():
            control.should_training_stop = True
            self._note()
