from __future__ import annotations

import os
import subprocess
import sys

FITS = """
import hashlib
import hatrix as hx
ratings, _ = hx.synthetic.make(60, 40, n_ratings=1200, seed=1)
for recipe in (hx.ALS(factors=12, epochs=3), hx.BayesianMF(factors=3, epochs=6, burn_in=1, draws=2)):
    model = recipe.fit(ratings, seed=1, threads=1)
    print(hashlib.sha256(model.user_factors.tobytes() + model.item_factors.tobytes()).hexdigest())
"""


def test_kernels_just_compiled_and_from_the_cache_give_the_same_bits(tmp_path):
    outputs, files = [], []
    for _ in range(2):
        ran = subprocess.run(
            [sys.executable, "-c", FITS],
            env=os.environ | {"NUMBA_CACHE_DIR": str(tmp_path)},
            capture_output=True,
            text=True,
            check=True,
        )
        outputs.append(ran.stdout)
        files.append(sorted(path.name for path in tmp_path.rglob("*") if path.is_file()))
    assert outputs[0] == outputs[1]
    assert len(outputs[0].split()) == 2
    assert files[0]
    assert files[0] == files[1], "a kernel was compiled although it was in the cache"


def test_without_compilation_a_typed_error_says_what_to_unset():
    ran = subprocess.run(
        [sys.executable, "-c", FITS],
        env=os.environ | {"NUMBA_DISABLE_JIT": "1"},
        capture_output=True,
        text=True,
        check=False,
    )
    last = ran.stderr.splitlines()[-1]
    assert last.startswith("hatrix.errors.ParameterError: NUMBA_DISABLE_JIT is set")
    assert "unset it in the environment" in last
