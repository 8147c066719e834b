"""Write tutorial.ipynb from tutorial.md, so that there is one text; a test checks that they agree.

    python docs/make_tutorial_notebook.py

Text becomes Markdown cells, Python blocks code cells, bash blocks `%%bash` cells. Each `%%bash` cell has a shell of its
own: a block that only sets variables becomes `%env` lines, which later cells of both kinds see. A cell that writes
figures is followed by one that shows them. Blocks that the tests do not run (`<!-- not run: ... -->`) stay text.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path

import nbformat
from nbformat import v4

HERE = Path(__file__).parent
PAGE, NOTEBOOK = HERE / "tutorial.md", HERE / "tutorial.ipynb"

_BLOCK = re.compile(r"^```(?P<language>bash|python)\n(?P<code>.*?)^```$\n?", re.MULTILINE | re.DOTALL)
_SETTING = re.compile(r"export (?P<name>\w+)=(?P<value>\S+)")
_FIGURE = re.compile(r"\b\w+\.png\b")
_HERE_AS_PAGE = "The same steps as a notebook: [tutorial.ipynb](tutorial.ipynb)."


def notebook() -> str:
    """Return the notebook's text as the page has it now."""
    cells = []
    for number, (kind, source) in enumerate(_pieces(PAGE.read_text("utf-8"))):
        new_cell = v4.new_code_cell if kind == "code" else v4.new_markdown_cell
        cells.append(new_cell(source, id=f"cell-{number}"))
    kernel = {"display_name": "Python 3", "language": "python", "name": "python3"}
    metadata = {"kernelspec": kernel, "language_info": {"name": "python"}}
    return nbformat.writes(v4.new_notebook(cells=cells, metadata=metadata)) + "\n"


def _pieces(page: str) -> Iterator[tuple[str, str]]:
    assert _HERE_AS_PAGE in page
    page = page.replace(_HERE_AS_PAGE, "The same as a page: [tutorial.md](tutorial.md).")
    done = 0
    for block in _BLOCK.finditer(page):
        if page[: block.start()].endswith("-->\n"):
            continue
        if text := page[done : block.start()].strip():
            yield "markdown", text
        yield "code", _code(block["language"], block["code"].rstrip("\n"))
        if figures := _FIGURE.findall(block["code"]):
            shown = ", ".join(f'Image("{name}", width=700)' for name in figures)
            yield "code", f"from IPython.display import Image, display\n\ndisplay({shown})"
        done = block.end()
    if text := page[done:].strip():
        yield "markdown", text


def _code(language: str, code: str) -> str:
    if language == "python":
        return code
    settings = [_SETTING.fullmatch(line) for line in code.splitlines()]
    if all(settings):
        return "\n".join(f"%env {setting['name']}={setting['value']}" for setting in settings if setting)
    assert not any(line.startswith("export ") for line in code.splitlines()), "a block of settings alone, please"
    return f"%%bash\n{code}"


if __name__ == "__main__":
    NOTEBOOK.write_text(notebook(), encoding="utf-8")
