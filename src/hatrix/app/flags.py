"""The flags of the commands: groups that several commands share, and the hyper-parameters of a recipe."""

from __future__ import annotations

import difflib
import glob
import inspect
import json
import math
import os
import sys
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, fields
from enum import Enum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal, get_args, get_origin

from cyclopts import App, Group, Parameter, Token

from hatrix._checks import path_of
from hatrix.app.staging import refuse_unwritable
from hatrix.errors import DataError, ParameterError
from hatrix.models import ALGORITHMS, COMBINATIONS, SEED, algorithm, recipe_type

if TYPE_CHECKING:
    from pydantic.fields import FieldInfo

    from hatrix.data.ratings import Ratings
    from hatrix.data.split import Split
    from hatrix.models.fit import Algorithm
    from hatrix.models.model import FactorModel

__all__ = [
    "Columns",
    "Memory",
    "Output",
    "Parting",
    "Protocol",
    "Ranking",
    "Seed",
    "Threads",
    "Training",
    "above_zero",
    "algorithm_in",
    "algorithms_with",
    "dumps",
    "file_path",
    "flag",
    "printable",
    "whole",
    "with_recipe",
]


def flag(name: str) -> str:
    """The flag of a Python name."""
    return "--" + name.replace("_", "-")


def printable(text: str) -> str:
    """The text without what could steer a terminal."""
    return "".join(c if c.isprintable() or c == "\n" else " " for c in text)


def dumps(facts: Any) -> str:
    """JSON, in which a number that is not finite is null."""
    return json.dumps(_plain(facts), indent=2, allow_nan=False)


def _plain(value: Any) -> Any:
    if isinstance(value, dict):
        return {str(key): _plain(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(item) for item in value]
    if hasattr(value, "tolist"):  # NumPy
        return _plain(value.tolist())
    if isinstance(value, float) and not math.isfinite(value):
        return None
    return str(value) if isinstance(value, os.PathLike) else value


def whole(low: int, high: float = math.inf) -> Callable[[Any, Sequence[Token]], int]:
    """A converter to an int within bounds; cyclopts itself would round 1.5."""

    def convert(_type: Any, tokens: Sequence[Token]) -> int:
        try:
            value = int(tokens[0].value)
        except ValueError:
            value = low - 1
        if not low <= value <= high:
            bounds = f"from {low} up" if high == math.inf else f"from {low} to {high}"
            raise ValueError(f"give a whole number {bounds}, not {tokens[0].value!r}")
        return value

    return convert


def above_zero(below: float, example: str) -> Callable[[Any, Sequence[Token]], float]:
    """A converter to a float between 0 and a bound, both excluded."""

    def convert(_type: Any, tokens: Sequence[Token]) -> float:
        try:
            value = float(tokens[0].value)
        except ValueError:
            value = math.nan
        if not 0 < value < below:
            bounds = "above 0" if below == math.inf else f"between 0 and {below:g}"
            raise ValueError(f"give a number {bounds}, such as {example}, not {tokens[0].value!r}")
        return value

    return convert


def file_path(_type: Any, tokens: Sequence[Token]) -> Path:
    """Convert to a path; an empty one, as an unset shell variable leaves it, would be the current folder."""
    return path_of("the path", tokens[0].value)


@Parameter(name="*", group=Group("Output", sort_key=5))
@dataclass(frozen=True)
class Output:
    """What to print."""

    json: Annotated[bool, Parameter(help="print the result as JSON")] = False
    quiet: Annotated[bool, Parameter(name=("--quiet", "-q"), help="show no progress and no notes")] = False
    debug: Annotated[bool, Parameter(help="show the traceback of an error (as HATRIX_DEBUG=1 does)")] = False

    def note(self, text: str) -> None:
        """Say on stderr what goes on."""
        if not self.quiet:
            print(printable(text), file=sys.stderr)

    def result(self, facts: Any, text: str) -> None:
        """Print the result on stdout: the facts as JSON, or the text."""
        print(dumps(facts) if self.json else printable(text))


@Parameter(name="*", group=Group("Reading a file", sort_key=4))
@dataclass(frozen=True)
class Columns:
    """How to read a file; what is not given is found out."""

    user_column: Annotated[
        str | None, Parameter(help="column of the user ids: its name, or its number from 0")
    ] = None
    item_column: Annotated[str | None, Parameter(help="column of the item ids")] = None
    rating_column: Annotated[str | None, Parameter(help="column of the ratings")] = None
    time_column: Annotated[str | None, Parameter(help="column of the times: dates or Unix seconds")] = None
    separator: Annotated[str | None, Parameter(help="what parts the columns, for example ';' or '::'")] = None
    header: Annotated[
        bool | None, Parameter(negative="--no-header", help="whether the first line names the columns")
    ] = None
    encoding: Annotated[str | None, Parameter(help="encoding of the text, for example latin-1")] = None
    skip_bad_rows: Annotated[
        bool, Parameter(help="leave out and count the lines that cannot be read, instead of stopping")
    ] = False

    def load(
        self, source: str, *, progress: bool, memory: str | None = None, folder: Path | None = None
    ) -> Ratings:
        """The ratings of a data set or of files; with ``memory`` on disk, in the ``folder`` or a temporary one."""
        from hatrix.data import datasets

        given = {f.name: getattr(self, f.name) for f in fields(self) if getattr(self, f.name) != f.default}
        given |= {} if memory is None else {"memory": memory}
        names = datasets.names()
        if source in names:
            for name in given:
                raise ParameterError(
                    f"{flag(name)} says how to read a file, but {source} is a data set: leave the flag out, or "
                    f"write ./{source} for a file of that name"
                )
            return datasets.load(source, progress=progress)
        if not os.path.exists(source) and not glob.has_magic(source):
            near = difflib.get_close_matches(source, names, n=1)
            hint = f" (did you mean {near[0]}?)" if near else ""
            raise DataError(
                f"there is no file and no data set {source!r}{hint}: give the path of a file of ratings, or one "
                f"of {', '.join(names)}"
            )
        from hatrix.data.read import read

        how = {name.removesuffix("_column"): value for name, value in given.items()}
        if memory is not None:
            how |= {"folder": folder, "progress": progress}
        return read(source, **how)


class Protocol(Enum):
    """How to part the ratings; each is a function of `hatrix.data.split`."""

    per_user = "per_user"
    random = "random"
    last = "last"
    by_time = "by_time"
    official = "official"


class Draw(Enum):
    """Methods by which `hatrix.data.split.per_user` draws the test ratings of a user."""

    independent = "independent"
    notebook = "notebook"


@Parameter(name="*", group=Group("Parting training and test", sort_key=2))
@dataclass(frozen=True)
class Parting:
    """Which ratings to test on."""

    split: Annotated[
        Protocol,
        Parameter(help="test on a share of each user's ratings, on a share of all, on the last of each user, on "
        "the latest, or on the part published for it"),
    ] = Protocol.per_user  # fmt: skip
    test: Annotated[
        str | None,
        Parameter(help="the share (default 0.2); with --split last how many of each user (default 1); with "
        "--split by-time the share, or the date to start from"),
    ] = None  # fmt: skip
    fold: Annotated[
        str | None, Parameter(help="with --split official: for ml-100k 1 to 5, a or b; not for others")
    ] = None
    draw: Annotated[
        Draw | None,
        Parameter(help="with --split per-user: draw for each user alone (default), or as the teaching notebook does, the "
        "same positions of all users with equally many ratings"),
    ] = None  # fmt: skip

    def check(self) -> None:
        """Refuse what does not go together before any time is spent."""
        if self.split is Protocol.official and self.test is not None:
            raise ParameterError("--test does not go with --split official: choose the part with --fold")
        if self.split is not Protocol.official and self.fold is not None:
            raise ParameterError("--fold goes with --split official only")
        if self.split is not Protocol.per_user and self.draw is not None:
            raise ParameterError("--draw goes with --split per-user only: leave it out")
        if self.split is Protocol.last and self.test is not None and not self.test.isdecimal():
            raise ParameterError(
                f"--test {self.test}: with --split last it is how many ratings of each user, such as 1"
            )

    def part(self, ratings: Ratings, seed: int) -> Split:
        """Cut the ratings in two."""
        from hatrix.data import split

        if self.split is Protocol.official:
            return split.official(ratings, self.fold)
        amount = () if self.test is None else (_number_or_text(self.test),)
        how: dict[str, Any] = {"seed": seed} if self.split in (Protocol.per_user, Protocol.random) else {}
        if self.draw is not None:
            how["draw"] = self.draw.value
        parted: Split = getattr(split, self.split.value)(ratings, *amount, **how)
        return parted


@Parameter(name="*", group=Group("Measuring rankings", sort_key=2))
@dataclass(frozen=True)
class Ranking:
    """How to measure top-N lists."""

    ranking: Annotated[
        bool, Parameter(help="measure top-N lists alone, and not the errors of predicted ratings")
    ] = False
    k: Annotated[
        int | None,
        Parameter(name=("--k", "-k"), converter=whole(1), help="length of the lists [default: 20]"),
    ] = None
    rank_among: Annotated[
        int | None, Parameter(converter=whole(1), help="rank what was held out among so many items drawn for each user "
        "[default: among all]; such figures cannot be compared with others")
    ] = None  # fmt: skip
    relevant_from: Annotated[
        float | None,
        Parameter(help="count only test ratings of at least this value as relevant [default: all]"),
    ] = None

    @property
    def wanted(self) -> bool:
        """Whether a flag asks for the figures of lists."""
        return self.ranking or any(
            getattr(self, name) is not None for name in ("k", "rank_among", "relevant_from")
        )


Memory = Annotated[
    str | None,
    Parameter(
        group=Group("Reading a file", sort_key=4),
        help="for files larger than memory: what the process may hold, such as 2GB; the ratings are then kept on disk, and "
        "the result is the same",
    ),
]
Seed = Annotated[
    int,
    Parameter(converter=whole(0, 2**32 - 1), help="same data, flags and seed: same result (0 to 4294967295)"),
]
Threads = Annotated[
    int | None,
    Parameter(
        converter=whole(1),
        help="threads to train with; the result does not depend on them [default: all cores]",
    ),
]


@Parameter(name="*", group=Group("Training", sort_key=3))
@dataclass(frozen=True)
class Training:
    """What `Algorithm.fit` takes beside the ratings."""

    seed: Seed = SEED
    threads: Threads = None
    valid: Annotated[
        float | None,
        Parameter(
            converter=above_zero(1, "0.1"),
            help="share of the training part to validate on after each epoch, as 0.1",
        ),
    ] = None
    checkpoint: Annotated[
        Path | None,
        Parameter(
            converter=file_path,
            help="file to save the state of training in now and then, and when it is stopped",
        ),
    ] = None
    checkpoint_epochs: Annotated[
        int | None, Parameter(converter=whole(1), help="save the state after so many epochs")
    ] = None
    checkpoint_seconds: Annotated[
        float | None,
        Parameter(
            converter=above_zero(math.inf, "60"), help="save the state after so many seconds [default: 60]"
        ),
    ] = None
    resume: Annotated[
        bool,
        Parameter(help="go on from the --checkpoint file, if it exists, to the same result as in one go"),
    ] = False
    no_seen: Annotated[
        bool, Parameter(help="leave the training ratings out of the model file, which then cannot tell what is new "
        "to a user")
    ] = False  # fmt: skip

    def check(self, recipe: Algorithm, source: str) -> None:
        """Refuse what cannot work before any time is spent."""
        for name in ("checkpoint_epochs", "checkpoint_seconds", "resume"):
            if getattr(self, name) not in (None, False) and self.checkpoint is None:
                raise ParameterError(f"{flag(name)} needs to know the file: add --checkpoint FILE")
        if getattr(recipe, "patience", None) is not None and self.valid is None:
            raise ParameterError("--patience needs ratings to validate on: add --valid 0.1")
        if self.checkpoint is not None:
            refuse_unwritable(self.checkpoint.parent, [self.checkpoint.name], "--checkpoint", [source])

    @property
    def hint(self) -> str:
        """Return a hint on how to continue a training that was stopped."""
        return "; --resume goes on from the checkpoint" if self.checkpoint is not None else ""

    def fit(self, recipe: Algorithm, train: Ratings, *, progress: bool) -> FactorModel:
        """Fit the recipe to the ratings."""
        from hatrix.models.fit import Checkpoint

        checkpoint = None
        if self.checkpoint is not None:
            self.checkpoint.parent.mkdir(parents=True, exist_ok=True)
            seconds = self.checkpoint_seconds or (None if self.checkpoint_epochs else 60.0)
            checkpoint = Checkpoint(self.checkpoint, self.checkpoint_epochs, seconds)
        return recipe.fit(
            train,
            self.valid,
            seed=self.seed,
            threads=self.threads,
            progress=progress,
            checkpoint=checkpoint,
            resume=self.checkpoint if self.resume else None,
        )


def with_recipe(
    command: Callable[..., None], recipe: type[Algorithm] | None, **given: Any
) -> Callable[..., None]:
    """The command with a flag for each hyper-parameter of the recipe in place of its parameter ``recipe``.

    Type, bounds, default and help are those of the recipe's fields. What is ``given`` is no flag.
    """
    signature = inspect.signature(command, eval_str=True)
    kept = [one for one in signature.parameters.values() if one.name != "recipe" and one.name not in given]
    declared = recipe.model_fields if recipe else {}
    group = Group(f"Hyper-parameters of {recipe.name if recipe else None}", sort_key=1)
    called = {name: called for name, field in declared.items() if (called := _called(name, field))}
    made = [_hyper_parameter(name, declared[name], group) for name in called]

    def filled(*args: Any, **kwargs: Any) -> None:
        chosen = {name: kwargs.pop(as_flag) for name, as_flag in called.items() if as_flag in kwargs}
        command(*args, **kwargs, **given, **({"recipe": recipe(**chosen)} if recipe else {}))

    filled.__signature__ = signature.replace(parameters=[*kept, *made])  # type: ignore[attr-defined]
    filled.__doc__ = command.__doc__
    return filled


def _called(name: str, field: FieldInfo) -> str | None:
    """Return the name of a hyper-parameter's flag: its own, unless the declaration says another one, or none at all."""
    extra = field.json_schema_extra
    found = extra.get("flag", name) if isinstance(extra, dict) else name
    return None if found is None else str(found)


def _holds_recipes(field: FieldInfo) -> bool:
    from hatrix.models.fit import Algorithm
    from hatrix.models.hyperparameters import bare, kinds

    found = [bare(inner) for kind in kinds(field) for inner in (get_args(kind)[:1] or (kind,))]
    return any(isinstance(kind, type) and issubclass(kind, Algorithm) for kind in found)


def _of_recipes(name: str, field: FieldInfo, group: Group) -> inspect.Parameter:
    """Return the flag of a hyper-parameter that is a recipe, or several: it takes names of algorithms."""
    from hatrix.models.hyperparameters import words

    several = get_origin(field.annotation) is tuple

    def convert(_type: Any, tokens: Sequence[Token]) -> Any:
        given = tokens[0].value
        if given == "none" and type(None) in get_args(field.annotation):
            return None
        if given in words(field):
            return given
        try:
            found = [algorithm(one.strip())() for one in (given.split(",") if several else [given])]
        except ParameterError as error:
            raise ValueError(str(error)) from None
        return found if several else found[0]

    required = field.is_required()
    parameter = Parameter(
        help=field.description, group=group, converter=convert, accepts_keys=False, n_tokens=1,
        show_default=False if required else (lambda given: given if isinstance(given, str) else given.name),
    )  # fmt: skip
    return inspect.Parameter(
        _called(name, field) or name,
        inspect.Parameter.KEYWORD_ONLY,
        default=inspect.Parameter.empty if required else field.default,
        annotation=Annotated[Any, parameter],
    )


def _hyper_parameter(name: str, field: FieldInfo, group: Group) -> inspect.Parameter:
    from hatrix.models.hyperparameters import words

    if _holds_recipes(field):
        return _of_recipes(name, field, group)
    bounds = _bounds(field)
    is_switch = field.annotation is bool
    parameter = Parameter(
        help=f"{field.description} ({bounds})" if bounds else field.description,
        group=group,
        converter=None if is_switch else _checked(field, bounds),
        negative=flag(f"no_{name}") if is_switch and field.default else (),
        show_choices=not words(field),
        show_default=(lambda names: ",".join(names)) if get_origin(field.annotation) is tuple else None,
    )
    annotation = Annotated[field.annotation, parameter]  # type: ignore[name-defined]
    return inspect.Parameter(
        name, inspect.Parameter.KEYWORD_ONLY, default=field.default, annotation=annotation
    )


def _checked(field: FieldInfo, bounds: str) -> Callable[[Any, Sequence[Token]], Any]:
    """A converter to the type of the field, within its bounds."""

    def convert(_type: Any, tokens: Sequence[Token]) -> Any:
        from pydantic import ConfigDict, TypeAdapter, ValidationError

        from hatrix.models.hyperparameters import kinds, words

        several = get_origin(field.annotation) is tuple
        texts = [text for token in tokens for text in (token.value.split(",") if several else [token.value])]
        if texts[0].lower() == "none" and "none" in words(field):
            return None
        declared: Any = field.annotation
        for bound in field.metadata:
            declared = Annotated[declared, bound]
        checked = TypeAdapter(declared, config=ConfigDict(allow_inf_nan=False))
        try:
            return checked.validate_python(tuple(texts)) if several else checked.validate_strings(texts[0])
        except ValidationError:
            allowed = f"{_kind(kinds(field)[0])} {bounds}".strip()
            raise ValueError(f"give {allowed}, not {','.join(texts)!r}") from None

    return convert


def _bounds(field: FieldInfo) -> str:
    """The bounds of a field in words, and what stands for no number."""
    from hatrix.models.hyperparameters import bounds, words

    said = {"ge": "from {}", "gt": "above {}", "le": "to {}", "lt": "below {}"}
    said["multiple_of"] = "in steps of {}"
    found = bounds(field)
    text = " ".join(said[sign].format(f"{value:g}") for sign, value in found.items())
    text += " up" * (list(found) == ["ge"])
    beside = " or ".join(words(field))
    return f"{text}, or {beside}" if beside else text


def _kind(annotation: Any) -> str:
    """The values of a type in words."""
    if get_origin(annotation) is tuple:
        return _kind(get_args(annotation)[0]) + ", or several with commas between"
    if get_origin(annotation) is Literal:
        return "one of " + ", ".join(map(str, get_args(annotation)))
    return {int: "a whole number", float: "a number"}.get(annotation, "a value")


def algorithms_with(option: str) -> list[str]:
    """Names of the algorithms that have a hyper-parameter of this flag."""
    return [name for name in ALGORITHMS | COMBINATIONS if option in _flags_of(name)]


def _flags_of(name: str) -> list[str]:
    fields = recipe_type(name).model_fields.items()
    return [flag(called) for each, field in fields if (called := _called(each, field))]


def algorithm_in(tokens: Iterable[str], command: App) -> str | None:
    """What the second positional argument among the tokens of a command says, if there is one.

    Its flags can only be known after the algorithm, and it can come after its flags.

    Parameters
    ----------
    tokens
        What follows the name of the command.
    command
        The command without the flags of any algorithm.
    """
    takes = dict.fromkeys(["--help", "-h", "--version"], 0)
    for name in ALGORITHMS | COMBINATIONS:
        for field, info in recipe_type(name).model_fields.items():
            if info.annotation is bool:
                takes |= {flag(field): 0, flag(f"no_{field}"): 0}
    for argument in command.assemble_argument_collection():
        takes |= dict.fromkeys(argument.names, argument.token_count()[0])
        takes |= dict.fromkeys(argument.negatives, 0)
    positional: list[str] = []
    rest = iter(tokens)
    for token in rest:
        if token == "--":
            positional += rest
        elif token.startswith("-") and token != "-":
            for _ in range(0 if "=" in token else takes.get(token, 1)):
                next(rest, None)
        else:
            positional.append(token)
    return positional[1] if len(positional) > 1 else None


def _number_or_text(text: str) -> int | float | str:
    for convert in (int, float):
        try:
            return convert(text)
        except ValueError:
            continue
    return text
