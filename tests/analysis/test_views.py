"""Saved views of the table of runs: kept by name with the comments of their file, and checked when they are read."""

from __future__ import annotations

import pytest

from convnn.analysis.views import View, find_view, read_views, remove_view, save_view, views_path
from convnn.errors import UserError


@pytest.fixture(autouse=True)
def home(tmp_path, monkeypatch):
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path))


def test_a_view_is_saved_found_replaced_and_removed_and_comments_stay():
    assert read_views() == {}
    first, second = View(filter="layer=ConvNN", sort="-best"), View(group="K", columns="name,best")
    assert not save_view("by K", first)
    views_path().write_text("# mine\n" + views_path().read_text())
    assert not save_view("other", second)
    assert save_view("by K", second)
    assert read_views() == {"by K": second, "other": second}
    remove_view("other")
    assert views_path().read_text().startswith("# mine\n")
    assert find_view("by K") == second
    with pytest.raises(UserError, match="Did you mean by K"):
        find_view("by k")


@pytest.mark.parametrize("name", ["", " x", "two\nlines", "x" * 61])
def test_a_name_that_is_none_is_refused(name):
    with pytest.raises(UserError):
        save_view(name, View())
    assert not views_path().exists()


@pytest.mark.parametrize("text", ["[a]\nfilter = 1\n", "[a]\nwhat = 'x'\n", "a = 1\n", "[a\n"])
def test_a_damaged_file_is_reported_and_never_overwritten(text):
    views_path().parent.mkdir()
    views_path().write_text(text)
    with pytest.raises(UserError) as error:
        save_view("mine", View())
    assert error.value.problems[0].file == str(views_path())
    assert views_path().read_text() == text
