"""Progress bars and what is printed while one is shown."""

from __future__ import annotations

import io
import sys

import pytest

pytest.importorskip("rich")

from rich.console import Console

from keystep.bars import progress_bar


@pytest.mark.parametrize("terminal", [False, True])
def test_what_is_printed_to_a_file_stays_there(
    terminal: bool, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """The bar is on a terminal in both cases; on one that lines share with it they go above the bar."""
    monkeypatch.setattr(sys.stdout, "isatty", lambda: terminal)
    shown = io.StringIO()
    with progress_bar(console=Console(file=shown, force_terminal=True)) as progress:
        progress.add_task("episodes", total=2)
        print("a line")
    assert (capsys.readouterr().out == "a line\n") is not terminal
    assert ("a line" in shown.getvalue()) is terminal
