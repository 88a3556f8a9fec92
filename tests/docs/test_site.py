"""The site of the documentation: it builds without a warning, asks no other host for anything, and shows what the repository shows."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from collections import Counter
from pathlib import Path

import pytest
from markdown_it import MarkdownIt

from tests.support.documentation.site_markdown import anchor

ROOT = Path(__file__).parents[2]
DOCS = ROOT / "docs"
PAGES = sorted(path.relative_to(DOCS).as_posix() for path in DOCS.rglob("*.md"))
_COMPARED = re.compile(r"<(li|table|tr|td|th|pre|h[1-6]|blockquote|strong|em)\b")


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The site, as `make docs` builds it: any warning is an error."""
    out = tmp_path_factory.mktemp("site")
    done = subprocess.run(
        [sys.executable, "-m", "mkdocs", "build", "--quiet", "--strict", "--site-dir", str(out)],
        capture_output=True,
        text=True,
        cwd=ROOT,
        env={**os.environ, "NO_MKDOCS_2_WARNING": "1"},
        timeout=240,
        check=False,
    )
    assert (done.returncode, done.stdout + done.stderr) == (0, ""), (
        "a link is wrong, or a page is not in mkdocs.yml: add it to `nav`, and to docs/index.md"
    )
    return out


def test_every_page_is_on_the_site(site: Path) -> None:
    for page in PAGES:
        assert (site / html_of(page)).is_file(), page


def html_of(page: str) -> str:
    return re.sub(r"(^|/)README\.md$", r"\1index.md", page).removesuffix(".md") + ".html"


def test_the_first_page_names_every_page_but_the_single_decisions() -> None:
    named = set(re.findall(r"\]\(([\w/.-]+\.md)\)", (DOCS / "index.md").read_text()))
    expected = {page for page in PAGES if not page.startswith("decisions/")} - {"index.md"}
    assert named == expected | {"decisions/README.md"}


def test_no_page_asks_another_host_for_anything(site: Path) -> None:
    """No script, font, picture or style of another host: the site works without a network, and tells nobody who reads it."""
    loads = re.compile(r"<(?:script|img|iframe|link)\b[^>]*\b(?:src|href)=[\"']?(?:https?:)?//[^>]*>")
    for file in site.rglob("*.html"):
        found = [one for one in loads.findall(file.read_text()) if 'rel="canonical"' not in one]
        assert found == [], file
    for file in site.rglob("*.css"):
        assert re.findall(r"(?:url\(|@import )[\"']?(?:https?:)?//", file.read_text()) == [], file


@pytest.mark.parametrize("folder", ["", "reference", "decisions"])
def test_the_site_shows_what_the_repository_shows(site: Path, folder: str) -> None:
    """As many lists, tables, blocks of code and headings as GitHub's Markdown has: a name of a block or a list without an
    empty line before it must not make text of it."""
    github = MarkdownIt("gfm-like", {"linkify": False})
    for page in (DOCS / folder).glob("*.md"):
        html = (site / html_of(page.relative_to(DOCS).as_posix())).read_text()
        shown = html.partition("<article")[2].partition("</article>")[0]
        shown = shown.partition('<aside class="md-source-file"')[0]
        if "<h1" not in github.render(page.read_text()):
            continue
        assert Counter(_COMPARED.findall(shown)) == Counter(
            _COMPARED.findall(github.render(page.read_text()))
        ), page


@pytest.mark.parametrize(
    ("title", "expected"),
    [
        ("What `verify` does not judge", "what-verify-does-not-judge"),
        ("`vacancy.log.opened.v1`", "vacancylogopenedv1"),
        ("A node report: from `/proc` to a row", "a-node-report-from-proc-to-a-row"),
    ],
)
def test_anchors_are_those_of_the_repository(title: str, expected: str) -> None:
    assert anchor(title.replace("`", ""), "-") == expected
