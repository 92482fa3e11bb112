"""LIBMF, the peer for stochastic gradient descent: its fastest build, driven through its C interface.

The source is the PyPI package libmf 0.9.2 (LIBMF 2.01), compiled once into a temporary folder with
``-O3 -march=native -DUSEAVX -mavx -DUSEOMP -fopenmp``; its own default flags are several times slower.
"""

from __future__ import annotations

import ctypes
import subprocess
import sys
import tarfile
import tempfile
from pathlib import Path

import numpy as np

FLAGS = [
    "-O3",
    "-march=native",
    "-DUSEAVX",
    "-mavx",
    "-DUSEOMP",
    "-fopenmp",
    "-std=c++11",
    "-shared",
    "-fPIC",
]
FLOATS = ctypes.POINTER(ctypes.c_float)


class Parameter(ctypes.Structure):
    _fields_ = [
        ("fun", ctypes.c_int),
        ("k", ctypes.c_int),
        ("nr_threads", ctypes.c_int),
        ("nr_bins", ctypes.c_int),
        ("nr_iters", ctypes.c_int),
        ("lambda_p1", ctypes.c_float),
        ("lambda_p2", ctypes.c_float),
        ("lambda_q1", ctypes.c_float),
        ("lambda_q2", ctypes.c_float),
        ("eta", ctypes.c_float),
        ("do_nmf", ctypes.c_bool),
        ("quiet", ctypes.c_bool),
        ("copy_data", ctypes.c_bool),
    ]


class Model(ctypes.Structure):
    _fields_ = [
        ("fun", ctypes.c_int),
        ("m", ctypes.c_int),
        ("n", ctypes.c_int),
        ("k", ctypes.c_int),
        ("b", ctypes.c_float),
        ("P", FLOATS),
        ("Q", FLOATS),
    ]


def library() -> ctypes.CDLL:
    """The compiled library; built on first use."""
    folder = Path(tempfile.gettempdir()) / "hatrix-benchmarks"
    built = folder / "libmf-avx.so"
    if not built.exists():
        folder.mkdir(exist_ok=True)
        fetch = [sys.executable, "-m", "pip", "download", "-q", "--no-deps"]
        fetch += ["--no-binary", ":all:", "-d", str(folder), "libmf==0.9.2"]
        subprocess.run(fetch, check=False, capture_output=True)
        with tarfile.open(folder / "libmf-0.9.2.tar.gz") as archive:
            archive.extractall(folder, filter="data")
        source = folder / "libmf-0.9.2" / "src_cpp"
        files = [str(source / name) for name in ("libmf_interface.cpp", "mf.cpp")]
        subprocess.run(["g++", *FLAGS, *files, "-o", str(built)], check=True)
    loaded = ctypes.CDLL(str(built))
    loaded.fit_interface.restype = ctypes.POINTER(Model)
    loaded.fit_interface.argtypes = (ctypes.c_int, FLOATS, ctypes.POINTER(Parameter))
    return loaded


def triplets(user: np.ndarray, item: np.ndarray, value: np.ndarray) -> np.ndarray:
    """The (user, item, rating) float32 rows that its interface takes."""
    return np.stack([user, item, value], axis=1).astype(np.float32)


def fit(
    rows: np.ndarray,
    *,
    factors: int,
    epochs: int,
    regularization: float,
    learning_rate: float,
    threads: int,
    bins: int,
) -> tuple[np.ndarray, np.ndarray]:
    """Train on triplets; returns P and Q (NaN where a row had no rating)."""
    parameter = Parameter(
        0,
        factors,
        threads,
        bins,
        epochs,
        0.0,
        regularization,
        0.0,
        regularization,
        learning_rate,
        False,
        True,
        False,
    )
    data = rows.ctypes.data_as(FLOATS)
    model = library().fit_interface(len(rows), data, ctypes.byref(parameter)).contents
    P = np.ctypeslib.as_array(model.P, (model.m, model.k))
    Q = np.ctypeslib.as_array(model.Q, (model.n, model.k))
    return P, Q
