"""The messages that docs/troubleshooting.md explains are messages that the program has."""

from __future__ import annotations

import ast
import re
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
PAGE = ROOT / "docs" / "troubleshooting.md"


def phrases() -> list[str]:
    """Return the parts of each quoted message between the dots that stand for a value."""
    rows = [line for line in PAGE.read_text("utf-8").splitlines() if line.startswith("| `")]
    quoted = [phrase for row in rows for phrase in re.findall(r"`([^`]+)`", row.split(" | ")[0])]
    return [part.strip() for phrase in quoted for part in phrase.split("...") if part.strip()]


@pytest.fixture(scope="module")
def messages() -> str:
    """Return all text of the packages, strings with values in them joined as they are printed."""
    found = []
    for path in [*(ROOT / "runtime").rglob("*.py"), *(ROOT / "export").rglob("*.py")]:
        for node in ast.walk(ast.parse(path.read_text("utf-8"))):
            if isinstance(node, ast.JoinedStr):
                values = [part.value if isinstance(part, ast.Constant) else "\0" for part in node.values]
                found.append("".join(map(str, values)))
            elif isinstance(node, ast.Constant) and isinstance(node.value, str):
                found.append(node.value)
    return "\n".join(found)


@pytest.mark.parametrize("phrase", phrases())
def test_message_exists(phrase: str, messages: str) -> None:
    assert phrase in messages
