"""What the page shows of a model beyond the API: figures of the test rows, the data, the map. Each is made once."""

from __future__ import annotations

import json
from collections.abc import Mapping
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

import hatrix
from hatrix.app.problems import without_places
from hatrix.app.snapshots import stamp_of
from hatrix.errors import HatrixError
from hatrix.evaluation import cautions, findings, ranking_sections, sections
from hatrix.evaluation.layout import LISTS, Part, Section, Story, Tile
from hatrix.evaluation.measured import measure
from hatrix.evaluation.ranking import RankingEvaluation
from hatrix.evaluation.records import records
from hatrix.evaluation.report import story_of

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from hatrix.app.live import Served
    from hatrix.app.snapshots import Stamp
    from hatrix.data.ratings import Ratings
    from hatrix.evaluation.evaluate import Evaluation
    from hatrix.evaluation.measured import Measured

__all__ = ["LISTED", "Insight", "Lists"]

METRICS = "metrics.json"
ABOUT_MODEL = ("run", "training", "sure", f"{LISTS}run", f"{LISTS}training")
"""Sections of the report that the overview shows; most others are about errors."""
LEFT_OUT = ("worst", "reproduce")
"""Sections that the page has a better form of, or none."""
OF_THIS_PROCESS = ("Versions", "Python")
"""Facts of a report that are true where it is written, and not where a model file is read."""
FOLDED = ("Hyper-parameters",)
LISTED, MOST_LISTED = 10, 20_000


class Lists(NamedTuple):
    """Lists of recommendations turned around: ``user[start[i]:start[i + 1]]`` have item i in theirs, at ``place``."""

    start: NDArray[np.int64]
    user: NDArray[np.int64]
    place: NDArray[np.int64]
    users: int


class Insight:
    """What is worked out from one served model; every attribute on first use."""

    def __init__(self, served: Served, test: Path | None) -> None:
        self.served, self.model = served, served.model
        self._file = test
        self._stamps = self._stamps_now()

    def is_current(self) -> bool:
        """Whether the test file, and what ``hatrix run`` recorded beside it, are those that this was made for."""
        return self._stamps == self._stamps_now()

    def _stamps_now(self) -> tuple[Stamp | None, ...]:
        return () if self._file is None else (stamp_of(self._file), stamp_of(self._file.parent / METRICS))

    @property
    def test(self) -> Ratings | None:
        """The held-out rows, where there are any that can be read."""
        return self._read[0]

    @cached_property
    def _read(self) -> tuple[Ratings | None, str]:
        """The held-out rows, or None and why there are none."""
        if self._file is None or not self._file.exists():
            return None, (
                "No test ratings are at hand. Serve the folder that hatrix run wrote, with its test.parquet, or name "
                "a file of ratings that the model was not trained on with --test."
            )
        try:
            return hatrix.read(self._file, name=self.model.data_name), ""
        except (HatrixError, OSError) as error:
            return (
                None,
                f"The test ratings in {self._file.name} cannot be read: {without_places(error, self._file)}.",
            )

    @cached_property
    def recorded(self) -> Mapping[str, Any]:
        """What ``hatrix run`` wrote down about this model beside its test rows; empty where it did not."""
        if self._file is None:
            return {}
        try:
            facts = json.loads((self._file.parent / METRICS).read_text(encoding="utf-8"))
        except (OSError, ValueError):
            return {}
        model, test = self.model, self.test
        same = {
            "algorithm": model.recipe.name,
            "seed": model.seed,
            "n_train": int(model.user_count.sum()),
            "n_test": 0 if test is None else len(test),
        }
        known = isinstance(facts, dict) and all(facts.get(name) == value for name, value in same.items())
        return facts if known else {}

    @cached_property
    def untested(self) -> str | None:
        """Why there are no figures of test rows, or None where there are."""
        if self.test is None:
            return self._read[1]
        try:
            _ = self.evaluation
        except HatrixError as error:
            return f"The test ratings cannot be used: {error}."
        return None

    @cached_property
    def measured(self) -> Measured:
        """The errors and the lists on the test rows, beside those of the simplest models."""
        if self.test is None:
            raise ValueError("there are no test rows")
        return measure(self.model, self.test, threads=1)

    @property
    def evaluation(self) -> Evaluation | RankingEvaluation:
        """The errors, or the lists of a model that predicts no ratings."""
        return self.measured.main

    @cached_property
    def train(self) -> Ratings | None:
        """The training rows, where the file has them."""
        from hatrix.models.update import training_ratings

        return None if self.model.seen is None else training_ratings(self.model)

    @cached_property
    def story(self) -> Story:
        """What the report would say."""
        if self.untested is not None:
            return self._untold()
        return story_of(self.measured, protocol=self.recorded.get("split"))

    def _untold(self) -> Story:
        """The story of a model whose test rows are not known."""
        model = self.model
        rows, unit = int(model.user_count.sum()), findings.unit_of(model.scale)
        name, many = type(model.recipe).__name__, f"{rows:,} {'rows' if model.scale is None else 'ratings'}"
        seconds = sections.seconds_of(model.history)
        tiles = [Tile("Training rows" if model.scale is None else "Training ratings", f"{rows:,}")]
        tiles += [Tile("Users", f"{len(model.users):,}"), Tile("Items", f"{len(model.items):,}")]
        if seconds is not None:
            tiles.append(Tile("Training", f"{seconds:.3g} s", f"{len(model.history):,} epochs"))
        ranks = model.rating_model is None
        trained = (
            ranking_sections.training(model)
            if ranks
            else sections.training(model.rating_model or model, unit)
        )
        facts = [
            fact for fact in sections.facts_of(model, 0, None) if fact[0] not in ("Test ratings", "Split")
        ]
        return Story(
            title=f"{name} on {model.data_name}",
            lead=f"{name} was trained on {many} by {len(model.users):,} users of {len(model.items):,} items.",
            tiles=tiles,
            findings=[],
            warnings=cautions.of_notes(model.notes),
            sections=[
                Section(
                    "run",
                    "The run",
                    "What was done",
                    (),
                    [Part(facts=facts), *sections.hyper_parameters(model)],
                ),
                trained,
            ],
        )

    def overview(self) -> dict[str, Any]:
        """The model card, the figures and the training curves."""
        model, story = self.model, self.story
        due = None if model.drift is None else model.drift.due
        shown = [self._served(part) for part in story.sections if part.key in ABOUT_MODEL]
        return {
            "unit": findings.unit_of(model.scale),
            "title": story.title,
            "lead": story.lead,
            "tiles": [tile._asdict() for tile in story.tiles],
            "findings": list(story.findings),
            "warnings": [*story.warnings, *([due] if due else [])],
            "sections": [_section(part) for part in shown],
            "untested": self.untested,
            "version": hatrix.__version__,
            "loaded": f"{self.served.loaded:%Y-%m-%d %H:%M} UTC",
        }

    @cached_property
    def levels(self) -> list[float] | None:
        """The ratings that people give, where they are few."""
        if self.model.scale is None or self.model.seen is None:
            return None
        distinct = np.unique(self.model.seen.value)
        return distinct.tolist() if 1 < len(distinct) <= 20 else None

    def _served(self, section: Section) -> Section:
        """The section with the version that is served instead of the versions of this process."""
        parts = [
            part._replace(
                facts=[fact for fact in part.facts if fact[0] not in OF_THIS_PROCESS]
                + ([("Version served", self.served.version)] if part.facts else []),
                tables=[
                    table._replace(folded=table.caption) if table.caption in FOLDED else table
                    for table in part.tables
                ],
            )
            for part in section.parts
        ]
        return section._replace(parts=parts)

    def errors(self) -> dict[str, Any]:
        """Where the model is wrong: the report's charts and words."""
        if self.untested is not None:
            return {"untested": self.untested}
        shown = [part for part in self.story.sections if part.key not in (*ABOUT_MODEL, *LEFT_OUT)]
        found = self.evaluation
        costly = [] if isinstance(found, RankingEvaluation) else records(found.anatomy.items)
        return {
            "untested": None,
            "task": "ranking" if isinstance(found, RankingEvaluation) else "rating",
            "lead": self.story.findings[0],
            "sections": [_section(part) for part in shown],
            "costly": costly,
        }

    @cached_property
    def places(self) -> NDArray[np.int64]:
        """For each held-out item of a ranking, its place in the longest list of its user, from 1; 0 where it is missed."""
        found = self.measured.lists
        if found is None:
            return np.empty(0, np.int64)
        owner, item = found.held.owner, found.held.item
        place = np.zeros(len(item), np.int64)
        for at in range(found.lists.shape[1]):
            place[found.lists[owner, at] == item] = at + 1
        return place

    def is_measured(self) -> bool:
        """Whether there are figures of test rows; what their rows are found by is there then, too."""
        if self.untested is None:
            _ = self.places
        return self.untested is None

    @cached_property
    def lists(self) -> Lists:
        """The ten items recommended to each user; of many users, to 20,000 drawn of them."""
        from hatrix.models.recommend import TopN

        model = self.model
        users = np.flatnonzero(model.user_count > 0)
        if len(users) > MOST_LISTED:
            users = np.sort(np.random.default_rng(0).choice(users, MOST_LISTED, replace=False))
        recommender = TopN.of(model, LISTED, exclude_seen=model.seen is not None, threads=1)
        items = recommender.lists(users).items
        row, place = np.nonzero(items >= 0)
        item = items[row, place]
        order = np.lexsort((row, place, item))
        start = np.searchsorted(item[order], np.arange(len(model.items) + 1))
        return Lists(start, users[row[order]], place[order] + 1, len(users))


def _section(section: Section) -> dict[str, Any]:
    """A section of the report as JSON."""
    return {
        "key": section.key,
        "title": section.title,
        "words": [words for words in section.words if words],
        "parts": [
            {
                "title": part.title,
                "words": [words for words in part.words if words],
                "figures": [figure._asdict() for figure in part.figures],
                "tables": [table._asdict() for table in part.tables],
                "facts": [list(fact) for fact in part.facts],
            }
            for part in section.parts
        ],
    }
