"""The documentation is held to the code: generated parts are current, links lead somewhere, examples run."""

from __future__ import annotations

import re
import shlex
from pathlib import Path

import pytest

from convnn.config import command_line
from convnn.presets import resolve, store
from scripts.generate_docs import DOCS, PARTS, ROOT, generated

README = ROOT / "README.md"
PAGES = [README, ROOT / "CONTRIBUTING.md", ROOT / "CHANGELOG.md", *sorted(DOCS.glob("*.md"))]


def links(page: Path) -> list[str]:
    text = re.sub(r"^```.*?^```", "", page.read_text(), flags=re.S | re.M)
    return [link for link in re.findall(r"\]\(([^)\s]+)\)", text) if not re.match(r"https?:", link)]


def headings(page: Path) -> set[str]:
    titles = re.findall(r"^#+ (.*)$", page.read_text(), flags=re.M)
    return {re.sub(r"[^\w\- ]", "", title).strip().lower().replace(" ", "-") for title in titles}


def blocks(page: Path, language: str) -> list[str]:
    return re.findall(rf"^```{language}\n(.*?)^```", page.read_text(), flags=re.S | re.M)


@pytest.mark.parametrize("page", sorted({page for page, _ in PARTS.values()}))
def test_generated_parts_are_current(page):
    text = (DOCS / page).read_text()
    assert generated(page, text) == text, "run: make docs, or .venv/bin/python -m scripts.generate_docs"


def test_the_readme_is_short():
    assert len(README.read_text().splitlines()) < 150
    assert len(README.read_text().split()) < 1500


@pytest.mark.parametrize(
    ("page", "link"), [(page, link) for page in PAGES for link in links(page)], ids=lambda value: str(value)[-40:]
)
def test_links_lead_somewhere(page, link):
    name, _, anchor = link.partition("#")
    target = page.parent / name if name else page
    assert target.exists()
    assert not anchor or anchor in headings(target)


def test_every_page_is_linked_from_the_readme():
    linked = {(README.parent / link).resolve() for link in links(README)}
    assert {page.resolve() for page in PAGES if page != README} <= linked


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_the_training_commands_shown_are_valid(page):
    for line in re.findall(r"^\s*convnn run (.*?)(?:\s+#.*)?$", "\n".join(blocks(page, "bash")), flags=re.M):
        parsed = command_line.parse(shlex.split(line.replace("$seed", "1")))
        assert not parsed.unknown, line
        preset = store.read(parsed.preset) if parsed.preset else None
        assert not resolve.resolve(preset, parsed.typed).problems, line


def test_the_preset_shown_is_valid(tmp_path):
    (preset,) = blocks(README, "toml")
    path = tmp_path / "mine.toml"
    path.write_text(preset)
    assert not resolve.resolve(store.read(str(path))).problems


@pytest.mark.parametrize("page", [README, DOCS / "library.md"], ids=lambda page: page.name)
def test_the_library_example_runs(page):
    example = blocks(page, "python")[0]
    exec(compile(example, page.name, "exec"), {})
