from __future__ import annotations

import itertools
import json
from dataclasses import replace

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import hatrix as hx
from hatrix.evaluation.anatomy import rounded_predictions


def test_anatomy_equals_groupbys(result, split, model):
    frame = result.predictions()
    frame["genres"] = split.test.item_table["genres"].to_numpy()[split.test.item]
    frame["year"] = split.test.item_table["year"].to_numpy(float, na_value=np.nan)[split.test.item]
    anatomy = result.anatomy
    by_rating = frame.groupby("rating").error.agg(lambda e: np.sqrt(np.mean(e**2)))
    assert anatomy.by_rating["slice"].tolist() == [f"{value:g}" for value in by_rating.index]
    np.testing.assert_allclose(anatomy.by_rating.rmse, by_rating)
    by_genre = {row["slice"]: row for row in anatomy.by_genre.to_dict("records")}
    comedy, war = frame[frame.genres.str.contains("Comedy", na=False)], frame[frame.genres == "Comedy|War"]
    assert by_genre.keys() == {"Comedy", "War"}
    assert (by_genre["Comedy"]["count"], by_genre["War"]["count"]) == (len(comedy), len(war))
    assert by_genre["War"]["bias"] == pytest.approx(war.error.mean())
    decades = frame.dropna(subset="year").groupby(frame.year // 10 * 10).size()
    assert anatomy.by_decade["slice"].tolist() == [f"{int(decade)}s" for decade in decades.index]
    assert anatomy.by_decade["count"].tolist() == decades.tolist()
    counts = model.user_count[result.user]
    assert anatomy.by_activity["count"].sum() == anatomy.by_popularity["count"].sum() == len(counts)
    assert (
        anatomy.by_activity["slice"].tolist() == ["20–49"] or "10–19" in anatomy.by_activity["slice"].tolist()
    )
    assert anatomy.by_period["count"].sum() == len(frame)
    assert anatomy.residuals["count"].sum() == len(frame)
    assert anatomy.calibration["count"].sum() == len(frame)
    assert anatomy.confusion["count"].sum() == len(frame)
    weighted = np.average(anatomy.calibration.actual, weights=anatomy.calibration["count"])
    assert weighted == pytest.approx(frame.rating.mean())


def test_the_notebooks_error_analysis(result, split):
    errors = []
    for predicted, actual in zip(result.raw_predicted, split.test.value, strict=True):
        errors.append(abs(round(predicted) - actual))
    series = pd.Series(errors)
    pd.testing.assert_series_equal(result.anatomy.rounded_describe, series.describe(), check_names=False)
    counts = series.value_counts().sort_index()
    assert result.anatomy.rounded_counts.error.tolist() == counts.index.tolist()
    assert result.anatomy.rounded_counts["count"].tolist() == counts.tolist()


def test_the_range_over_all_pairs(split):
    model = hx.MF(epochs=5).fit(split.train)
    scores = model.user_factors.astype(float) @ model.item_factors.astype(float).T
    values, counts = np.unique(np.round(scores), return_counts=True)
    table = rounded_predictions(model)
    assert table.predicted.tolist() == values.tolist()
    assert table["count"].tolist() == counts.tolist()
    assert not table.attrs["sampled"]
    part = rounded_predictions(model, most=1000)
    assert part.attrs["sampled"]
    assert part["count"].sum() <= 1000


def test_the_worst_and_the_costliest(result):
    worst, items = result.anatomy.worst, result.anatomy.items
    assert len(worst) == 50
    size = np.sort(np.abs(result.predictions().error))[::-1][:50]
    np.testing.assert_allclose(np.abs(worst.error), size)
    assert worst.title.dropna().str.startswith("Film").all()
    assert items.share.is_monotonic_decreasing
    assert items.share.sum() < 1


TABLES = ("by_rating", "by_activity", "by_popularity", "by_genre", "by_decade", "by_period", "rounded_describe",
          "rounded_counts", "prediction_range", "residuals", "calibration", "confusion", "worst", "items")  # fmt: skip


@settings(deadline=None, max_examples=25)
@given(
    st.lists(
        st.tuples(st.integers(0, 5), st.integers(0, 5), st.floats(-100, 100, width=32)),
        min_size=1,
        max_size=40,
    ),
    st.booleans(),
)
def test_every_table_can_be_made_of_any_ratings(rows, timed):
    user, item, value = zip(*rows, strict=True)
    time = np.arange(len(rows)) * 10**9 - 10**10 if timed else None
    ratings = hx.Ratings.from_columns(user, item, value, time=time)
    found = hx.evaluate(hx.Bias().fit(ratings), ratings, bootstrap=20)
    for name in TABLES:
        table = getattr(found.anatomy, name)
        if name in ("by_genre", "by_decade"):
            assert table is None
        elif name == "by_period":
            assert (table is None) == (not timed)
        elif name != "confusion":
            assert len(table) >= (name != "items")
    json.dumps(found.to_dict(), allow_nan=False)


def test_the_tables_of_the_model_serve_where_the_test_data_have_none(model, split):
    bare = replace(split.test, item_table=None)
    ours, theirs = (hx.evaluate(model, part).anatomy for part in (bare, split.test))
    pd.testing.assert_frame_equal(ours.by_genre, theirs.by_genre)
    pd.testing.assert_frame_equal(ours.by_decade, theirs.by_decade)
    assert ours.worst.title.tolist() == theirs.worst.title.tolist()


def slices(frame, key):
    """Count, RMSE, MAE and bias of each group, as pandas computes them."""
    grouped = frame.groupby(key).error
    figures = {
        "count": grouped.size(),
        "rmse": grouped.apply(lambda e: (e**2).mean() ** 0.5),
        "mae": grouped.apply(lambda e: e.abs().mean()),
        "bias": grouped.mean(),
    }
    return pd.DataFrame(figures)


def same(table, wanted, labels):
    assert table["slice"].tolist() == labels
    for name in wanted:
        np.testing.assert_allclose(table[name], wanted[name], err_msg=name)


def test_movielens_equals_pandas(ml_100k):
    split = hx.split.per_user(ml_100k)
    result = hx.evaluate(hx.Bias().fit(split.train), split.test, bootstrap=10)
    train, anatomy = split.train.to_frame(), result.anatomy
    frame = result.predictions().assign(time=pd.to_datetime(split.test.time, unit="s"))
    same(anatomy.by_rating, slices(frame, "rating"), list("12345"))
    edges = [0, 1, 10, 20, 50, 100, 200, 500, 1000]
    for table, role in ((anatomy.by_activity, "user"), (anatomy.by_popularity, "item")):
        known = train.groupby(role).size().reindex(frame[role]).fillna(0).to_numpy()
        wanted = slices(frame, pd.cut(known, edges, right=False).codes)
        labels = ["0", *(f"{low}–{high - 1}" for low, high in itertools.pairwise(edges[1:]))]
        same(table, wanted, [labels[code] for code in wanted.index])
    months = frame.time.dt.strftime("%Y-%m")
    same(anatomy.by_period, slices(frame, months), sorted(months.unique()))
    about = ml_100k.item_table.iloc[split.test.item].reset_index(drop=True)
    years = pd.to_numeric(about.year).astype(float)
    decades = slices(frame[years.notna()], years.dropna() // 10 * 10)
    same(anatomy.by_decade, decades, [f"{int(decade)}s" for decade in decades.index])
    each = (
        frame.assign(genre=about.genres.astype(object).str.split("|")).explode("genre").dropna(subset="genre")
    )
    genres = slices(each[each.genre != ""], "genre").sort_values("count", ascending=False, kind="stable")
    same(anatomy.by_genre, genres, genres.index.tolist())


def timed(time, users=30):
    n = len(time)
    columns = np.arange(n) % users, np.arange(n), np.arange(n) % 5 + 1.0
    return replace(hx.Ratings.from_columns(*columns), time=np.asarray(time, np.int64))


def period(time):
    ratings = timed(time)
    return hx.evaluate(hx.Bias().fit(ratings), ratings, bootstrap=2).anatomy.by_period


DAY = 86_400


@pytest.mark.parametrize(
    ("time", "labels"),
    [
        ([0, 40 * DAY, 41 * DAY], ["1970-01", "1970-02"]),
        ([-1, 0], ["1969-12", "1970-01"]),
        ([946684800000, 978307200000], ["2000-01", "2001-01"]),
        ([0, 1600 * DAY], ["1970Q1", "1974Q2"]),
        ([0, 4000 * DAY], ["1970", "1980"]),
        ([0, 20_000 * DAY], ["1970s", "2020s"]),
        ([-(10**11) + 1, 10**11 - 1], ["-2000 to -1001", "5000 to 5999"]),
        ([np.iinfo(np.int64).min, 5], ["1970-01"]),
        ([np.iinfo(np.int64).max - 1, -np.iinfo(np.int64).max + 1], ["1600 to 1699", "2200 to 2299"]),
    ],
)
def test_periods_fit_the_span(time, labels):
    table = period(time)
    assert table["slice"].tolist() == labels


def test_times_that_are_all_missing_are_none():
    assert period([np.iinfo(np.int64).min] * 3) is None


@settings(deadline=None, max_examples=40)
@given(st.lists(st.integers(-(2**63), 2**63 - 1), min_size=1, max_size=30))
def test_any_time_falls_into_one_of_few_periods(time):
    table = period(time)
    if table is not None:
        assert 0 < len(table) <= 36
        assert table["slice"].is_unique


def described(item_table, n=60):
    ratings = timed(np.arange(n))
    ratings = replace(ratings, item_table=item_table)
    return hx.evaluate(hx.Bias().fit(ratings), ratings, bootstrap=2).anatomy


def test_odd_genres_and_years():
    genres = [" War | War||Comedy", None, np.nan, "", "|", 7] + ["Drama"] * 54
    years = ["1999", "soon", None, 1e300, np.inf, -44, 1985.0] + [1999] * 53
    anatomy = described(
        pd.DataFrame({"genres": pd.Series(genres, dtype=object), "year": pd.Series(years, dtype=object)})
    )
    assert anatomy.by_genre["slice"].tolist() == ["Drama", "Comedy", "War"]
    assert anatomy.by_genre["count"].tolist() == [54, 1, 1]
    assert anatomy.by_decade["slice"].tolist() == ["-100 to -1", "1900 to 1999"]
    assert anatomy.by_decade["count"].tolist() == [1, 55]


def test_tables_without_anything_in_them_are_none():
    anatomy = described(pd.DataFrame({"genres": [None] * 60, "year": [None] * 60, "title": [None] * 60}))
    assert anatomy.by_genre is None
    assert anatomy.by_decade is None
    assert anatomy.worst.title.isna().all()
    assert anatomy.items.title.isna().all()


def test_of_very_many_genres_the_most_rated_are_shown():
    anatomy = described(pd.DataFrame({"genres": ["|".join(map(str, range(n + 1))) for n in range(60)]}))
    assert len(anatomy.by_genre) == 40
    assert anatomy.by_genre["count"].tolist() == list(range(60, 20, -1))


@pytest.mark.parametrize(
    ("values", "labels"),
    [
        ([0.5, 1, 4.5, 5], ["0.5", "1", "4.5", "5"]),
        ([1.00001, 1.00002], ["1.00001", "1.00002"]),
        ([-0.0, 12345.0], ["0", "1.234e+04"]),
        ([0.1, 0.1 + 2**-56, 0.1 + 2**-55], None),
    ],
)
def test_ratings_are_written_apart(values, labels):
    n = len(values)
    ratings = hx.Ratings.from_columns(np.arange(n), np.arange(n), values)
    table = hx.evaluate(hx.Bias().fit(ratings), ratings).anatomy.by_rating
    assert table["slice"].is_unique
    assert labels is None or table["slice"].tolist() == labels


def test_continuous_ratings_are_cut_into_tenths():
    rng = np.random.default_rng(0)
    ratings = hx.Ratings.from_columns(rng.integers(0, 50, 900), np.arange(900), rng.uniform(0, 1e6, 900))
    anatomy = hx.evaluate(hx.MF(epochs=1, learning_rate=1e-9).fit(ratings), ratings).anatomy
    assert anatomy.by_rating["count"].tolist() == [90] * 10
    assert anatomy.confusion is None
    for table in (anatomy.prediction_range, anatomy.rounded_counts, anatomy.residuals):
        assert 0 < len(table) <= 402
        assert table["count"].sum() == 900


@pytest.mark.parametrize("values", [[7.0], [1e9, 1e9 + 1e-6], [1e30, -1e30], [1e-300, 2e-300], [0.0, 0.0]])
def test_ratings_at_the_edge_of_numbers(values):
    n = len(values)
    ratings = hx.Ratings.from_columns(np.arange(n), np.arange(n), values)
    found = hx.evaluate(hx.Bias().fit(ratings), ratings)
    for name in TABLES:
        getattr(found.anatomy, name)
    residuals = found.anatomy.residuals
    assert residuals["count"].sum() == n
    assert (residuals.high > residuals.low).all()
    json.dumps(found.to_dict(), allow_nan=False)


def test_slices_count_every_rating_once(result):
    for name in ("by_rating", "by_activity", "by_popularity", "by_period"):
        table = getattr(result.anatomy, name)
        assert table["count"].sum() == result.n
        assert np.average(table.rmse**2, weights=table["count"]) == pytest.approx(result.mse)
        assert np.average(table.mae, weights=table["count"]) == pytest.approx(result.mae)


@pytest.mark.parametrize("by", ["rating", "activity", "popularity", "genre", "decade", "period"])
def test_the_rows_of_a_slice_are_those_that_its_figures_are_of(result, by):
    table, error = getattr(result.anatomy, f"by_{by}"), result.predicted - result.test.value
    for row in table.itertuples():
        rows = result.anatomy.rows_of(by, row.slice)
        assert len(set(rows.tolist())) == len(rows) == row.count
        assert np.sqrt((error[rows] ** 2).mean()) == pytest.approx(row.rmse)
        assert error[rows].mean() == pytest.approx(row.bias)
    assert len(result.anatomy.rows_of(by, "no such slice")) == 0


def test_residuals_and_calibration_equal_loops(result):
    frame, anatomy = result.predictions(), result.anatomy
    for row in anatomy.residuals.itertuples():
        inside = (frame.error >= row.low) & (frame.error < row.high)
        assert row.count == inside.sum() or row.Index == len(anatomy.residuals) - 1
    edges = np.linspace(frame.predicted.min(), frame.predicted.max(), 21)
    part = np.clip(np.digitize(frame.predicted, edges) - 1, 0, 19)
    means = frame.groupby(part)[["predicted", "rating"]].mean()
    np.testing.assert_allclose(anatomy.calibration.predicted, means.predicted)
    np.testing.assert_allclose(anatomy.calibration.actual, means.rating)


def test_confusion_equals_a_crosstab(result):
    nearest = np.floor(result.predicted + 0.5)
    wanted = pd.crosstab(result.test.value, nearest).stack()
    wanted = wanted[wanted > 0]
    table = result.anatomy.confusion.set_index(["actual", "predicted"])["count"]
    assert table.to_dict() == wanted.to_dict()


def test_intervals_of_two_ratings_stay_within_the_scale(model, split):
    found = hx.evaluate(model, split.test)
    rows = np.array(
        [
            int(np.argmin(found.predicted - split.test.value)),
            int(np.argmax(found.predicted - split.test.value)),
        ]
    )
    anatomy = hx.evaluate(model, replace(split.test, time=split.test.time * 0).take(rows)).anatomy
    row = anatomy.by_period.iloc[0]
    assert (row.bias_low, row.bias_high) == (-4, 4)
    assert row.rmse_high <= 4
    one = replace(found, test=split.test, raw_predicted=np.full(found.n, 3.0)).anatomy.calibration
    assert len(one) == 1
    assert 1 <= one.actual_low[0] < one.actual[0] < one.actual_high[0] <= 5
