"""What a fitted model answers beyond a score: lists, neighbours, reasons, and rows for whom it was not trained on."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, cast

if TYPE_CHECKING:
    from pathlib import Path

    import pandas as pd

    from hatrix.data.ratings import Ratings
    from hatrix.models.model import FactorModel
    from hatrix.models.recommend_all import Streamed

__all__ = ["Answers"]


class Answers:
    """The part of `FactorModel` that each of the modules around it writes; not of use by itself."""

    @property
    def _model(self) -> FactorModel:
        return cast("FactorModel", self)

    def recommend(
        self,
        user_id: Any,
        n: int = 10,
        *,
        exclude_seen: bool = True,
        among: Any = None,
        exclude: Any = None,
        where: str | None = None,
        risk: float | None = None,
    ) -> pd.DataFrame:
        """Return the n items with the highest scores, exactly; of equal ones, the first in id order.

        Parameters
        ----------
        user_id
            The caller's label, or a list of labels.
        n
            Length of a list.
        exclude_seen
            Leave out what the user has in the training ratings.
        among, exclude
            Item labels: only these, and not those.
        where
            A condition on the columns of the item table, such as ``'year >= 1990 and genre == "Drama"'``
            (see `hatrix.models.where.rows_where`).
        risk
            For models with a posterior: rank by this quantile of the score's draws instead of their mean. 0.1 makes safe
            picks, items that are good even if the model is wrong about them.

        Returns
        -------
        DataFrame
            ``item``, ``score`` (the raw score, or its quantile) and the columns of the item table, best first; for a
            list of labels ``user`` before them. Its ``attrs`` say, by label, why a list is ``short`` of n items and
            which are a ``fallback``: unknown and cold users get the ranking by item biases (``"bias"``), by the number of
            ratings where the model has no biases (``"popularity"``), by the prior of a posterior (``"prior"``), or by what
            a posterior makes of the user's attributes (``"attributes"``). Users, and labels
            in ``among`` and ``exclude``, that the model does not know are in ``attrs["warnings"]``.

        Raises
        ------
        ParameterError
            If an argument is outside what is allowed.
        DataError
            If what was seen is to be left out and the model was saved without it.

        Examples
        --------
        >>> import hatrix as hx
        >>> ratings = hx.Ratings.from_columns(["ann", "ann", "bob"], ["a", "b", "c"], [5.0, 4.0, 3.0])
        >>> model = hx.Bias().fit(ratings, progress=False)
        >>> model.recommend("bob", 3)["item"].tolist()
        ['a', 'b']
        >>> model.recommend("bob", 3).attrs["short"]
        {'bob': '2 of 3: the model knows 3 items, and the user has seen 1 of them'}
        """
        from hatrix.models.recommend import recommend

        options = {"among": among, "exclude": exclude, "where": where, "risk": risk}
        return recommend(self._model, user_id, n, exclude_seen=exclude_seen, **options)

    def recommend_all(
        self,
        n: int = 10,
        path: str | Path | None = None,
        *,
        memory: str | int = "512MB",
        exclude_seen: bool = True,
        among: Any = None,
        exclude: Any = None,
        where: str | None = None,
        risk: float | None = None,
        threads: int | None = None,
        progress: bool = True,
    ) -> pd.DataFrame | Streamed:
        """Return the n best items of every user, exactly.

        Parameters
        ----------
        n
            Length of the lists.
        path
            A ``.parquet`` or ``.csv`` file to write them to, block by block, instead of returning them. It appears when it
            is complete. The blocks of an interrupted run are kept beside it, and the same call continues after them. One
            run at a time writes to a path.
        memory
            What may be used besides the items and, without a path, the frame returned. A quarter of it is, so that it is
            a limit of the whole process where that and the items fit into the rest. Training rows and factors of users
            that are mapped from a model file are gone through block by block, and let go of.
        exclude_seen, among, exclude, where, risk
            As in `recommend`.
        threads
            By default the cores this process may use.
        progress
            Show a progress bar, where standard error is a terminal.

        Returns
        -------
        DataFrame or Streamed
            ``user``, ``item``, ``score``, best first, users in id order; ``basis`` is ``"model"``, or what the list of an
            unknown or cold user is ranked by (see `recommend`). With a path: what was written.

        Raises
        ------
        ParameterError, DataError
            As in `recommend`; also if the file cannot be written, or another run writes it now.
        """
        from hatrix.models.recommend_all import recommend_all

        options = {"among": among, "exclude": exclude, "where": where, "risk": risk, "threads": threads}
        return recommend_all(
            self._model, n, path, memory=memory, exclude_seen=exclude_seen, progress=progress, **options
        )

    def similar_items(self, item_id: Any, n: int = 10, *, metric: str = "cosine") -> pd.DataFrame:
        """The n items whose factors are nearest to those of an item, exactly.

        Parameters
        ----------
        item_id
            The caller's label.
        n
            How many.
        metric
            ``"cosine"``, the angle alone, or ``"dot"``, which favours items with large factors. Of a posterior it is that
            of all draws side by side.

        Returns
        -------
        DataFrame
            ``item``, ``score`` and the columns of the item table, nearest first, equals in id order. Neither the item
            itself nor items without factors are in it.

        Raises
        ------
        DataError
            If the item is unknown or has no training ratings, or the model has no factors.
        ParameterError
            If an argument is outside what is allowed.

        Examples
        --------
        >>> import hatrix as hx
        >>> rows = [(u, i) for u in range(20) for i in range(6) if (u + i) % 2 == 0]
        >>> model = hx.SpectralMF(factors=2).fit(hx.Ratings.from_columns(*zip(*rows)), progress=False)
        >>> sorted(model.similar_items(0, 2)["item"].tolist())
        [2, 4]
        """
        from hatrix.models.similar import similar

        return similar(self._model, "item", item_id, n, metric)

    def similar_users(self, user_id: Any, n: int = 10, *, metric: str = "cosine") -> pd.DataFrame:
        """The n users whose factors are nearest to those of a user, with the columns of the user table.

        As `similar_items`.
        """
        from hatrix.models.similar import similar

        return similar(self._model, "user", user_id, n, metric)

    def explain(self, user_id: Any, item_id: Any, *, n: int = 10, removals: int = 3) -> pd.DataFrame:
        """Why an item has its score for a user: the parts that add up to it, and the ratings that carry it.

        Parameters
        ----------
        user_id, item_id
            The caller's labels.
        n
            Length of a list of recommendations, for what happens without some of the user's ratings.
        removals
            Take away this many of the user's ratings at the most to make the item leave that list; 0 does not try.

        Returns
        -------
        DataFrame
            ``part``, ``item``, ``rating``, ``contribution`` and the columns of the item table. The parts are ``mean``,
            ``item bias``, ``user bias``, an ``average user`` where the model centres users on one, the user's
            ``attributes`` where it knows them, a ``rating`` for each training rating of the user, the greatest first, and
            ``rest``; the contributions add up to the score. A rating contributes through the equations by which its user
            would be folded in (see `fold_in`), which are linear in the ratings; ``rest`` is what training has put into
            the user's factors beyond that.

            In ``attrs``: ``score``; ``rank`` among unseen items; ``seen``, whether the user has rated the item in the
            training ratings, so that it is in no list (its rank is then the one it would have otherwise); ``fit``, the
            share of the variance of the user's factor scores over all items that the ratings account for (1 if no rest is
            left); ``without``, for an item in the list of n, which no seen item is: the ``items`` whose ratings carry it,
            taken away one by one with all else recomputed, the ``score`` and ``rank`` then, and whether it ``leaves`` the
            list.

        Raises
        ------
        DataError
            If the item is unknown.
        ParameterError
            If an argument is outside what is allowed.

        Examples
        --------
        >>> import hatrix as hx
        >>> ratings, _ = hx.synthetic.make(60, 40, n_ratings=1200, seed=1)
        >>> model = hx.ALS(factors=2).fit(ratings, progress=False)
        >>> reasons = model.explain(5, 3)
        >>> reasons["part"].head(4).tolist()
        ['mean', 'item bias', 'user bias', 'rating']
        >>> bool(abs(reasons["contribution"].sum() - model.scores(5)[0, 2]) < 1e-5)
        True
        """
        from hatrix.models.explain import explain

        return explain(self._model, user_id, item_id, n=n, removals=removals)

    def fold_in(
        self,
        ratings: Mapping[Any, float],
        *,
        user_id: Any = "new user",
        attributes: Mapping[str, Any] | None = None,
    ) -> FactorModel:
        """A model of one new user, from a few ratings and without training: predict, recommend and so on as ever.

        Parameters
        ----------
        ratings
            Ratings by item label, on the scale of the training ratings (or counts, for models of clicks).
        user_id
            The new user's label in the model returned.
        attributes
            For `BayesianMF` with the field "user_attributes": values of columns of the user table, such as
            ``{"age": 25, "occupation": "writer"}``; several of one column with ``|`` between.

        Returns
        -------
        FactorModel
            The user's row is the one that the recipe's objective wants with the items fixed (see
            `hatrix.models.fold_in`); of a posterior, a draw from its conditional distribution for each draw. Items
            and values of attributes that the model does not know are left out, and its ``notes`` name them, as they do
            attributes that are not given. No ratings make a cold user, who is what the attributes say.

        Raises
        ------
        DataError
            If a rating is no number or off the scale, none of the items is known, or the model knows no such attributes.

        Examples
        --------
        >>> import hatrix as hx
        >>> ratings, _ = hx.synthetic.make(60, 40, n_ratings=1200, seed=1)
        >>> eve = hx.ALS(factors=2).fit(ratings, progress=False).fold_in({3: 5.0, 8: 4.0, 1: 1.0}, user_id="eve")
        >>> eve.recommend("eve", 2)["item"].isin([3, 8, 1]).any()
        np.False_
        """
        from hatrix.models.fold_in import fold_in

        return fold_in(self._model, ratings, user_id=user_id, attributes=attributes)

    def fold_in_item(
        self,
        ratings: Mapping[Any, float],
        *,
        item_id: Any = "new item",
        attributes: Mapping[str, Any] | None = None,
    ) -> FactorModel:
        """A model of one new item for all users, from ratings by user label; else as `fold_in`.

        With the field "item_attributes", an item that nobody has rated yet is what its attributes say.

        `BPR` compares the items of one user and leaves open how users compare. So that the scores tell whom the new item
        suits, the view of a `BPR` has user biases: a user's scores, summed over the items as log odds, then come to the
        number of items that the user has. Take ``user_bias`` off for a score beside those of the model's own items.

        Raises
        ------
        DataError
            As in `fold_in`; and of bpr without its training rows, for it learns an item from those who do not have it, too.

        Examples
        --------
        >>> import hatrix as hx, pandas as pd
        >>> from dataclasses import replace
        >>> clicks = hx.Ratings.from_columns(*zip(*[(u, i) for u in range(20) for i in range(12) if (u + i) % 2 == 0]))
        >>> new = hx.SpectralMF(factors=2).fit(clicks, progress=False).fold_in_item({0: 1, 2: 1, 4: 1}, item_id="new")
        >>> bool(new.predict(6, "new") > new.predict(7, "new"))
        True
        >>> rows = [(u, i, 5.0 if u % 2 == i % 2 else 1.0) for u in range(40) for i in range(24) if (u + i) % 5]
        >>> kinds = pd.DataFrame({"kind": ["drama", "comedy"] * 12})
        >>> ratings = replace(hx.Ratings.from_columns(*zip(*rows)), item_table=kinds)
        >>> recipe = hx.BayesianMF(factors=1, epochs=60, fields=("user", "item", "item_attributes"))
        >>> new = recipe.fit(ratings, progress=False).fold_in_item({}, attributes={"kind": "comedy"})
        >>> bool(new.predict(3, "new item") > new.predict(4, "new item"))
        True
        """
        from hatrix.models.fold_in import fold_in_item

        return fold_in_item(self._model, ratings, item_id=item_id, attributes=attributes)

    def update(self, new_ratings: Ratings, *, sweeps: int = 2, threads: int | None = None) -> FactorModel:
        """A model that knows new ratings, users and items, without training anew.

        The users and items that have new ratings are solved again from all that is known of them, users first, as
        `fold_in` would solve them, with every other row as it is; new ones enter so, with their lines of the tables of the
        new ratings. ``Bias``, ``Popular``, ``SpectralMF`` and ``BPR`` are fitted again with all ratings, which is quick.
        What is not drawn again: of `BayesianMF` the rows of attributes, of items rated and of raters (a new item or user
        has the mean of those), times, days, noise and hyper-priors.

        Parameters
        ----------
        new_ratings
            As the model was trained on: ratings on its scale, or counts. The new rating of a pair takes the place of the
            old one; counts are added.
        sweeps
            How often either side is solved.
        threads
            By default the cores this process may use; results do not depend on their number.

        Returns
        -------
        FactorModel
            A new model, with the merged training rows. Its ``drift`` tells how far it has come from the last fit, and
            ``drift.due`` why a fit of everything is due, if one is.

        Raises
        ------
        DataError
            If the ratings do not fit the model, or it was saved without its training rows or those of its fields.

        Examples
        --------
        >>> import hatrix as hx
        >>> ratings, _ = hx.synthetic.make(60, 40, n_ratings=1200, seed=1)
        >>> model = hx.ALS(factors=2).fit(ratings, progress=False)
        >>> newer = model.update(hx.Ratings.from_columns([61, 61, 2], [3, 41, 41], [5.0, 4.0, 1.0], scale=(1, 5)))
        >>> len(newer.users) - len(model.users), len(newer.items) - len(model.items), newer.drift.added
        (1, 1, 3)
        """
        from hatrix.models.update import update

        return update(self._model, new_ratings, sweeps=sweeps, threads=threads)

    def forget(self, user_id: Any, *, refit: bool = False) -> FactorModel:
        """A model without a user, or without those of a list: factors, bias, training rows, counts and attributes.

        What all users have shaped together keeps its share of them unless ``refit`` is asked for: then the items that
        they had are solved again without them; `ALS` and `ImplicitALS` go on with sweeps of all rows, and what `update`
        fits again is fitted again. Hyper-priors, and item terms of `SVDpp`, stay as they are: only a new fit is without
        any trace.

        Raises
        ------
        DataError
            If a user is unknown, no other one is left, or items are to be refitted without training rows.

        Examples
        --------
        >>> import hatrix as hx
        >>> ratings = hx.Ratings.from_columns(["ann", "ann", "bob"], ["a", "b", "a"], [5.0, 3.0, 4.0])
        >>> model = hx.ALS(factors=2).fit(ratings, progress=False)
        >>> model.forget("ann")
        FactorModel(als, 1 users × 2 items, 2 factors, 1 ratings)
        """
        from hatrix.models.update import forget

        return forget(self._model, user_id, refit=refit)
