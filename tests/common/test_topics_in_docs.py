"""The table of topics in the docs is the one in the code."""

from pathlib import Path

from libs.common.topics import as_markdown


def test_the_docs_show_the_table_as_it_is() -> None:
    docs = (Path(__file__).parents[2] / "docs" / "architecture.md").read_text()
    shown = docs.partition("keeps the two alike -->\n")[2].partition("<!-- /topics")[0]
    assert shown == as_markdown()
