"""Ranking figures: those of ir-measures, and of counting by hand."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import hatrix as hx
from hatrix.errors import DataError, ParameterError
from hatrix.evaluation import ranking
from hatrix.models.model import FactorModel, Seen

CUTS = (1, 3, 10)


def ranker(scores, seen=()) -> FactorModel:
    """A model whose scores are the given matrix; ``seen`` are its training (user, item) pairs."""
    scores = np.asarray(scores, np.float64)
    m, n = scores.shape
    pairs = sorted(seen)
    user, item = np.array([p[0] for p in pairs], int), np.array([p[1] for p in pairs], np.int32)
    count = np.bincount(user, minlength=m)
    return FactorModel(
        hx.Popular(), hx.Ids(np.arange(m)), hx.Ids(np.arange(n)), 0.0, np.zeros(m), np.zeros(n), scores,
        np.eye(n), user_count=count, item_count=np.bincount(item, minlength=n), fallback=0.0, scale=None,
        seed=0, history=None, seen=Seen(np.concatenate([[0], np.cumsum(count)]), item, np.ones(len(item))),
    )  # fmt: skip


def clicks(pairs) -> hx.Ratings:
    return hx.Ratings.from_columns([u for u, _ in pairs], [i for _, i in pairs])


cases = st.integers(0, 10**6).map(np.random.default_rng)


def random_case(rng):
    m, n = rng.integers(1, 7), rng.integers(2, 15)
    scores = rng.integers(0, 4, (m, n)) if rng.random() < 0.5 else rng.random((m, n))
    cells = [(u, i) for u in range(m) for i in range(n)]
    seen = {cell for cell in cells if rng.random() < 0.3}
    held = [cell for cell in cells if cell not in seen and rng.random() < 0.3] or [cells[0]]
    return ranker(scores, seen), held, seen


@settings(max_examples=60, deadline=None)
@given(rng=cases)
def test_figures_equal_those_of_ir_measures(rng):
    ir_measures = pytest.importorskip("ir_measures")
    model, held, seen = random_case(rng)
    result = hx.evaluate_ranking(model, clicks(held), k=CUTS, bootstrap=1)
    scores, n = model.scores(model.users.labels), len(model.items)
    qrels = [ir_measures.Qrel(str(u), f"{n - i:04}", 1) for u, i in held]
    run = [
        # Each of its measures breaks ties in its own way; ours is the lower row, as the lists' own test shows.
        ir_measures.ScoredDoc(str(u), f"{n - i:04}", float(-place))
        for u in {u for u, _ in held}
        for place, i in enumerate(np.argsort(-scores[u], kind="stable"))
        if (u, i) not in seen
    ]
    names = {"recall": "R", "ndcg": "nDCG", "precision": "P", "hit_rate": "Success", "map": "AP", "mrr": "RR"}
    asked = {f"{theirs}@{k}": (ours, k) for ours, theirs in names.items() for k in CUTS}
    found = {key: {} for key in asked}
    for metric in ir_measures.iter_calc([ir_measures.parse_measure(m) for m in asked], qrels, run):
        found[str(metric.measure)][int(metric.query_id)] = metric.value
    for key, (ours, k) in asked.items():
        theirs = [found[key].get(u, 0.0) for u in result.users.tolist()]
        np.testing.assert_allclose(result.values[k][ours], theirs, atol=1e-9, rtol=0, err_msg=key)


@settings(max_examples=60, deadline=None)
@given(rng=cases)
def test_auc_is_the_share_of_pairs_in_the_right_order(rng):
    model, held, seen = random_case(rng)
    result = hx.evaluate_ranking(model, clicks(held), k=2, bootstrap=1)
    scores = model.scores(model.users.labels)
    for u, got in zip(result.users.tolist(), result.values[2]["auc"], strict=True):
        mine = {i for v, i in held if v == u}
        others = [i for i in range(len(model.items)) if i not in mine and (u, i) not in seen]
        pairs = [
            float(np.sign(scores[u, i] - scores[u, j]))
            for i in mine - {i for v, i in seen if v == u}
            for j in others
        ]
        right = sum((1 + sign) / 2 for sign in pairs)
        assert math.isnan(got) if not others else got == pytest.approx(right / (len(mine) * len(others)))


def test_training_items_are_not_shown_unless_asked_for():
    model = ranker([[3.0, 2.0, 1.0]], seen={(0, 0)})
    assert hx.evaluate_ranking(model, clicks([(0, 1)]), k=1).recall == 1.0
    assert hx.evaluate_ranking(model, clicks([(0, 1)]), k=1, exclude_seen=False).recall == 0.0


def test_unknown_items_count_as_missed_and_unknown_users_are_left_out():
    model = ranker([[3.0, 2.0, 1.0]])
    result = hx.evaluate_ranking(model, clicks([(0, 0), (0, 99), (7, 1)]), k=2)
    assert (result.n, result.recall, result.auc) == (1, 0.5, 0.5)
    assert result.left_out == {"unknown_users": 1, "unknown_items": 1, "cold_users": 1}
    assert any(warning.startswith("unknown:") for warning in result.warnings)


def test_relevance_may_begin_at_a_rating():
    model = ranker([[3.0, 2.0, 1.0]])
    test = hx.Ratings.from_columns([0, 0], [0, 2], [2.0, 5.0])
    assert hx.evaluate_ranking(model, test, k=1).recall == 0.5
    assert hx.evaluate_ranking(model, test, k=1, relevant_from=4.0).recall == 0.0
    with pytest.raises(ParameterError, match="needs ratings"):
        hx.evaluate_ranking(model, clicks([(0, 1)]), relevant_from=4.0)


def test_sampled_negatives_are_labelled_and_easier():
    ratings, _ = hx.synthetic.make(80, 60, n_ratings=1500, seed=3)
    split = hx.split.per_user(ratings)
    model = hx.Popular().fit(split.train)
    full = hx.evaluate_ranking(model, split.test, k=5)
    some = hx.evaluate_ranking(model, split.test, k=5, negatives=5, seed=1)
    assert some.recall > full.recall
    assert "5 sampled negatives" in some.protocol
    assert some.warnings[0].startswith("sampled:")
    again = hx.evaluate_ranking(model, split.test, k=5, negatives=5, seed=1)
    np.testing.assert_array_equal(some.values[5]["ndcg"], again.values[5]["ndcg"])


def test_given_negatives_are_the_only_ones():
    model = ranker([[4.0, 3.0, 2.0, 1.0]])
    result = hx.evaluate_ranking(model, clicks([(0, 2)]), k=1, negatives=clicks([(0, 3)]))
    assert (result.hit_rate, result.auc) == (1.0, 1.0)
    worse = hx.evaluate_ranking(model, clicks([(0, 2)]), k=1, negatives=clicks([(0, 3), (0, 1)]))
    assert (worse.hit_rate, worse.auc) == (0.0, 0.5)


def test_given_negatives_may_be_lists_and_hold_relevant_items():
    model = ranker([[4.0, 3.0, 2.0, 1.0], [1.0, 2.0, 3.0, 4.0]])
    result = hx.evaluate_ranking(model, clicks([(0, 2), (1, 3)]), k=2, negatives={0: [2, 3], 1: [], 9: [1]})
    assert result.lists.tolist() == [[2, 3], [3, -1]]
    assert result.among == "given negatives"
    assert set(result.table()["among"]) == {"given negatives"}
    assert result.auc == 1.0  # the second user has no other item to be compared with


def test_users_with_nothing_to_be_ranked_against_are_told_of_and_nobody_else_is_an_error():
    model = ranker([[4.0, 3.0, 2.0, 1.0], [1.0, 2.0, 3.0, 4.0]])
    test = clicks([(0, 2), (1, 3)])
    said = hx.evaluate_ranking(model, test, k=2, negatives={0: [3]}).warnings
    assert any(word.startswith("alone: 1 of 2 users") for word in said)
    whole = hx.evaluate_ranking(model, test, k=2, negatives={0: [3], 1: [1]}).warnings
    assert not any(word.startswith("alone") for word in whole)
    for negatives in ({}, {"00": [1]}, {0: [99], 1: [2**40]}):
        with pytest.raises(DataError, match="no user evaluated has a negative"):
            hx.evaluate_ranking(model, test, k=2, negatives=negatives)


@settings(max_examples=40, deadline=None)
@given(rng=cases)
def test_all_free_items_as_negatives_rank_like_all_items(rng):
    model, held, _ = random_case(rng)
    full = hx.evaluate_ranking(model, clicks(held), k=CUTS, bootstrap=1)
    some = hx.evaluate_ranking(model, clicks(held), k=CUTS, bootstrap=1, negatives=len(model.items))
    seen = model.was_seen(full.held.users[full.held.owner], full.held.item.astype(np.int64))
    if seen.any():
        return  # a relevant training item is a candidate only where the list of candidates names it
    np.testing.assert_array_equal(full.lists, some.lists)
    for k in CUTS:
        for name, value in full.values[k].items():
            np.testing.assert_allclose(some.values[k][name], value, rtol=1e-12, err_msg=name)


def test_drawn_negatives_are_new_distinct_and_evenly_drawn():
    ratings, _ = hx.synthetic.make(50, 40, n_ratings=700, seed=3)
    split = hx.split.per_user(ratings)
    model = hx.Popular().fit(split.train)
    drawn = np.zeros(40)
    for seed in range(40):
        result = hx.evaluate_ranking(model, split.test, k=40, bootstrap=1, negatives=3, seed=seed)
        for user, shown, first, last in zip(
            result.users, result.lists, result.held.start[:-1], result.held.start[1:], strict=True
        ):
            relevant = set(result.held.item[first:last].tolist())
            barred = relevant | set(model.seen.item[slice(*model.seen.start[user : user + 2])].tolist())
            others = set(shown[shown >= 0].tolist()) - relevant
            assert len(others) == min(3, 40 - len(barred))
            assert not others & barred
            drawn[list(others)] += 1
    free = np.full(40, float(result.n))
    np.subtract.at(free, result.held.item, 1)
    mine = np.isin(np.repeat(np.arange(50), np.diff(model.seen.start)), result.users)
    np.subtract.at(free, model.seen.item[mine], 1)
    assert np.corrcoef(drawn, free)[0, 1] > 0.9


def test_a_user_with_nothing_to_lose_to_has_no_auc():
    model = ranker([[2.0, 1.0], [2.0, 1.0]], seen={(0, 1)})
    result = hx.evaluate_ranking(model, clicks([(0, 0), (1, 1)]), k=1)
    assert np.isnan(result.values[1]["auc"][0])
    assert result.auc == result.to_dict()["auc"] == result.table().loc["auc", "value"] == 0.0


def test_slices_by_activity_and_popularity():
    seen = {(u, 0) for u in range(12)} | {(0, i) for i in range(1, 5)}
    model = ranker(np.tile([0.0, 9.0, 8.0, 7.0, 6.0, 5.0], (12, 1)), seen)
    result = hx.evaluate_ranking(model, clicks([(0, 5), (1, 1), (2, 3), (3, 5)]), k=2)
    users, items = result.by_activity, result.by_popularity
    assert users[["slice", "count"]].to_numpy().tolist() == [["1–9", 4]]
    assert users["ndcg"][0] == pytest.approx(result.ndcg)
    assert items[["slice", "count", "found"]].to_numpy().tolist() == [["0", 2, 0.5], ["1–9", 2, 0.5]]
    assert items["shown"].tolist() == pytest.approx([1 / 7, 6 / 7])  # one list has a single item left


def test_the_report_of_a_ranking_is_a_page_of_its_own(tmp_path):
    ratings, _ = hx.synthetic.make(120, 60, n_ratings=3000, seed=3)
    split = hx.split.per_user(ratings)
    results = {
        recipe.name: hx.evaluate_ranking(recipe.fit(split.train), split.test, k=(20, 5))
        for recipe in (hx.BiasedMF(factors=4), hx.Popular())
    }
    path = tmp_path / "report.html"
    results["biased-mf"].report(path, baselines={"popular": results["popular"]}, protocol=split.protocol)
    page = path.read_text()
    assert f"{results['biased-mf'].ndcg:.4f}" in page
    assert f"{results['popular'].ndcg:.4f}" in page
    assert "hx.evaluate_ranking(model, split.test, k=(20, 5), seed=" in page
    for chart in ("length-ndcg", "by-users", "by-items", "popularity"):
        assert f'data-chart="{chart}"' in page
    with pytest.raises(DataError, match="in the same way"):
        results["popular"].report(
            path, baselines={"bias": hx.evaluate(hx.Bias().fit(split.train), split.test)}
        )
    some = hx.evaluate_ranking(hx.Popular().fit(split.train), split.test.take(np.arange(9)), negatives=9)
    some.report(path)
    assert "ranked among 9 sampled negatives" in path.read_text()


def test_what_the_lists_are_like_together():
    # Two users, each shown one item: the same, then different ones.
    same = hx.evaluate_ranking(ranker([[1.0, 0.0], [1.0, 0.0]]), clicks([(0, 0), (1, 1)]), k=1)
    assert (same.coverage, same.gini) == (0.5, 0.5)
    apart = hx.evaluate_ranking(ranker([[1.0, 0.0], [0.0, 1.0]]), clicks([(0, 0), (1, 1)]), k=1)
    assert (apart.coverage, apart.gini) == (1.0, 0.0)
    # One of four training users has item 0, all have item 1: log2(4) and 0 bits.
    seen = {(0, 0), (0, 1), (1, 1), (2, 1), (3, 1)}
    model = ranker(np.tile([[1.0, 0.0, 0.5]], (4, 1)), seen)
    shown = hx.evaluate_ranking(model, clicks([(1, 0)]), k=1)
    assert shown.novelty == pytest.approx(2.0)


def test_diversity_is_one_less_the_cosine_of_the_items_users():
    seen = {(0, 0), (1, 0), (1, 1), (2, 1)}  # items 0 and 1 share one of two users each: cosine 1/2
    model = ranker([[0.0, 0.0, 0.0]] * 3 + [[2.0, 1.0, 0.0]], seen)
    result = hx.evaluate_ranking(model, clicks([(3, 0)]), k=2)
    assert result.diversity == pytest.approx(0.5)


def test_intervals_hold_the_mean_and_narrow_with_users():
    widths = []
    for users in (30, 3000):
        rng = np.random.default_rng(users)
        model = ranker(rng.random((users, 12)))
        test = clicks([(u, int(i)) for u in range(users) for i in rng.choice(12, 2, replace=False)])
        result = hx.evaluate_ranking(model, test, k=3)
        low, high = result.intervals[3]["recall"]
        assert low < result.recall < high
        widths.append(high - low)
    assert widths[1] < widths[0] / 5


def test_table_per_user_and_json_agree():
    result = hx.evaluate_ranking(ranker(np.eye(3)), clicks([(0, 0), (1, 2)]), k=(1, 2))
    assert result.table().loc["recall@1", "value"] == result.recall == 0.5
    assert result.per_user()["recall@1"].tolist() == [1.0, 0.0]
    facts = result.to_dict()
    assert facts["recall"] == 0.5
    assert facts["at"]["2"]["recall"] == result.values[2]["recall"].mean()
    assert "auc" in result.table().index


@pytest.mark.parametrize(
    ("wrong", "said"),
    [
        ({"k": 0}, "k is 0"),
        ({"k": ()}, "k is"),
        ({"k": 2.5}, "k is 2.5"),
        ({"k": None}, "k is None"),
        ({"k": True}, "k is True"),
        ({"relevant_from": "4"}, "relevant_from is '4'"),
        ({"relevant_from": True}, "relevant_from is True"),
        ({"negatives": True}, "negatives is True"),
        ({"negatives": {0: 5}}, "the negatives of user 0 are 5"),
        ({"threads": 0}, "threads is 0"),
        ({"threads": 1.5}, "threads is 1.5"),
        ({"confidence": 1.0}, "confidence is 1.0"),
        ({"bootstrap": 0}, "bootstrap is 0"),
        ({"negatives": 0}, "negatives is 0"),
        ({"negatives": "99"}, "negatives is '99'"),
        ({"seed": -1}, "seed is -1"),
        ({"memory": "1.2.3MB"}, "memory is '1.2.3MB'"),
        ({"memory": "lots"}, "memory is 'lots'"),
    ],
)
def test_wrong_arguments_are_named(wrong, said):
    with pytest.raises(ParameterError, match=said.replace("(", r"\(")):
        hx.evaluate_ranking(ranker(np.eye(3)), clicks([(0, 0)]), **wrong)


def test_nobody_to_evaluate_and_no_training_rows():
    with pytest.raises(DataError, match="no user is left"):
        hx.evaluate_ranking(ranker(np.eye(2)), clicks([(9, 0)]))
    import dataclasses

    with pytest.raises(DataError, match="exclude_seen=False"):
        hx.evaluate_ranking(dataclasses.replace(ranker(np.eye(2)), seen=None), clicks([(0, 0)]))


def test_sizes_are_read_as_people_write_them():
    assert [ranking.size_in_bytes(s) for s in ("512MB", "2 gb", "1GiB", "3k", 7, "10B")] == [
        512_000_000, 2_000_000_000, 2**30, 3000, 7, 10,
    ]  # fmt: skip
