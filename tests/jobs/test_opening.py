"""The state of jobs, by its URL."""

from __future__ import annotations

from pathlib import Path

import pytest

from bimodal.errors import UsageError
from bimodal.jobs.opening import open_store


def test_a_relative_file_is_in_the_folder(tmp_path: Path) -> None:
    open_store("sqlite:///.bimodal/my%20state.db", tmp_path).close()
    assert (tmp_path / ".bimodal" / "my state.db").is_file()
    open_store(f"sqlite:///{tmp_path}/absolute.db", Path("/nowhere")).close()
    assert (tmp_path / "absolute.db").is_file()


@pytest.mark.parametrize("url", ["", "state.db", "sqlite://", "sqlite:///", "mysql://ann:sesame@host/x"])
def test_what_is_no_store(url: str, tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="write sqlite:///") as told:
        open_store(url, tmp_path)
    assert "sesame" not in str(told.value)
