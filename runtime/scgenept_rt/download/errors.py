"""Errors of downloads that a user can put right; see `scgenept_rt.errors` for their form."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from urllib.parse import urlsplit, urlunsplit

from scgenept_rt.errors import ScgeneptError, join_limited, pluralize


def shown_url(url: str) -> str:
    """Return the address without what must not be printed or stored: a password, a signed query."""
    parts = urlsplit(url)
    query = parts.query if parts.query.startswith("list-type=") else ""
    return urlunsplit((parts.scheme, parts.netloc.rpartition("@")[2], parts.path, query, ""))


class DownloadError(ScgeneptError, OSError):
    """A file that could not be had."""


class UnknownDownloadError(ScgeneptError, LookupError):
    """A name that is nothing that can be downloaded."""

    def __init__(self, name: str, near: Sequence[str]) -> None:
        hint = f" Did you mean {' or '.join(near)}?" if near else ""
        super().__init__(
            f"nothing to download is called {name!r}.{hint} `scgenept-rt download --list` shows every name."
        )


class UnreachableError(DownloadError):
    """The server cannot be reached, or the connection broke more often than it is worth."""

    def __init__(self, url: str, problem: str, attempts: int, kept: int = 0) -> None:
        tries = pluralize(attempts, "attempt")
        resume = (
            f" {pluralize(kept, 'byte is', 'bytes are')} kept: the same command goes on from there." if kept else ""
        )
        super().__init__(
            f"{shown_url(url)}: {problem} (gave up after {tries} that brought nothing new).{resume} Check the network "
            "(behind a proxy, set HTTPS_PROXY), name another server with --mirror URL, or see --offline."
        )


class CertificateError(DownloadError):
    """The server's certificate is not trusted."""

    def __init__(self, url: str, problem: str) -> None:
        super().__init__(
            f"{shown_url(url)}: its certificate is not trusted ({problem}). If your network replaces certificates, "
            "set REQUESTS_CA_BUNDLE to the file of its certificate authority."
        )


class RefusedError(DownloadError):
    """The server answered, but not with the file."""

    def __init__(self, url: str, status: int, reason: str) -> None:
        self.status = status
        meaning = {
            401: "a login is needed",
            403: "access is refused (a proxy or firewall may do so, and S3 does for a file that does not exist)",
            404: "there is no such file",
            407: "the proxy asks for a login",
        }.get(status, "the server does not give the file")
        super().__init__(
            f"{shown_url(url)}: HTTP {status} {reason}: {meaning}; expected 200. Open the address in a browser; if it "
            "works there, save the file by hand (--offline says where to), else name another server with --mirror URL."
        )


class AskedToWaitError(DownloadError):
    """The server asks for a longer wait than a command should take."""

    def __init__(self, url: str, status: int, seconds: float, limit: float) -> None:
        super().__init__(
            f"{shown_url(url)}: HTTP {status}, and the server asks to come back in {seconds:,.0f} s; this command "
            f"waits {limit:,.0f} s at most. Run the same command again then: it goes on where it stopped."
        )


class NotTheFileError(DownloadError, ValueError):
    """What came, or lies there, is not a file of the kind that it must be."""

    def __init__(self, source: str, problem: str, remedy: str) -> None:
        super().__init__(f"{source}: {problem}. {remedy}")


class WebPageError(NotTheFileError):
    """A web page came with HTTP 200 in place of the file."""

    def __init__(self, url: str) -> None:
        super().__init__(
            shown_url(url),
            "the server sent a web page instead of the file (a login page of the network, or a check for browsers)",
            "Open the address in a browser and log in; if the file comes there, save it by hand: --offline says where",
        )


class UpstreamChangedError(DownloadError, ValueError):
    """The file on the server is not the one whose checksum is known."""

    def __init__(self, url: str, expected: str, known_from: str, found: str) -> None:
        super().__init__(
            f"{shown_url(url)}: the file there is not the one expected: {found}, expected {expected} ({known_from}). "
            "What came was not kept. If the transfer or a proxy damaged it, the same command works on a second try; "
            "if the file was replaced on purpose, accept the new one with --accept-changed."
        )


class LocalFileChangedError(DownloadError, ValueError):
    """A file in the download directory is not the one whose checksum is known."""

    def __init__(self, path: Path, expected: str, known_from: str, found: str) -> None:
        self.path = path
        super().__init__(
            f"{path}: the file is not the one expected: {found}, expected {expected} ({known_from}). "
            "Remove it to download it again, or keep it as it is with --accept-changed."
        )


class ChecksumFileError(ScgeneptError, ValueError):
    """The file of recorded checksums cannot be read."""

    def __init__(self, path: Path, problem: str) -> None:
        super().__init__(
            f"{path}: it does not hold recorded checksums ({problem}). Restore it from a copy, or remove it: files "
            "that lie in its directory are then recorded as they are."
        )


class DownloadDirectoryError(DownloadError):
    """The download directory cannot be used."""

    def __init__(self, path: Path, problem: str) -> None:
        super().__init__(f"download directory {path}: {problem}. Choose another one with --dir.")


class DownloadSpaceError(DownloadError):
    """The disk has too little room."""

    def __init__(self, path: Path, needed: int | None, free: int) -> None:
        need = "it needs more room than there is" if needed is None else f"it needs {needed / 1e9:,.2f} GB"
        super().__init__(
            f"{path}: {need}; its disk has {free / 1e9:,.2f} GB free. "
            "Free some space, or choose a directory on another disk with --dir."
        )


class NoCheckpointError(DownloadError, LookupError):
    """No checkpoint was found under any of the names that the release uses."""

    def __init__(self, variant: str, dataset: str, tried: Sequence[str]) -> None:
        super().__init__(
            f"no checkpoint of {variant} for {dataset} was found: tried {'; '.join(tried)}. "
            "Check --mirror and --dataset; a file had from elsewhere can be placed by hand, see --offline."
        )


class SeveralCheckpointsError(DownloadError, LookupError):
    """More than one file could be the checkpoint."""

    def __init__(self, where: str, names: Sequence[str]) -> None:
        super().__init__(
            f"{where}: {len(names)} files could be the checkpoint ({join_limited(names)}), expected one best_model_*.pt. "
            "Leave the right one in the download directory and remove the others."
        )


class MissingOfflineError(DownloadError, FileNotFoundError):
    """Files that are not here and must not be fetched; tells where each one is to be placed."""

    def __init__(self, placements: Sequence[str]) -> None:
        self.placements = tuple(placements)
        lines = "".join(f"\n\n{text}" for text in placements)
        number = pluralize(len(placements), "file is", "files are")
        super().__init__(
            f"{number} not here, and --offline fetches nothing.{lines}\n\nPlace them, then run the same command again: "
            "it checks them and records their checksums."
        )
