from __future__ import annotations

from dataclasses import replace

import numpy as np
import pandas as pd
import pytest
from scipy.special import digamma

import hatrix as hx
import naive
from hatrix.evaluation.convergence import effective_size
from hatrix.kernels import schedule
from hatrix.models import hyperpriors, probit, scatter
from hatrix.models.mf import unit_of

SIDES, TIMES = ("user", "item", "time"), 2
ALL = ("user", "item", "user_attributes", "item_attributes", "rated", "raters", "time", "user_day")
BOX = 1.5
DAY_OF = [0, 1, 0, 3, 2, 5, 4, 6, 7, 7]
"""Which of the users' days each of the ten ratings is of."""


def tiny(values) -> hx.Ratings:
    """Ten ratings of four users and four items on two days, with an attribute on either side."""
    user, item = np.array([0, 0, 0, 1, 1, 2, 2, 3, 3, 3]), np.array([0, 1, 2, 0, 1, 1, 2, 0, 2, 3])
    return replace(
        hx.Ratings.from_columns(user, item, np.resize(values, 10)),
        time=np.array([0, 1, 0, 1, 0, 1, 0, 0, 1, 1]) * 86_400,
        user_table=pd.DataFrame({"hobby": ["chess|go", "go", "chess", "chess|go"]}),
        item_table=pd.DataFrame({"kind": ["a", "b", "a", "b"]}),
    )


class Joint:
    """A state of the sampler whose parameters and data are drawn from their joint distribution."""

    def __init__(self, recipe, seed):
        self.state = recipe.init(tiny([1.0, 2.0, 3.0]), seed=seed, threads=1)
        self.rng, self.ordinal = np.random.default_rng(seed), recipe.likelihood == "ordinal"
        self.by_user = recipe.noise == "user"
        self.v, self.size, self.epoch = self.state.variables, recipe.factors + 1, 0
        self.state.mean = 0.0  # the sampler sees ratings less their mean
        self.fields = {
            name: (rows, naive.rows_of_normal_wishart if name in ("own.0", "own.1") else naive.rows_of_normal_gamma)
            for name, rows in self.v.items()
            if name in ("own.0", "own.1") or name.startswith("bag.") or (name == "own.2" and self.state.timed)
        }  # fmt: skip
        self.shares = [[] for _ in SIDES]
        for number, side in enumerate(self.state.sides):
            for bag in side.bags:
                self.shares[number].append(np.zeros((len(self.v[f"own.{number}"]), len(bag.start) - 1)))
                feature = np.repeat(np.arange(len(bag.start) - 1), np.diff(bag.start))
                self.shares[number][-1][bag.holder, feature] = bag.weight
        if self.ordinal:
            self.v["stride"][0] = 0.8

    def draw_prior(self):
        for rows, prior in self.fields.values():
            rows[:, : self.size] = prior(len(rows), self.size, self.rng)
        for number in range(len(SIDES)):
            self.v[f"sum.{number}"][:, : self.size] = self.total(number)
        if self.ordinal:
            shape = self.rng.uniform(-BOX, BOX, len(self.v["cuts"]))
            self.v["cuts"][:] = np.cumsum([shape[0], *np.exp(shape[1:])])
        else:
            self.v["noise"][0] = self.rng.standard_normal() ** 2
        if self.by_user:
            freedom = self.v["freedom"][0] = self.rng.choice(scatter.FREEDOM)
            self.v["weight"][:] = self.rng.gamma(freedom / 2, 2 / freedom, len(self.v["weight"]))
        if self.state.days is not None:
            self.v["days"][:] = naive.numbers_of_normal_gamma(len(self.v["days"]), self.rng)

    def total(self, number):
        rows = self.v[f"own.{number}"][:, : self.size].astype(float)
        for place, shares in enumerate(self.shares[number]):
            rows += shares @ self.v[f"bag.{number}.{place}"][:, : self.size]
        return rows

    def scores(self):
        X, Z, T = (self.total(number) for number in range(3))
        p, q, s = X[self.state.user], Z[self.state.item], T[self.state.when]
        bias = p[:, -1] + q[:, -1] + s[:, -1]
        if self.state.days is not None:
            bias += self.v["days"][DAY_OF]
        p, q, s = p[:, :-1], q[:, :-1], s[:, :-1]
        return self.state.mean + bias + (p * q + (p + q) * s).sum(axis=1)

    def precision(self):
        return self.v["noise"][0] * self.v["weight"][self.state.user]

    def draw_data(self):
        scores = self.scores()
        hidden = scores + self.rng.standard_normal(len(scores)) / np.sqrt(self.precision())
        if self.ordinal:
            self.v["latent"][:] = hidden
            self.state.star = np.searchsorted(self.v["cuts"], hidden)
        else:
            self.state.value[:] = hidden
            for side in self.state.sides:
                side.value[:] = self.state.value[side.order]

    def transition(self):
        # The data draw makes new hidden numbers: a second sweep is what uses those of the sampler.
        for _ in range(2 if self.ordinal else 1):
            self.state.sweep(self.epoch)
            self.state.draw_noise(self.epoch, burning=False)
            self.epoch += 1

    def figures(self):
        """Functions of parameters and data, bounded or logarithmic as the priors have no moments."""
        out, firsts = [], []
        for rows, _ in self.fields.values():
            x = rows[:, : self.size].astype(float)
            a = np.arctan(x)
            firsts.append(a[0])
            for figure in (a, np.log(np.abs(x) + 1e-9), a[:, :1] * a[:, 1:]):
                out.append(figure.mean(axis=0))
            out += [a[0] * a[1], np.log(np.abs(x[0] - x[1]) + 1e-6)]
        first, scores = np.concatenate(firsts), self.scores()
        pairs = np.outer(first, first)[np.triu_indices(len(first), 1)]
        out += [pairs, np.abs(pairs), [np.arctan(scores).mean(), np.log(np.abs(scores) + 1e-3).mean()]]
        data = self.v["latent"] if self.ordinal else self.state.value
        error, precision, weight = data - scores, self.precision(), self.v["weight"]
        out.append([np.arctan(error).mean(), np.log(precision @ error**2), np.log(precision).mean()])
        out.append([(np.arctan(error) * np.arctan(scores)).mean(), np.arctan(data).mean()])
        out.append(
            [np.log(self.v["freedom"][0]), np.log(weight).std(), np.log(weight[0]), np.log(weight).mean()]
        )
        if self.state.days is not None:
            days, of = self.v["days"].astype(float), DAY_OF
            near = np.log(np.abs(days) + 1e-9)
            out.append([np.arctan(days).mean(), near.mean(), np.arctan(days[0] * days[1]), near[0] * near[1]])
            out.append([(np.arctan(error) * np.arctan(days[of])).mean(), np.log(np.abs(days[0] - days[1]))])
        if self.ordinal:
            cuts, star = self.v["cuts"], self.state.star
            out.append([*cuts[:1], *np.log(np.diff(cuts)), star.mean(), (star * np.arctan(scores)).mean()])
        return np.concatenate(out)


def assert_mean(figures, expected):
    """Means over independent rows are as expected, to within four and a half standard errors."""
    figures = np.asarray(figures)
    z = (figures.mean(axis=0) - expected) / figures.std(axis=0, ddof=1) * np.sqrt(len(figures))
    assert np.abs(z).max() < 4.5, z


@pytest.mark.parametrize("size", [1, pytest.param(3, marks=pytest.mark.campaign)])
def test_hyper_parameters_of_normal_wishart_rows_are_draws_given_the_rows(size):
    """With rows from the prior, they are distributed as in the prior; quadratic forms have known distributions."""
    rng, figures = np.random.default_rng(size), []
    for _ in range(5000):
        rows = naive.rows_of_normal_wishart(4, size, rng)
        mean, precision = hyperpriors.wishart(rows, rng)
        forms = np.einsum("ni,ij,nj->n", rows - mean, precision, rows - mean)
        figures.append(
            [*np.log(np.diag(precision)), 2 * mean @ precision @ mean, forms.mean(), np.log(forms.sum())]
        )
    assert_mean(
        figures, [*[digamma(size / 2) + np.log(2)] * size, size, size, digamma(4 * size / 2) + np.log(2)]
    )


def test_hyper_parameters_of_normal_gamma_rows_are_draws_given_the_rows():
    rng, figures = np.random.default_rng(0), []
    for _ in range(5000):
        rows = naive.rows_of_normal_gamma(4, 2, rng)
        mean, precision = hyperpriors.independent(rows, rng)
        assert precision[0, 1] == precision[1, 0] == 0
        precision = np.diag(precision)
        forms = precision * np.array([mean, *(rows - mean)]) ** 2
        figures.append(np.concatenate([np.log(precision), *np.log(forms)]))
    assert_mean(figures, np.full(12, digamma(1 / 2) + np.log(2)))


def test_the_precision_of_centred_numbers_is_a_draw_given_them():
    rng, figures = np.random.default_rng(0), []
    for _ in range(5000):
        numbers = naive.numbers_of_normal_gamma(3, rng)
        precision = hyperpriors.centred(numbers, rng)
        figures.append([np.log(precision), *np.log(precision * numbers**2)])
    assert_mean(figures, np.full(4, digamma(1 / 2) + np.log(2)))


@pytest.mark.campaign
@pytest.mark.parametrize(
    ("chains", "recipe"),
    [
        (500, {"factors": 2, "noise": "common"}),
        (400, {"factors": 1, "noise": "user", "fields": ALL}),
        (200, {"factors": 1, "noise": "user", "fields": ALL, "likelihood": "ordinal"}),
        (250, {"factors": 2, "noise": "common", "likelihood": "ordinal"}),
    ],
)
def test_the_sampler_leaves_the_joint_distribution_as_it_is(chains, recipe, monkeypatch):
    """Geweke's test: parameters from the prior, then data and sweeps in turn, must stay what they were.

    Each chain starts from the prior itself, so its mean less its start has expectation 0 and chains are independent.
    """
    likelihood = probit._log_likelihood

    def proper(*given):  # the flat prior of the cut points, on a box
        cuts = given[-1]
        inside = (np.abs([cuts[0], *np.log(np.diff(cuts))]) < BOX).all()
        return likelihood(*given) if inside else -np.inf

    monkeypatch.setattr(probit, "_log_likelihood", proper)
    joint, steps, moved = Joint(hx.BayesianMF(**recipe, time_bin=1), seed=3), 4, []
    for _ in range(chains):
        joint.draw_prior()
        joint.draw_data()
        start, later = joint.figures(), []
        for _ in range(steps):
            joint.transition()
            later.append(joint.figures())
            joint.draw_data()
        moved.append(np.mean(later, axis=0) - start)
    moved = np.array(moved)
    # Rows are Cauchy distributed before they are given data: a few are more than single precision can square.
    finite = np.isfinite(moved).all(axis=1)
    assert finite.mean() > 0.99
    moved = moved[finite][:, moved.any(axis=0)]
    z = moved.mean(axis=0) / moved.std(axis=0, ddof=1) * np.sqrt(len(moved))
    assert np.abs(z).max() < 4.5
    assert np.sqrt(np.mean(z**2)) < 1.5


def assert_same_distribution(ours, theirs):
    """Means and deviations of two chains, shape (draws, quantities), agree within their Monte Carlo error."""
    for power in (1, 2):
        means, errors = [], []
        for chain in (ours, theirs):
            figures = (chain - ours.mean(axis=0)) ** power
            sizes = [effective_size(column[None]) for column in figures.T]
            means.append(figures.mean(axis=0))
            errors.append(figures.var(axis=0) / sizes)
        z = (means[0] - means[1]) / np.sqrt(errors[0] + errors[1])
        assert np.abs(z).max() < 4.5, z


def chain(recipe, ratings, sweeps, *, burn_in=200):
    """Scores of all pairs, and the noise or the cut points, after each sweep, in the unit that the sampler works in."""
    state = recipe.init(ratings, seed=8, threads=1)
    v, k, out = state.variables, recipe.factors, []
    for epoch in range(sweeps):
        recipe.step(state, epoch)
        X, Z = v["sum.0"].astype(float), v["sum.1"].astype(float)
        scores = X[:, [k]] + Z[:, k] + X[:, :k] @ Z[:, :k].T
        out.append([*scores.ravel(), *(v["cuts"] if state.ordinal else v["noise"] ** -0.5)])
    return np.array(out[burn_in:])


@pytest.mark.campaign
@pytest.mark.parametrize(("likelihood", "sweeps"), [("gaussian", 1700), ("ordinal", 2200)])
def test_draws_are_those_of_a_plain_sampler(likelihood, sweeps):
    rng = np.random.default_rng(4)
    user, item = np.divmod(rng.permutation(20)[:15], 4)
    assert len(set(user)), len(set(item)) == (5, 4)
    star = np.resize([0, 1, 2], 15)
    ordinal = likelihood == "ordinal"
    ratings = hx.Ratings.from_columns(user, item, star + 1.0 if ordinal else star + rng.normal(size=15))
    recipe = hx.BayesianMF(factors=1, epochs=sweeps, burn_in=200, likelihood=likelihood, noise="common")
    value = star if ordinal else (ratings.value - ratings.value.mean()) / unit_of(ratings)
    plain = naive.gibbs(user, item, value, 0.0, 1, sweeps, rng, stars=3 if ordinal else None)
    theirs = np.array([[*scores.ravel(), *np.atleast_1d(more)] for scores, more in plain])[200:]
    # A product of heavy-tailed rows has hardly a variance: compare on a scale that bounds it.
    assert_same_distribution(np.arctan(chain(recipe, ratings, sweeps)), np.arctan(theirs))


def drawn(likelihood, seed=0):
    """Ratings of made-up rows with known scores; stars by cut points, numbers with a noise of 0.6."""
    rng = np.random.default_rng(seed)
    X, Z = rng.normal(0, 0.7, (120, 3)), rng.normal(0, 0.7, (80, 3))
    scores = (3.0 if likelihood == "gaussian" else 0.0) + X[:, [2]] + Z[:, 2] + X[:, :2] @ Z[:, :2].T
    cuts = np.array([-1.2, -0.3, 0.5, 1.5])
    values = scores + rng.normal(0, 0.6 if likelihood == "gaussian" else 1.0, scores.shape)
    if likelihood == "ordinal":
        values = np.searchsorted(cuts, values) + 1.0
    known = rng.permutation(scores.size)[:3000]
    user, item = np.divmod(known, 80)
    return hx.Ratings.from_columns(user, item, values.ravel()[known]), scores, values, cuts


def coverage(truth, draws, level):
    low, high = np.quantile(draws, [(1 - level) / 2, (1 + level) / 2], axis=-1)
    return np.mean((truth >= low) & (truth <= high))


def every_pair(ratings):
    return np.divmod(np.arange(120 * 80), 80), ~np.isin(np.arange(120 * 80), ratings.user * 80 + ratings.item)


def test_the_posterior_recovers_known_scores_and_noise_and_its_intervals_cover():
    ratings, scores, values, _ = drawn("gaussian")
    recipe = hx.BayesianMF(factors=2, epochs=450, burn_in=50, draws=200, noise="common")
    model = recipe.fit(ratings, seed=1)
    (user, item), new = every_pair(ratings)
    draws = np.concatenate([part for _, part in model.factors.by_draw(user, item)])
    for level in (0.5, 0.9):
        assert coverage(scores.ravel(), draws, level) == pytest.approx(level, abs=0.04)
    rating, low, high = model.predict(user[new], item[new], interval=0.9)
    held_out = values.ravel()[new]
    assert np.mean((held_out >= low) & (held_out <= high)) == pytest.approx(0.9, abs=0.015)
    noise = model.posterior.noise
    assert abs(noise.mean() - 0.6) < 4 * noise.std()
    assert noise.std() < 0.02
    assert np.sqrt(np.mean((rating - scores.ravel()[new]) ** 2)) < 0.45 * scores.std()


def test_the_ordinal_posterior_recovers_cut_points_and_shares_of_stars():
    ratings, scores, values, cuts = drawn("ordinal")
    recipe = hx.BayesianMF(
        factors=2, epochs=650, burn_in=150, draws=250, likelihood="ordinal", noise="common"
    )
    model = recipe.fit(ratings, seed=1)
    (user, item), new = every_pair(ratings)
    draws = np.concatenate([part for _, part in model.factors.by_draw(user, item)])
    # Scores and cut points may move together; how far they are apart is what the ratings tell.
    found = model.posterior.cuts
    gaps = np.diff(found, axis=1)
    assert (np.abs(gaps.mean(axis=0) - np.diff(cuts)) < 4 * gaps.std(axis=0)).all()
    assert (gaps.std(axis=0) < 0.1).all()
    for level in (0.5, 0.9):
        held = coverage((scores - cuts[1]).ravel(), draws - found[:, 1], level)
        assert held == pytest.approx(level, abs=0.04)
    share = model.probabilities(user[new], item[new]).to_numpy()[:, -5:].astype(float)
    stars = values.ravel()[new]
    for star in range(5):
        said = share[:, star]
        for part in (said < np.median(said), said >= np.median(said)):
            assert np.mean(stars[part] == star + 1) == pytest.approx(said[part].mean(), abs=0.03)


def test_users_who_scatter_more_are_told_from_others():
    ratings, scores, _, _ = drawn("gaussian")
    rng, spread = np.random.default_rng(5), np.resize([0.3, 0.6, 1.2], 120)
    value = scores[ratings.user, ratings.item] + spread[ratings.user] * rng.normal(size=len(ratings))
    recipe = hx.BayesianMF(factors=2, epochs=250, burn_in=50, draws=100, noise="user")
    model = recipe.fit(replace(ratings, value=value), seed=1)
    assert coverage(spread, model.posterior.user_spread[:-1] * model.posterior.noise, 0.9) > 0.8
    (user, item), new = every_pair(ratings)
    user, item = user[new], item[new]
    held_out = scores[user, item] + spread[user] * rng.normal(size=len(user))
    _, low, high = model.predict(user, item, interval=0.9)
    inside = (held_out >= low) & (held_out <= high)
    for width in (0.3, 0.6, 1.2):
        assert inside[spread[user] == width].mean() == pytest.approx(0.9, abs=0.03)


@pytest.mark.parametrize("likelihood", ["gaussian", "ordinal"])
def test_intervals_cover_the_ratings_of_users_who_are_new(likelihood):
    ratings, _, values, _ = drawn(likelihood)
    user, item = every_pair(ratings)[0]
    old = ratings.take(ratings.user < 60)
    model = hx.BayesianMF(factors=2, epochs=250, burn_in=50, draws=100, likelihood=likelihood).fit(
        old, seed=1
    )
    new = user >= 60
    _, low, high = model.predict([f"new {u}" for u in user[new]], item[new], interval=0.8)
    actual = values[user[new], item[new]]
    inside = np.mean((actual >= low) & (actual <= high))
    assert 0.74 < inside < (0.86 if likelihood == "gaussian" else 0.95)


def test_the_unit_of_the_ratings_does_not_matter():
    ratings, *_ = drawn("gaussian")
    recipe = hx.BayesianMF(factors=2, epochs=60, draws=10)
    one, other = (recipe.fit(replace(ratings, value=unit * ratings.value), seed=1) for unit in (1, 64))
    for ours, theirs in zip(
        one.predict(3, [1, 5], interval=0.9), other.predict(3, [1, 5], interval=0.9), strict=True
    ):
        np.testing.assert_allclose(64 * ours, theirs, rtol=1e-6)
    np.testing.assert_allclose(64 * one.history["noise"], other.history["noise"], rtol=1e-6)
    np.testing.assert_allclose(64 * one.predict(3, "unheard of"), other.predict(3, "unheard of"), rtol=1e-6)


def plain_ratings(values="stars") -> hx.Ratings:
    """Ratings from biases and noise alone."""
    rng = np.random.default_rng(3)
    user, item = np.divmod(rng.permutation(150 * 100)[:3000], 100)
    level = 0.4 * rng.normal(size=150)[user] + 0.6 * rng.normal(size=100)[item]
    value = 3 + level + 0.5 * rng.normal(size=len(user))
    return hx.Ratings.from_columns(user, item, np.clip(np.rint(value), 1, 5) if values == "stars" else value)


def test_factors_that_do_not_help_are_left_out_and_the_model_is_as_good_as_its_biases(tmp_path):
    split = hx.split.random(plain_ratings(), 0.2, seed=1)
    model, bias = (one.fit(split.train, progress=False) for one in (hx.BayesianMF(), hx.Bias()))
    assert (model.recipe.factors, model.recipe.init_scale, model.recipe.likelihood) == (1, 0.0, "gaussian")
    assert any(note.startswith("H010: factors are left out") for note in model.notes)
    assert not model.user_factors.any()
    assert not model.item_factors.any()
    ours, theirs = (hx.evaluate(one, split.test, bootstrap=1).rmse for one in (model, bias))
    assert ours < 1.001 * theirs
    _, low, high = (
        model.predict_rows(split.test.user, split.test.item),
        *model.predict(
            split.test.users.decode(split.test.user), split.test.items.decode(split.test.item), interval=0.9
        )[1:],
    )
    assert np.mean((low <= split.test.value) & (split.test.value <= high)) == pytest.approx(0.9, abs=0.04)
    given = {int(i): 5.0 for i in split.train.items.labels[:6]}
    folded = model.fold_in(given).predict("new user", 7)
    assert folded == pytest.approx(bias.fold_in(given).predict("new user", 7), abs=0.15)
    wider = model.update(hx.Ratings.from_columns([900, 900, 3], [1, 77, 901], [4.0, 5.0, 2.0]))
    wider.save(tmp_path / "model.hatrix")
    loaded = hx.load(tmp_path / "model.hatrix")
    np.testing.assert_array_equal(loaded.predict(900, [1, 2, 901]), wider.predict(900, [1, 2, 901]))
    assert not model.explain(3, 5).empty
    assert len(model.recommend(3, n=5)) == 5


def test_few_ratings_leave_biases_alone_and_a_number_of_factors_is_obeyed():
    few = tiny([1.0, 2.0, 3.0, 4.0])
    assert "too few" in hx.BayesianMF().fit(few, progress=False).notes[0]
    given = hx.BayesianMF(factors=2, epochs=40).fit(few, progress=False)
    assert given.recipe.factors == 2
    assert given.user_factors.any()
    assert hx.BayesianMF(fields=("user", "item", "rated")).resolved(few).factors == 10


def test_draws_of_biases_alone_have_the_mean_and_the_spread_of_a_regression():
    """The mean has no Monte Carlo error."""
    ratings = plain_ratings("numbers").take(np.arange(400))
    recipe = hx.BayesianMF(
        factors=1, init_scale=0.0, likelihood="gaussian", noise="common", epochs=430, draws=400
    )
    state = recipe.init(ratings, seed=1, threads=1)
    for epoch in range(recipe.epochs):
        recipe.step(state, epoch)
    found = recipe.finish(state)
    n, m = len(ratings.users), len(ratings.items)
    rows = np.zeros((len(ratings), n + m))
    rows[np.arange(len(ratings)), ratings.user] = rows[np.arange(len(ratings)), n + ratings.item] = 1
    noise = found.posterior.noise
    precision = np.diag(np.repeat(state.pull, [n, m])) / state.unit**2 + (noise**-2.0).mean() * rows.T @ rows
    mean = np.linalg.solve(precision, (noise**-2.0).mean() * rows.T @ (ratings.value - ratings.mean))
    draws = np.concatenate([found.user_bias, found.item_bias]).astype(float)
    np.testing.assert_allclose(draws.mean(axis=1), mean, atol=1e-5)
    score, spread = rows @ draws, rows @ np.linalg.inv(precision) @ rows.T
    ratio = score.std(axis=1, ddof=1) / np.sqrt(np.diag(spread))
    assert ratio.mean() == pytest.approx(1, abs=0.03)
    assert 0.75 < ratio.min() < ratio.max() < 1.25


FULL = {"factors": 2, "fields": ALL, "epochs": 12, "burn_in": 2, "draws": 5, "time_bin": 1}


@pytest.mark.parametrize("likelihood", ["gaussian", "ordinal"])
def test_all_fields_give_the_same_bits_for_any_threads_and_after_a_resume(likelihood, tmp_path, monkeypatch):
    recipe = hx.BayesianMF(**FULL, likelihood=likelihood)
    ratings = tiny([1.0, 2.0, 3.0])
    monkeypatch.setattr(schedule, "WORTH_A_THREAD", 2)
    whole = recipe.fit(ratings, threads=1)
    stopped, checkpoint = type(recipe).step, hx.Checkpoint(tmp_path / "state.hatrix", epochs=1)

    def breaks_off(self, state, epoch):
        if epoch == 7:
            raise InterruptedError
        return stopped(self, state, epoch)

    with monkeypatch.context() as patch:
        patch.setattr(type(recipe), "step", breaks_off)
        with pytest.raises(InterruptedError):
            recipe.fit(ratings, threads=2, checkpoint=checkpoint)
    for other in (recipe.fit(ratings, threads=3), recipe.fit(ratings, threads=1, resume=checkpoint.path)):
        for ours, theirs in (
            (whole, other),
            (whole.time, other.time),
            (whole.posterior, other.posterior),
            (whole.days, other.days),
        ):
            names = getattr(ours, "_fields", ("user_bias", "item_bias", "user_factors", "item_factors"))
            for name in names:
                np.testing.assert_array_equal(getattr(ours, name), getattr(theirs, name), err_msg=name)
        for bag, again in zip(whole.bags, other.bags, strict=True):
            np.testing.assert_array_equal(bag.rows, again.rows)


def test_what_is_drawn_in_an_epoch_has_a_stream_of_its_own(monkeypatch):
    """NumPy seeds (1, 2) and (1, 2, 0) alike, so seeds that differ are not enough."""
    state = hx.BayesianMF(**FULL, likelihood="ordinal").init(tiny([1.0, 2.0, 3.0]), seed=1, threads=1)
    default_rng, first = np.random.default_rng, []

    def counted(seed):
        first.append(int(default_rng(seed).integers(2**63)))
        return default_rng(seed)

    monkeypatch.setattr(np.random, "default_rng", counted)
    for epoch in range(4):
        state.sweep(epoch)
        state.draw_noise(epoch, burning=True)
    bags = sum(len(side.bags) for side in state.sides)
    assert bags == 4
    assert len(first) == 4 * (3 + bags + 2) == len(set(first))


def test_the_draws_kept_are_those_of_their_epochs():
    ratings = tiny([1.0, 2.0, 3.0])
    recipe = hx.BayesianMF(likelihood="gaussian", init_scale=1.0, factors=1, epochs=20, burn_in=4, draws=4)
    state, noise = recipe.init(ratings, seed=2, threads=1), []
    for epoch in range(20):
        recipe.step(state, epoch)
        noise.append(state.variables["noise"][0] ** -0.5 * state.unit)
    assert recipe.fit(ratings, seed=2).posterior.noise.tolist() == [noise[n] for n in (7, 11, 15, 19)]
    thin = recipe.replace(thinning=3)
    assert thin.fit(ratings, seed=2).posterior.noise.tolist() == [noise[n] for n in (6, 9, 12, 15)]


def test_the_stride_of_the_cut_points_rests_after_the_burn_in():
    recipe = hx.BayesianMF(factors=1, epochs=60, burn_in=30, draws=4, likelihood="ordinal")
    state, strides = recipe.init(tiny([1.0, 2.0, 3.0]), seed=2, threads=1), []
    for epoch in range(60):
        recipe.step(state, epoch)
        strides.append(state.variables["stride"][0])
    assert len(set(strides[:30])) == 30
    assert set(strides[30:]) == {strides[29]}


@pytest.mark.parametrize("field", ["time", "user_day"])
def test_a_time_is_asked_for_where_it_is_a_field(field):
    with pytest.raises(hx.HatrixError, match=f"the field {field} needs ratings with a time"):
        hx.BayesianMF(fields=("user", "item", field)).fit(replace(tiny([1.0, 2.0]), time=None))


@pytest.mark.parametrize(
    ("wrong", "words"),
    [
        ({"fields": ("user",)}, "they need user and item"),
        ({"fields": ("user", "item", "user")}, "one stands twice"),
        ({"epochs": 20, "burn_in": 20}, "leaves none to draw from"),
        ({"fields": ("user", "item", "weather")}, "fields"),
    ],
)
def test_recipes_that_make_no_sense_are_refused(wrong, words):
    with pytest.raises(hx.HatrixError, match=words):
        hx.BayesianMF(**wrong)
