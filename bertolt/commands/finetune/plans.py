"""Which runs one command makes: with several seeds, on several folds, or on samples of its rows."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, ClassVar

from bertolt.base.distributed import join
from bertolt.base.errors import UsageError
from bertolt.base.format import plural, shorten
from bertolt.commands.finetune.options import MOST_RUNS, FinetuneOptions
from bertolt.commands.finetune.parts import Part
from bertolt.commands.finetune.planned import ALL_ROWS, Goal, Outcome, Plan, Planned, best_of
from bertolt.commands.finetune.search import Search
from bertolt.train.events import TrainerCallback


class _Known:
    """A plan of runs that are all known from the beginning."""

    kind: ClassVar[str]
    runs: list[Planned]

    @property
    def total(self) -> int:
        """How many runs there are."""
        return len(self.runs)

    def name(self, number: int) -> str:
        """The folder of a run, counted from 0; empty beyond the last."""
        return self.runs[number].name if number < len(self.runs) else ""

    def next(self, done: Sequence[Outcome], begun: Outcome | None) -> Planned | None:
        """The runs in their order."""
        return self.runs[len(done)] if len(done) < len(self.runs) else None

    def know(self, goal: Goal) -> None:
        """Nothing depends on it."""

    def callbacks(
        self, goal: Callable[[], Goal], note_pruned: Callable[[], None]
    ) -> list[TrainerCallback]:
        """Nothing watches."""
        return []

    def winner(self, done: Sequence[Outcome], goal: Goal) -> Outcome | None:
        """The best one."""
        return best_of(done, goal)


class Seeds(_Known):
    """The same run with several seeds of its head, its order and its dropout."""

    kind: ClassVar[str] = "seeds"

    def __init__(self, options: FinetuneOptions) -> None:
        assert options.seeds is not None
        self.seeds = _seeds(options.seeds, options.seed)
        self.runs = [
            Planned(
                name=f"seed-{seed}",
                title=f"seed {seed}",
                changes={"seed": seed},
                values={"Seed": seed},
            )
            for seed in self.seeds
        ]

    @property
    def words(self) -> str:
        """How many seeds."""
        return plural(self.total, "seed")

    @property
    def settings(self) -> dict[str, Any]:
        """The seeds."""
        return {"--seeds": self.seeds}


def fold_runs(count: int) -> list[Planned]:
    """The runs that hold out one fold each."""
    return [
        Planned(
            name=f"fold-{number + 1}",
            title=f"fold {number + 1}",
            changes={"test_size": 1 / count},
            part=Part(fold=number, folds=count),
            values={"Fold": number + 1},
            fold=number,
        )
        for number in range(count)
    ]


class Folds(_Known):
    """Each row is held out in one run, and a last run trains on all of them."""

    kind: ClassVar[str] = "folds"

    def __init__(self, options: FinetuneOptions) -> None:
        assert options.folds is not None
        self.count = options.folds
        last = Planned(
            name=ALL_ROWS,
            title="all rows",
            changes={"test_size": 0.0, "group": None},
            part=Part(folds=self.count),
        )
        self.runs = [*fold_runs(self.count), last]

    @property
    def words(self) -> str:
        """How many folds."""
        return plural(self.count, "fold")

    @property
    def settings(self) -> dict[str, Any]:
        """How many folds."""
        return {"--folds": self.count}

    def winner(self, done: Sequence[Outcome], goal: Goal) -> Outcome | None:
        """The run on all rows."""
        return next((each for each in done if each.name == ALL_ROWS and not each.problem), None)


class Samples(_Known):
    """The same run on more and more of the training rows, with the same rows held out."""

    kind: ClassVar[str] = "samples"

    def __init__(self, options: FinetuneOptions) -> None:
        self.sizes = curve_sizes(options)
        self.runs = [
            Planned(
                name=f"sample-{size}",
                title=f"{size:,} rows",
                changes={"sample": size},
                part=Part(sample=size, most=self.sizes[-1]),
                values={"Rows": size},
            )
            for size in self.sizes
        ]

    @property
    def words(self) -> str:
        """How many samples."""
        return plural(self.total, "sample")

    @property
    def settings(self) -> dict[str, Any]:
        """The sizes."""
        return {"--sample": self.sizes}

    def winner(self, done: Sequence[Outcome], goal: Goal) -> Outcome | None:
        """The run on most rows, whatever its score: a choice by the score would flatter it."""
        scored = [each for each in done if each.score is not None]
        return scored[-1] if scored else None


def sample_sizes(sample: int | str | None) -> list[int]:
    """The sizes that --sample asks for, ascending.

    Raises:
        UsageError: they are no whole numbers of 1 and more, or one stands twice.
    """
    if sample is None:
        return []
    return sorted(_numbers("--sample", str(sample), least=1, example="100,300,1000"))


def curve_sizes(options: FinetuneOptions) -> list[int]:
    """The sizes of a learning curve, ascending; fewer than two: none is drawn.

    One size that stands alone is the end of a curve from its quarter over its half. With another
    kind of several runs, without held-out rows and on several processes it is the rows of each run.

    Raises:
        UsageError: as `sample_sizes`.
    """
    sizes = sample_sizes(options.sample)
    others = (options.seeds, options.folds, options.search)
    if len(sizes) != 1 or any(each is not None for each in others):
        return sizes
    if not options.evaluates or options.shard or not join().alone:
        return sizes
    return sorted({-(-sizes[0] // parts) for parts in (4, 2, 1)})


def _seeds(seeds: int | str, first: int) -> list[int]:
    """The seeds: so many from the first on, or those that are named.

    Raises:
        UsageError: they are no whole numbers, fewer than two, or one stands twice; or one is more
            than a generator takes, which its run alone would tell, after those before it.
    """
    numbers = _named_seeds(seeds, first)
    if len(numbers) < 2:
        raise UsageError(
            f"--seeds names {numbers[0]} alone, which has no spread",
            place="--seeds",
            fix=f"name others too, as {numbers[0]},{numbers[0] + 1}, or use --seed {numbers[0]}",
        )
    most = max(numbers)
    if most >= 2**63:
        raise UsageError(
            f"--seeds has {most}",
            place="--seeds",
            fix="name seeds below 2**63, or a smaller --seed to count them from",
        )
    return numbers


def _named_seeds(seeds: int | str, first: int) -> list[int]:
    """The same, however great they are."""
    if isinstance(seeds, int) or seeds.strip().isdecimal():
        count = int(seeds) if isinstance(seeds, int) else _whole(seeds.strip())
        if not 2 <= count <= MOST_RUNS:
            raise UsageError(
                f"--seeds is {shorten(str(seeds), 200)}",
                place="--seeds",
                fix=f"give a number from 2 to {MOST_RUNS:,}, or use --seed",
            )
        return list(range(first, first + count))
    return _numbers("--seeds", seeds, least=0, example="1,7,42")


def _whole(digits: str) -> int:
    """A whole number; of more digits than any that is allowed, its beginning is as good."""
    return int(digits[:20])


def _numbers(option: str, text: str, *, least: int, example: str) -> list[int]:
    parts = [part.strip() for part in text.split(",") if part.strip()]
    fix = f"give whole numbers with commas between them, as {option} {example}"
    if not parts or not all(part.isdecimal() and _whole(part) >= least for part in parts):
        raise UsageError(f"{option} is {shorten(text, 200)!r}", place=option, fix=fix)
    numbers = [_whole(part) for part in parts]
    twice = next((number for number in numbers if numbers.count(number) > 1), None)
    if twice is not None:
        raise UsageError(f"{option} names {twice} twice", place=option, fix=fix)
    return numbers


def require_together(options: FinetuneOptions) -> None:
    """Refuse kinds of several runs that do not go together.

    Raises:
        UsageError: two of them, or one with an option that it leaves nothing to do.
    """
    several = {
        "--seeds": options.seeds is not None,
        "--folds": options.folds is not None,
        "--search": options.search is not None,
        "--sample with several sizes": len(curve_sizes(options)) > 1,
    }
    named = [name for name, used in several.items() if used]
    if len(named) > 1:
        raise UsageError(
            f"{named[0]} and {named[1]} are two kinds of several runs",
            place=named[1].split()[0],
            fix="make one after the other, each with an --out of its own",
        )
    if not named:
        _require_several(options)
        return
    option = named[0].split()[0]
    if option != "--folds" and not options.evaluates:
        raise UsageError(
            f"{named[0]} compares scores, and --test-size 0 holds no rows out",
            place=option,
            fix="name rows to evaluate on with --eval, or leave --test-size out",
        )
    if options.folds is not None and options.eval is not None:
        raise UsageError(
            "each row is held out in one of its folds, and --eval names other rows",
            place="--folds",
            fix="leave --eval out, or use --seeds",
        )
    if options.folds is not None and options.calibrate:
        raise UsageError(
            "the last model trains on all rows, and none is held out to fit its temperature on",
            place="--folds",
            fix="leave --calibrate out, or use --seeds",
        )
    if options.folds is not None and options.keeps_best:
        raise UsageError(
            "the last model trains on all rows, and none is held out to choose its best weights by",
            place="--folds",
            fix="leave out --keep best and --patience",
        )
    if options.shard:
        raise UsageError(
            f"{named[0]} makes its runs in one process, and --shard splits one over several",
            place=option,
            fix="leave --shard out",
        )
    if options.search is None:
        _require_search(options)


def _require_several(options: FinetuneOptions) -> None:
    """Refuse options of several runs where there is one."""
    if options.keep_models:
        raise UsageError(
            "there is one run, whose model is the result",
            place="--keep-models",
            fix="leave it out, or add --seeds, --folds, --search, or --sample with several sizes",
        )
    _require_search(options)


def _require_search(options: FinetuneOptions) -> None:
    if options.prune:
        raise UsageError(
            "it ends trials of a search, and there is none",
            place="--prune",
            fix="add --search, or leave --prune out",
        )


def plan_of(options: FinetuneOptions) -> Plan | None:
    """The plan of a command that makes several runs; None: it makes one.

    Raises:
        UsageError: options that do not go together, or that name no runs.
    """
    require_together(options)
    if options.seeds is not None:
        return Seeds(options)
    if options.folds is not None:
        return Folds(options)
    if len(curve_sizes(options)) > 1:
        return Samples(options)
    if options.search is not None:
        return Search(options)
    return None
