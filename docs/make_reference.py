"""Write docs/reference.md from docstrings and declared options: `python docs/make_reference.py`."""

from __future__ import annotations

import inspect
import re
import textwrap
from collections.abc import Iterator
from importlib import import_module
from pathlib import Path
from typing import Any

import scgenept_rt as sgr
from scgenept_rt import options
from scgenept_rt.options import declared_options

PAGE = Path(__file__).with_name("reference.md")

INTRODUCTION = """# Reference

Written by `docs/make_reference.py` (`make docs`) from docstrings and declared options.

**Stable** are the names on this page, the commands and their flags, exit codes, the format of bundles
([bundle-format.md](bundle-format.md)) and the layout of outputs ([output.md](output.md)). They are renamed or removed
only with a release that says so in CHANGELOG, after a release that warns. Everything else is internal and may change at
any time: other modules, names that begin with `_`, and the wording of messages. Catch errors by class, never by text.
"""

GROUPS = ("EngineOptions", "ReadOptions", "PredictOptions", "FileOptions", "FigureOptions")
MODULES = (
    "cluster",
    "evaluation",
    "genetic_interactions",
    "compatibility",
    "verification",
    "benchmark",
    "plotting",
    "download",
)
"""Modules whose public functions are listed with their first sentence."""


def page() -> str:
    """Return the page."""
    return "\n".join([INTRODUCTION, *_main_names(), *_option_tables(), *_modules(), *_errors()])


def _main_names() -> Iterator[str]:
    yield "## `scgenept_rt`\n"
    for name in sgr.__all__:
        if name not in ("__version__", "pl", "ScgeneptError", "ReadOptions"):
            yield from _entry(f"scgenept_rt.{name}", getattr(sgr, name))
    yield "### `scgenept_rt.__version__`\n\nVersion of the installed package.\n"
    yield "### `scgenept_rt.pl`\n\nFigures; see `scgenept_rt.plotting` below.\n"


def _entry(name: str, thing: Any) -> Iterator[str]:
    yield f"### `{name}`\n\n{_documentation(name, thing)}"
    if inspect.isclass(thing):
        for attribute, member in vars(thing).items():
            if attribute.startswith("_"):
                continue
            if isinstance(member, property):
                yield f"#### `{thing.__name__}.{attribute}`\n\n{inspect.getdoc(member)}\n"
            elif isinstance(member, classmethod | staticmethod) or inspect.isfunction(member):
                yield f"#### `{thing.__name__}.{attribute}`\n"
                yield _documentation(f"{thing.__name__}.{attribute}", getattr(thing, attribute))


def _documentation(name: str, thing: Any) -> str:
    text = inspect.getdoc(thing) or ""
    signature = "" if inspect.isclass(thing) else f"{name.rpartition('.')[2]}{inspect.signature(thing)}\n\n"
    return f"```text\n{signature}{text}\n```\n"


def _option_tables() -> Iterator[str]:
    yield "## Options\n\nKeyword arguments in Python, flags on the command line. Of one group: `**options` or `read`.\n"
    for group in GROUPS:
        kind = getattr(options, group)
        yield f"### `{group}`\n\n{inspect.getdoc(kind)}\n"
        yield "| in Python | flag | default | meaning |\n| --- | --- | --- | --- |"
        for option in declared_options(kind):
            flag = f"`{option.flag}`" if option.flag else ""
            yield f"| `{option.name}` | {flag} | `{option.default!r}` | {option.help} |"
        yield ""


def _modules() -> Iterator[str]:
    for name in MODULES:
        module = import_module(f"scgenept_rt.{name}")
        yield f"## `scgenept_rt.{name}`\n\n{_first_sentence(module)}\n"
        public = getattr(module, "__all__", None) or [
            each for each, thing in vars(module).items()
            if not each.startswith("_") and getattr(thing, "__module__", "") == module.__name__
        ]  # fmt: skip
        for each in sorted(public):
            thing = getattr(module, each)
            if inspect.isfunction(thing) or (inspect.isclass(thing) and not issubclass(thing, BaseException)):
                yield f"- `{each}`: {_first_sentence(thing)}{_keys(thing)}"
        yield ""


def _keys(thing: Any) -> str:
    """Return what a docstring says about the keys of dictionaries that are returned."""
    section = r"^(?:Returns|Yields)\n-+\n(?:list of )?dict\n(.*?)(?=\n\n\S|\Z)"
    found = re.search(section, inspect.getdoc(thing) or "", re.DOTALL | re.MULTILINE)
    return "\n\n" + textwrap.indent(textwrap.dedent(found[1]), "  ") + "\n" if found else ""


def _errors() -> Iterator[str]:
    yield "## Errors\n\nAll derive from `scgenept_rt.ScgeneptError`. Import them from `scgenept_rt.errors`.\n"

    def tree(kind: type[Exception], depth: int) -> Iterator[str]:
        yield f"{'  ' * depth}- `{kind.__name__}`: {_first_sentence(kind)}"
        for child in sorted(kind.__subclasses__(), key=lambda each: each.__name__):
            if child.__module__.startswith("scgenept_rt.errors"):
                yield from tree(child, depth + 1)

    yield from tree(sgr.ScgeneptError, 0)
    yield ""


def _first_sentence(thing: Any) -> str:
    return " ".join((inspect.getdoc(thing) or "").split("\n\n")[0].split())


if __name__ == "__main__":
    PAGE.write_text(page(), "utf-8")
