"""Errors about bundles."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from scgenept_rt.errors.base import ScgeneptError
from scgenept_rt.errors.wording import join_limited

_CELLS_ENDINGS = (".h5ad", ".zarr")


class BundleError(ScgeneptError, ValueError):
    """A directory that is not a bundle that this version can use."""

    def __init__(self, directory: Path | str, problem: str, remedy: str) -> None:
        self.directory = Path(directory)
        super().__init__(f"bundle {self.directory}: {problem}. {remedy}")


class BundleNotFoundError(BundleError, FileNotFoundError):
    """The directory or its manifest does not exist (an interrupted export leaves no manifest)."""

    def __init__(self, directory: Path | str) -> None:
        directory = Path(directory)
        if not directory.exists():
            problem, remedy = "there is no such directory", "Check the path, or make one with `scgenept-export bundle`"
        elif directory.suffix.lower() in _CELLS_ENDINGS:
            problem = f"its ending {directory.suffix} is that of cells, and it holds no manifest.json"
            remedy = "Give BUNDLE, the directory that holds manifest.json, first, and then CELLS"
        elif not directory.is_dir():
            problem, remedy = (
                "this is a file, but a bundle is a directory",
                "Give the directory that holds manifest.json",
            )
        else:
            problem = "it holds no manifest.json, so it is not a bundle or its export did not finish"
            if (directory / "reference.npz").exists():  # every bundle has one, hardly anything else does
                remedy = "Copy the whole bundle, or run its export again with --overwrite"
            else:
                remedy = "Give the directory that holds manifest.json, or make one with `scgenept-export bundle`"
        super().__init__(directory, problem, f"{remedy}.")


class BundleFormatError(BundleError):
    """The manifest was written by a newer release, or is not readable as a manifest."""

    def __init__(self, directory: Path | str, found: object, supported: int) -> None:
        super().__init__(
            directory,
            f"its format_version is {found!r}, this release reads up to {supported}",
            "Upgrade scgenept-rt, or export the bundle again with this release.",
        )


class BundleFileError(BundleError):
    """A file named in the manifest is missing or its bytes are not those that were exported."""

    def __init__(self, directory: Path | str, file: str, problem: str) -> None:
        super().__init__(directory, f"{file} {problem}", "Copy or export the bundle again.")


class GraphNotInBundleError(BundleError, LookupError):
    """The bundle holds no graph of the wanted precision and target."""

    def __init__(self, directory: Path | str, precision: str, target: str, available: Sequence[str]) -> None:
        flag = " --portable" if target == "portable" else ""
        super().__init__(
            directory,
            f"it holds no {precision} graph for the target {target!r} (it holds: {join_limited(available) or 'none'})",
            f"Export it with `scgenept-export bundle ... --precision {precision}{flag}`, or choose one that it holds.",
        )


class NoKnownGraphError(BundleError, LookupError):
    """All graphs of the bundle are of precisions or targets that only a later version knows."""

    def __init__(self, directory: Path | str, graphs: Sequence[str]) -> None:
        super().__init__(
            directory,
            f"this version of scgenept-rt knows none of its graphs ({join_limited(graphs)})",
            "Update scgenept-rt, or export the bundle again with this version.",
        )
