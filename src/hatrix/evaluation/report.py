"""The report of an evaluation: one HTML file that needs nothing else, not even a network."""

from __future__ import annotations

import hashlib
import os
from base64 import b64encode
from collections.abc import Mapping
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

from hatrix import _files
from hatrix._checks import path_of, shown
from hatrix.errors import DataError, ParameterError

if TYPE_CHECKING:
    from hatrix.evaluation.evaluate import Evaluation
    from hatrix.evaluation.layout import Story
    from hatrix.evaluation.measured import Measured
    from hatrix.evaluation.ranking import RankingEvaluation

__all__ = ["LIBRARIES", "library", "page", "policy", "render", "save", "story_of", "write"]

HERE = Path(__file__).parent
LIBRARIES = ("vega.min.js", "vega-lite.min.js", "vega-embed.min.js")


def write(
    evaluation: Evaluation | RankingEvaluation | Measured,
    path: str | os.PathLike[str],
    *,
    title: str | None = None,
    baselines: Mapping[str, Evaluation] | Mapping[str, RankingEvaluation] | None = None,
    protocol: str | None = None,
    command: str | None = None,
    model_file: str | None = None,
) -> None:
    """Write the report of an evaluation as one self-contained HTML file, atomically.

    The file works from a disk, offline and with a strict content policy: it loads nothing, and runs no script
    but its own, whatever titles, ids and genres contain.

    Parameters
    ----------
    evaluation
        What `hatrix.evaluate` or `hatrix.evaluate_ranking` returned, or `hatrix.evaluation.measured.measure`, which has
        both and its own baselines.
    path
        Where to write it; an existing file is replaced.
    title
        Heading; by default the algorithm and the name of the data.
    baselines
        Evaluations of other models on the same test part to compare with, by name. With predicted ratings, always
        predicting the training mean is compared in any case.
    protocol
        How the test part was made (`Split.protocol`); the report prints it.
    command
        The command that did all this, for the part on reproducing it.
    model_file
        The file of the model, if it was loaded and not trained in this process.

    Raises
    ------
    ParameterError
        If the path is a folder or lies in none.
    DataError
        If a baseline was evaluated on other ratings or users, or in another way.
    """
    path = path_of("path", path)
    about = {"protocol": protocol, "command": command, "model_file": model_file}
    save(render(evaluation, title=title, baselines=baselines, **about), path)


def render(
    evaluation: Evaluation | RankingEvaluation | Measured,
    *,
    title: str | None = None,
    baselines: Mapping[str, Evaluation] | Mapping[str, RankingEvaluation] | None = None,
    protocol: str | None = None,
    command: str | None = None,
    model_file: str | None = None,
) -> str:
    """Return the HTML of the report; `write` describes the parameters."""
    about = {"protocol": protocol, "command": command, "model_file": model_file}
    return page(story_of(evaluation, baselines, **about), title=title)


def story_of(
    evaluation: Evaluation | RankingEvaluation | Measured,
    baselines: Mapping[str, Evaluation] | Mapping[str, RankingEvaluation] | None = None,
    **about: str | None,
) -> Story:
    """Return what the report says; `write` describes the parameters."""
    from hatrix.evaluation import cautions, ranking_sections, sections, snippets
    from hatrix.evaluation.layout import of_both
    from hatrix.evaluation.measured import Measured
    from hatrix.evaluation.ranking import RankingEvaluation

    if isinstance(evaluation, Measured):
        both = [one for one in (evaluation.errors, evaluation.lists) if one is not None]
        stories = [story_of(one, evaluation.baselines(one), **about) for one in both]
        story = stories[0]
        if len(stories) == 2:
            code = snippets.of_measured(evaluation, model=about.get("model_file"))
            story = of_both(stories[0], stories[1], sections.reproduce(code, about.get("command")))
        return story._replace(warnings=[*evaluation.warnings, *cautions.of_notes(evaluation.model.notes)])
    counted = "users" if isinstance(evaluation, RankingEvaluation) else "ratings"
    if not isinstance(baselines, Mapping | None):
        raise ParameterError(
            f"baselines is {shown(baselines)}: give evaluations by the names of their models, such as "
            '{"bias": hatrix.evaluate(model, test)}'
        )
    for name, other in (baselines or {}).items():
        if type(other) is not type(evaluation):
            raise DataError(
                f"baseline {name!r} is a {type(other).__name__} and the model's a {type(evaluation).__name__}: "
                "evaluate both in the same way"
            )
        if other.n != evaluation.n:
            raise DataError(
                f"baseline {name!r} was evaluated on {other.n:,} {counted} and the model on {evaluation.n:,}: "
                "evaluate both on the same test part"
            )
    tell: Any = ranking_sections.story if isinstance(evaluation, RankingEvaluation) else sections.story
    told: Story = tell(evaluation, baselines or {}, **about)
    return told


def page(story: Story, *, title: str | None = None) -> str:
    """The HTML of a story: a page that loads nothing, and runs no script but its own."""
    from jinja2 import Environment, FileSystemLoader, StrictUndefined
    from jinja2.utils import htmlsafe_json_dumps
    from markupsafe import Markup

    import hatrix
    from hatrix.evaluation import charts

    template = HERE / "template"
    style = (template / "report.css").read_text(encoding="utf-8")
    scripts = [library(name) for name in LIBRARIES] + [(template / "report.js").read_text(encoding="utf-8")]
    environment = Environment(
        loader=FileSystemLoader(template),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters["json"] = lambda value: htmlsafe_json_dumps(
        value, allow_nan=False, separators=(",", ":")
    )
    return environment.get_template("report.html.jinja").render(
        **story._asdict() | {"title": title or story.title},
        policy=policy(style, scripts),
        style=Markup(style),
        scripts=[Markup(script) for script in scripts],
        licences=(HERE / "vendor" / "LICENSES.txt").read_text(encoding="utf-8"),
        look=charts.theme(),
        version=hatrix.__version__,
        date=f"{datetime.now(UTC):%d %B %Y, %H:%M} UTC",
    )


def save(html: str, path: str | os.PathLike[str]) -> None:
    """Write a page to a file, atomically.

    Raises
    ------
    ParameterError
        If the file cannot be written: the path is a folder or lies in none, or the disk is full.
    """
    place = path_of("path", path)
    # Ids may hold halves of surrogate pairs, which UTF-8 has no bytes for.
    data = html.encode("utf-8", "replace")
    try:
        with _files.replacing(place) as file:
            file.write(data)
    except OSError as error:
        raise ParameterError(
            f"{place} cannot be written: {error.strerror or error}. Give the name of a file in a folder that "
            "exists, such as report.html"
        ) from None


def library(name: str) -> str:
    """Return a vendored script without the address of its source map."""
    text = (HERE / "vendor" / name).read_text(encoding="utf-8")
    return "\n".join(line for line in text.split("\n") if not line.startswith("//# sourceMappingURL="))


def policy(style: str, scripts: list[str]) -> str:
    """Return a content policy under which nothing is loaded, and only this style and these scripts take effect."""
    return "; ".join(
        [
            "default-src 'none'",
            f"script-src {' '.join(map(_hash, scripts))}",
            f"style-src {_hash(style)}",
            "base-uri 'none'",
            "form-action 'none'",
        ]
    )


def _hash(text: str) -> str:
    return f"'sha256-{b64encode(hashlib.sha256(text.encode()).digest()).decode()}'"
