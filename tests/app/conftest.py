from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from command import Outcome
from hatrix.app.cli import main


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
