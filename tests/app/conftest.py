from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

import hatrix as hx
import postgres
from command import Outcome
from hatrix.app.cli import main


@pytest.hookimpl(tryfirst=True)
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Leave to ``make test-all`` what needs a session of Spark: its Java takes minutes of processor time."""
    for item in items:
        if isinstance(item, pytest.Function) and "spark" in item.fixturenames:
            item.add_marker("campaign")


@pytest.fixture
def hatrix(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> Callable[..., Outcome]:
    """Run the command in this process, in the test's own folder."""
    monkeypatch.chdir(tmp_path)

    def call(*tokens: str | Path) -> Outcome:
        capsys.readouterr()
        with pytest.raises(SystemExit) as ended:
            main([str(token) for token in tokens])
        printed = capsys.readouterr()
        assert isinstance(ended.value.code, int)
        return Outcome(ended.value.code, printed.out, printed.err)

    return call


@pytest.fixture(scope="session")
def server() -> Iterator[postgres.Server]:
    """A PostgreSQL server, where the machine has one to start."""
    try:
        with postgres.server() as running:
            yield running
    except postgres.NoServer as reason:
        pytest.skip(f"no PostgreSQL: {reason}")


@pytest.fixture(params=["sqlite", "postgresql"])
def store_url(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    """Where a feedback store can be made, in either kind of database."""
    if request.param == "sqlite":
        return f"sqlite:///{tmp_path}/feedback.db"
    running: postgres.Server = request.getfixturevalue("server")
    return running.fresh()


@pytest.fixture(scope="session")
def files(tmp_path_factory: pytest.TempPathFactory) -> list[Path]:
    """Three models of one data set."""
    folder = tmp_path_factory.mktemp("models")
    ratings = hx.synthetic.make(60, 40, n_ratings=900, seed=1)[0]
    paths = [folder / f"{seed}.hatrix" for seed in range(3)]
    for seed, path in enumerate(paths):
        hx.BiasedMF(factors=4, epochs=2).fit(ratings, seed=seed, progress=False).save(path)
    return paths
