"""Test ratings larger than memory: the figures are those of all of them, tables and charts those of an even sample."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

import hatrix as hx
from hatrix.evaluation import candidates, lists, ranking, rating, tally
from hatrix.evaluation import evaluate as module
from hatrix.models import model as models
from on_disk import on_disk

EXACT = {"rel": 1e-12, "abs": 1e-14}


@pytest.fixture
def small_slices(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "AT_ONCE", 97)
    monkeypatch.setattr(models, "MOST_ASKED", 101)


def same_figures(found: hx.Evaluation, wanted: hx.Evaluation) -> None:
    assert (found.n, found.fallbacks, found.warnings) == (wanted.n, wanted.fallbacks, wanted.warnings)
    assert found.clipped_share == wanted.clipped_share
    for name in ("mse", "rmse", "mae"):
        assert getattr(found, name) == pytest.approx(getattr(wanted, name), **EXACT)
        assert found.intervals[name] == pytest.approx(wanted.intervals[name], nan_ok=True, **EXACT)
    for name in ("raw", "constant"):
        assert getattr(found, name) == pytest.approx(getattr(wanted, name), **EXACT)


def strangers(split: hx.Split) -> hx.Ratings:
    """Training and test ratings, some of them of users and items that the model does not know."""
    test, train = split.test.to_frame(), split.train.to_frame().head(40)
    columns = [np.concatenate([test[name], train[name]]) for name in ("user", "item", "rating")]
    columns[0][:30] += 1000
    columns[1][20:60] += 1000
    return hx.Ratings.from_columns(*columns)


@pytest.mark.parametrize("memory", [10**10, 10**6])
@pytest.mark.usefixtures("small_slices")
def test_the_figures_are_those_in_memory(model, split, memory, tmp_path):
    for number, test in enumerate((split.test, strangers(split))):
        wanted = hx.evaluate(model, test)
        (tmp_path / str(number)).mkdir()
        found = hx.evaluate(model, on_disk(test, tmp_path / str(number), memory))
        same_figures(found, wanted)
        assert found.test.disk is None
        if memory == 10**10:
            assert not found.is_sampled
            assert found.predictions().equals(wanted.predictions())
            assert "sampled" not in found.to_dict()


@pytest.mark.parametrize("users", [1, 2, 9, 10, 11])
@pytest.mark.usefixtures("small_slices")
def test_intervals_of_few_users(model, split, users, tmp_path):
    few = split.train.take(split.train.user < users)
    same_figures(hx.evaluate(model, on_disk(few, tmp_path)), hx.evaluate(model, few))


@pytest.mark.usefixtures("small_slices")
def test_tables_are_of_an_even_sample(model, split, tmp_path, monkeypatch):
    monkeypatch.setattr(module, "SAMPLED", 50)
    test = on_disk(split.test, tmp_path)
    found, again, other = hx.evaluate(model, test), hx.evaluate(model, test), hx.evaluate(model, test, seed=1)
    same_figures(found, hx.evaluate(model, split.test))
    assert found.is_sampled
    assert (len(found.test), found.to_dict()["sampled"]) == (50, 50)
    assert found.predictions().equals(again.predictions())
    assert not found.predictions().equals(other.predictions())
    whole = hx.evaluate(model, split.test).predictions()
    every = list(map(tuple, whole.itertuples(index=False)))
    place = [every.index(row) for row in map(tuple, found.predictions().itertuples(index=False))]
    ends = np.arange(51) * len(every) // 50
    assert all(low <= at < high for low, at, high in zip(ends[:-1], place, ends[1:], strict=True))
    assert found.anatomy.by_rating["count"].sum() == 50
    found.report(tmp_path / "report.html")
    assert "all else is of an even sample of 50." in (tmp_path / "report.html").read_text()


def test_a_report_without_a_sample_says_nothing_of_one(result, tmp_path):
    result.report(tmp_path / "report.html")
    assert "even sample" not in (tmp_path / "report.html").read_text()


def test_errors_that_cannot_be_squared(model, split, tmp_path):
    vast = replace(split.test, value=split.test.value * 1e200, scale=None)
    with pytest.raises(hx.HatrixError, match="cannot be squared: check the ratings, which go from"):
        hx.evaluate(model, on_disk(vast, tmp_path))


def test_slices_are_the_same_whether_cells_are_numbered_or_listed(monkeypatch):
    rng = np.random.default_rng(0)
    error, user, part = rng.normal(size=500), rng.integers(0, 300, 500) * 7, rng.integers(0, 4, 500)
    numbered = rating.sliced(error, user, part, 6)
    monkeypatch.setattr(rating, "CELLS", 0)
    listed = rating.sliced(error, user, part, 6)
    for name, figures in vars(numbered).items():
        np.testing.assert_allclose(getattr(listed, name), figures, rtol=1e-12)


def test_a_tally_of_slices_is_that_of_all():
    rng = np.random.default_rng(0)
    error, user = rng.normal(2, 0.001, 1000), rng.integers(0, 3, 1000)
    count = np.bincount(user)
    whole, parts = tally.Tally(count), tally.Tally(count)
    whole.add(error, user)
    for first in range(0, 1000, 37):
        parts.add(error[first : first + 37], user[first : first + 37])
    options = {"draws": 10, "confidence": 0.9, "seed": 0}
    assert parts.errors == pytest.approx(whole.errors, **EXACT)
    for name, ends in whole.intervals(**options).items():
        assert parts.intervals(**options)[name] == pytest.approx(ends, **EXACT)


@pytest.mark.usefixtures("small_slices")
def test_which_rows_were_seen_slice_by_slice(model, split, tmp_path):
    test = strangers(split)
    wanted = model.was_seen(*model.rows_of(test))
    found = list(model.seen_among(on_disk(test, tmp_path)))
    assert len(found) > 3
    assert np.concatenate([mask for _, mask in found]).tolist() == wanted.tolist()
    assert wanted.any()


@pytest.mark.parametrize("options", [{}, {"negatives": 7}, {"relevant_from": 4, "k": (3, 10)}], ids=str)
def test_rankings_go_by_blocks_of_users(model, split, options, tmp_path, monkeypatch):
    test = strangers(split)
    wanted = hx.evaluate_ranking(model, test, **options)
    monkeypatch.setattr(candidates, "BYTES_PER_SEEN", 10**7)
    monkeypatch.setattr(lists, "CELLS_AT_ONCE", 1000)
    monkeypatch.setattr(ranking, "OVERLAP_AT_ONCE", 50)
    blocks = []
    monkeypatch.setattr(candidates, "let_go", lambda array, part: blocks.append((array, part)))
    found = hx.evaluate_ranking(model, on_disk(test, tmp_path), **options)
    assert sum(array is model.seen.item for array, _ in blocks) > 5
    assert found.lists.tolist() == wanted.lists.tolist()
    assert (found.left_out, found.warnings) == (wanted.left_out, wanted.warnings)
    assert found.table().drop(columns="among").to_numpy() == pytest.approx(
        wanted.table().drop(columns="among").to_numpy(), nan_ok=True, **EXACT
    )


def test_rankings_of_more_than_memory_allows_are_refused(model, split, tmp_path, monkeypatch):
    monkeypatch.setattr(candidates, "BYTES_PER_ROW", 10**9)
    with pytest.raises(
        hx.HatrixError, match=r"held-out rows take [0-9,]+ MB, and [0-9,]+ of the 10,000 MB allowed"
    ):
        hx.evaluate_ranking(model, on_disk(split.test, tmp_path))
