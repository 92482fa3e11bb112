"""The public data sets that have a name here: their sizes, addresses and checksums.

The counts are of ratings, and of users and items that have any. SHA-256 sums are those of the list in
tensorflow-datasets 4.9.10; those of 10M and 32M, which it lacks, are the ones that several projects on GitHub
have written down alike, beside GroupLens' MD5.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from hatrix.data.layouts import LAYOUTS, Layout, from_recbole, is_lightgcn

__all__ = ["CATALOGUE", "UNSTATED", "DataSet", "Mirror"]

GROUPLENS = "https://files.grouplens.org/datasets/movielens"
RESEARCH = "GroupLens: research only, no redistribution"
SHARE_ALIKE = "GroupLens: non-commercial, share alike"
UNSTATED = "not stated"


@dataclass(frozen=True)
class Mirror:
    """A file of a published package that holds a data set in the folder ``inside``."""

    project: str
    filename: str
    sha256: str
    inside: str
    convert: Callable[[Path], None] | None = None
    sha256_after: tuple[tuple[str, str], ...] = ()

    @property
    def package(self) -> str:
        """Name and version of the package, such as ``recbole 1.2.1``."""
        version = self.filename.removesuffix(".tar.gz").split("-")[1]
        return f"{self.project} {version}"


@dataclass(frozen=True)
class DataSet:
    """What is known of a data set: counts, scale, form, and where to get it with which size and checksum."""

    name: str
    rows: int | None
    users: int | None
    items: int | None
    scale: tuple[float, float] | None
    layout: Layout | None
    licence: str
    size: int | None = None
    sha256: str | None = None
    url: str | None = None
    mirror: Mirror | None = None
    folder: str = ""
    advice: str = ""

    @property
    def changes(self) -> bool:
        """Whether its content changes over time, so that no checksum can be known beforehand."""
        return self.url is not None and self.sha256 is None

    def is_in(self, folder: Path) -> bool:
        """Whether the folder has the ratings of this data set."""
        if self.layout is None:
            return is_lightgcn(folder)
        return any((folder / file).is_file() for file in self.layout.ratings)


STARS, HALF_STARS = (1.0, 5.0), (0.5, 5.0)


def _movielens(
    name: str,
    rows: int,
    users: int,
    items: int,
    layout: str,
    size: int | None,
    sha256: str | None,
    *,
    mirror: Mirror | None = None,
    folder: str = "",
    advice: str = "",
) -> DataSet:
    scale = STARS if layout in ("ml-100k", "ml-1m") else HALF_STARS
    licence = SHARE_ALIKE if layout == "csv" else RESEARCH
    url = f"{GROUPLENS}/{name}.zip"
    return DataSet(
        name, rows, users, items, scale, LAYOUTS[layout], licence, size, sha256, url, mirror, folder, advice
    )


RECBOLE = Mirror(
    "recbole",
    "recbole-1.2.1-py3-none-any.whl",
    "9c9948202011f37eb0a7c6768129313f00d6403ad221ec940d5e2d5d5f33a407",
    "recbole/dataset_example/ml-100k",
    from_recbole,
    (
        ("u.data", "06416e597f82b7342361e41163890c81036900f418ad91315590814211dca490"),
        ("u.user", "f120e114da2e8cf314fd28f99417c94ae9ddf1cb6db8ce0e4b5995d40e90e62c"),
    ),
)
LENSKIT = Mirror(
    "lenskit",
    "lenskit-2025.8.1.tar.gz",
    "954b22a81e8a0d2012a173340079aa3d0c68dcc8cb9954e488fc228d77d4cb55",
    "lenskit-2025.8.1/data/ml-latest-small",
)

CATALOGUE = {
    entry.name: entry
    for entry in (
        _movielens(
            "ml-100k", 100_000, 943, 1_682, "ml-100k", 4_924_029,
            "50d2a982c66986937beb9ffb3aa76efe955bf3d5c6b761f4e3a7cd717c6a3229", mirror=RECBOLE,
        ),
        _movielens(
            "ml-1m", 1_000_209, 6_040, 3_706, "ml-1m", 5_917_549,
            "a6898adb50b9ca05aa231689da44c217cb524e7ebd39d264c56e2832f2c54e20",
        ),
        _movielens(
            "ml-10m", 10_000_054, 69_878, 10_677, "ml-10m", 65_566_137,
            "813c411ccb6122564edfe752e7f80c4dcc5aa25fa94c93622f6877a7ba252862", folder="ml-10M100K",
        ),
        _movielens(
            "ml-20m", 20_000_263, 138_493, 26_744, "csv", 198_702_078,
            "96f243c338a8665f6bcc89c53edf6ee39162a846940de6b7c8c48aeada765ff3",
        ),
        _movielens(
            "ml-25m", 25_000_095, 162_541, 59_047, "csv", 261_978_986,
            "8b21cfb7eb1706b4ec0aac894368d90acf26ebdfb6aced3ebd4ad5bd1eb9c6aa",
        ),
        _movielens(
            "ml-32m", 32_000_204, 200_948, 84_432, "csv", 238_950_008,
            "e4a68655d7386b8f95f2f2424b2ff975dfdd15ffd59e0d864a14dca43e99d6ee",
        ),
        _movielens("ml-latest", 33_832_162, 330_975, 83_239, "csv", None, None),
        _movielens(
            "ml-latest-small", 100_836, 610, 9_724, "csv", 978_202,
            "696d65a3dfceac7c45750ad32df2c259311949efec81f0f144fdfb91ebc9e436",
            advice="or take its edition of October 2016, ml-latest-small-2016, which has a mirror",
        ),
        DataSet(
            "ml-latest-small-2016", 100_004, 671, 9_066, HALF_STARS, LAYOUTS["csv"], SHARE_ALIKE, 2_988_956,
            mirror=LENSKIT,
        ),
        DataSet(
            "gowalla", 1_027_370, 29_858, 40_981, None, None, UNSTATED,
            advice="they are train.txt and test.txt in Data/gowalla of LightGCN's repository on GitHub",
        ),
    )
}  # fmt: skip
