"""``hatrix spark``, by itself, by spark-submit, and on a cluster of two workers; and what it says where Spark cannot run."""

from __future__ import annotations

import json
import os
import stat
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pandas as pd
import pytest

import hatrix as hx
import spark as own
from command import COLUMNS, refused
from hatrix.app.spark import java
from hatrix.errors import MissingExtraError

needs_spark = [
    pytest.mark.campaign,
    pytest.mark.skipif(own.why_not() is not None, reason=str(own.why_not())),
    pytest.mark.filterwarnings("ignore::FutureWarning"),
]
QUICK = ["--factors", "3", "--epochs", "5", "--blocks", "2"]
COARSE = ["--factors", "3", "--epochs", "2", "--blocks", "1"]


@pytest.fixture
def source(tmp_path: Path) -> Path:
    ratings = hx.synthetic.make(50, 30, n_ratings=500, seed=2)[0]
    frame = ratings.to_frame().rename(columns={"user": "who", "item": "film", "rating": "stars"})
    frame.to_csv(tmp_path / "ratings.csv", index=False)
    return tmp_path / "ratings.csv"


@pytest.fixture(scope="module")
def local() -> Iterator[Any]:
    """A session for the commands to find, so that each does not start a Java of its own."""
    from hatrix.app.spark import session

    running = session("local[2]", conf=own.SMALL)
    yield running
    running.stop()


class TestHere:
    pytestmark = needs_spark

    def test_fit_and_recommend(self, hatrix: Any, source: Path, local: Any) -> None:  # noqa: ARG002
        fit = ["spark", "fit", source, "als", *QUICK, *COLUMNS]
        done = hatrix(*fit, *["--test", "0.2", "--out", "m.hatrix", "--json", "-q"])
        assert (done.status, done.err) == (0, "")
        facts = json.loads(done.out)
        assert facts["n_train"] + facts["n_test"] == 500
        assert 0.3 < facts["evaluation"]["rmse"] < 2
        assert facts["split"] == "per_user 0.2 by hash, seed 42"
        model = hx.load(source.parent / "m.hatrix")
        assert (model.recipe.name, model.recipe.factors, model.recipe.epochs) == ("als", 3, 5)
        assert "auto" not in model.recipe.model_dump().values()
        done = hatrix(*["spark", "recommend", "m.hatrix", "-n", "3", "--exclude", "1", "2", "--out", "lists"])
        want = model.recommend_all(3, exclude=[1, 2], progress=False)
        assert (done.status, done.out) == (0, f"{len(want)} items for 50 users: lists\n")
        got = pd.read_parquet(source.parent / "lists").sort_values("user", kind="stable")
        assert got.item.tolist() == want.item.tolist()
        refused(
            hatrix(*["spark", "recommend", "m.hatrix", "--out", "lists"]), "lists exists: give a new folder"
        )

    def test_a_folder_of_parquet_in_and_out(self, hatrix: Any, source: Path, local: Any) -> None:
        local.read.csv(str(source), header=True, inferSchema=True).write.parquet(str(source.parent / "in[1]"))
        done = hatrix(
            *["spark", "fit", "in[1]", "als", "--no-seen", "--out", "model [1]", "-q"], *QUICK, *COLUMNS
        )
        assert (done.status, done.err) == (0, "")
        refused(
            hatrix(*["spark", "recommend", "model [1]", "--out", "lists{1}"]),
            "give --ratings, or add --include-seen",
        )
        done = hatrix(
            *[
                "spark",
                "recommend",
                "model [1]",
                "--ratings",
                "in[1]",
                "-n",
                "2",
                "--out",
                "lists{1}",
                "--json",
                "-q",
            ],
            *COLUMNS,
        )
        got, rated = pd.read_parquet(source.parent / "lists{1}"), pd.read_csv(source)
        left = 30 - rated.groupby("who").size()
        assert json.loads(done.out)["rows"] == len(got) == left.clip(upper=2).sum()
        pairs = rated[["who", "film"]].itertuples(index=False, name=None)
        assert not set(zip(got.user, got.item, strict=True)) & set(pairs)

    def test_mistakes_are_one_line_and_leave_nothing(self, hatrix: Any, source: Path, local: Any) -> None:  # noqa: ARG002
        fit, to = ["spark", "fit", source, "als"], ["--out", "m.hatrix", *COLUMNS]
        refused(hatrix(*fit[:3], "biased-mf", *to), "biased-mf is not trained on Spark")
        refused(hatrix(*fit, "--solver", "cg", *to), "solver='cg' cannot be had on Spark")
        refused(hatrix(*fit, "--conf", "memory=8g", *to), "--conf memory=8g: give a setting")
        refused(hatrix("spark", "fit", "hdfs://nowhere:1/x", "als", *to), "hdfs://nowhere:1/x cannot be read")
        refused(hatrix("spark", "fit", "ml-none", "als", *to), "there is no file and no data set 'ml-none'")
        refused(hatrix(*fit, *QUICK, "--out", "s3a://b/m.hatrix"), "is written by this machine")
        source.write_text(source.read_text() + "7,,3\n")
        refused(hatrix(*fit, *to), "ratings.csv")
        assert sorted(path.name for path in source.parent.iterdir()) == ["ratings.csv"]

    def test_spark_submit_and_a_cluster_of_two_workers(self, source: Path, tmp_path: Path) -> None:
        from hatrix.app.spark import submit

        settings = [word for pair in own.SMALL.items() for word in ("--conf", "=".join(pair))]
        settings += ["--conf", "spark.executor.memory=512m", "--conf", "spark.ui.enabled=false"]

        def ran(*command: str, python: str = sys.executable) -> str:
            environment = os.environ | {"SPARK_LOCAL_IP": "127.0.0.1", "PYSPARK_PYTHON": python}
            done = subprocess.run(
                command, capture_output=True, text=True, cwd=tmp_path, env=environment, check=False
            )
            assert done.returncode == 0, done.stderr
            return done.stdout

        with own.cluster(tmp_path) as address:
            # spark-submit prints what goes to stderr on stdout
            fit = ["fit", str(source), "als", *COARSE, *COLUMNS, *["--out", "m.hatrix", "--json", "-q"]]
            said = ran(
                own.program("spark-submit"), "--master", address, *settings, str(submit.__file__), *fit
            )
            assert json.loads(said)["n_train"] == 500
            ask = ["-m", "hatrix", "spark", "recommend", "m.hatrix", "-n", "3", "--out", "lists"]
            settings += ["--conf", f"spark.pyspark.python={sys.executable}"]
            said = ran(sys.executable, *ask, "--master", address, *settings, python="nowhere/python")
            workers = [(tmp_path / f"worker{n}.log").read_text(errors="replace") for n in range(2)]
            assert all("Asked to launch executor" in log for log in workers)
        got = pd.read_parquet(tmp_path / "lists").sort_values("user", kind="stable")
        want = hx.load(tmp_path / "m.hatrix").recommend_all(3, progress=False)
        assert said == f"{len(want)} items for 50 users: lists\n"
        assert got.item.tolist() == want.item.tolist()
        assert got.score.tolist() == want.score.tolist()


def test_help_does_not_load_spark() -> None:
    code = "import sys, contextlib; sys.argv = 'hatrix spark fit x als --help'.split(); from hatrix.app.cli import main\n"
    code += "with contextlib.suppress(SystemExit): main()\nsys.stderr.write(repr({'pyspark', 'pyarrow'} & set(sys.modules)))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert "--nu" in done.stdout
    assert "--master" in done.stdout
    assert done.stderr == "set()"


def test_without_the_package(monkeypatch: pytest.MonkeyPatch, hatrix: Any, tmp_path: Path) -> None:
    monkeypatch.setattr(java, "find_spec", lambda name: None if name == "pyspark" else object())
    (tmp_path / "r.csv").write_text("user,item,rating\n1,1,5\n")
    done = hatrix("spark", "fit", "r.csv", "als", "--out", "m.hatrix")
    refused(done, "hatrix spark needs the package pyspark, which is not installed", "install '.[spark]'")


def fake_java(folder: Path, said: str) -> Path:
    program = folder / "bin" / "java"
    program.parent.mkdir(parents=True)
    program.write_text(f"#!/bin/sh\necho '{said}' >&2\n")
    program.chmod(program.stat().st_mode | stat.S_IXUSR)
    return program


@pytest.mark.parametrize(
    ("said", "version"), [('openjdk version "17.0.15" 2025-04-15', 17), ('java version "21" 2023', 21)]
)
def test_java_that_is_new_enough(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, said: str, version: int
) -> None:
    fake_java(tmp_path, said)
    monkeypatch.setenv("JAVA_HOME", str(tmp_path))
    assert java.need_java() == version


@pytest.mark.parametrize(
    ("said", "message"),
    [
        ('openjdk version "11.0.2"', r"bin/java \(of JAVA_HOME\) is Java 11: install Java 17 or newer"),
        ('java version "1.8.0_402"', "is Java 8: install"),
        ("what?", "does not tell its version"),
    ],
)
def test_java_that_is_too_old(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, said: str, message: str
) -> None:
    fake_java(tmp_path, said)
    monkeypatch.setenv("JAVA_HOME", str(tmp_path))
    with pytest.raises(MissingExtraError, match=f"Spark needs Java 17 or newer, and .*{message}"):
        java.need_java()


def test_no_java_at_all(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("JAVA_HOME", str(tmp_path / "gone"))
    with pytest.raises(MissingExtraError, match=r"gone/bin/java \(of JAVA_HOME\) does not run"):
        java.need_java()
    monkeypatch.delenv("JAVA_HOME")
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(
        MissingExtraError, match=r"there is no java on the path: install .* and let JAVA_HOME name its folder"
    ):
        java.need_java()
