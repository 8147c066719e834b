"""Published bundles: directories at any address of HTTP, such as that of a bucket, checked against their manifest."""

from __future__ import annotations

import hashlib
import shutil
from pathlib import Path, PurePosixPath
from urllib.parse import quote, unquote, urlsplit

from scgenept_rt.bundle import MANIFEST_NAME, Bundle, BundleFile, Manifest
from scgenept_rt.download.transfer import Listener, download, is_address, new_session, shown_url
from scgenept_rt.errors import (
    ArgumentError,
    BundleFileError,
    ChecksumError,
    DownloadError,
    OutputExistsError,
    UseOption,
)
from scgenept_rt.files.durable import check_own, move_durably, write_durably
from scgenept_rt.files.failures import failed_writes
from scgenept_rt.files.locking import lock


def download_bundle(
    url: str, out: str | Path | None = None, *, digest: str | None = None, listener: Listener | None = None
) -> Bundle:
    """Download a bundle that was published as a directory; an interrupted download continues.

    Parameters
    ----------
    url
        Address of the directory: http or https.
    out
        Directory of the bundle; one that is there is compared, not replaced. None: its name, below ``bundles``.
    digest
        SHA-256 of its manifest, which names the SHA-256 of every file. None: the manifest is taken as it comes.
    listener
        Called with messages and progress.

    Returns
    -------
    Bundle
        Opened, with every file checked.

    Raises
    ------
    ArgumentError
        If `url` is no such address, or ends without a name and `out` is None.
    DownloadError
        If there is no bundle, it cannot be downloaded, or cannot be written.
    ChecksumError
        If the manifest has another digest, or a file is not the one that it names.
    OutputExistsError
        If something else is at `out`.
    """
    base = url.rstrip("/").removesuffix(f"/{MANIFEST_NAME}")
    if not is_address(base):
        raise ArgumentError(f"{url!r} is not an address of http or https", _https_of(url))
    if out is None:
        name = PurePosixPath(unquote(urlsplit(base).path)).name
        if name in ("", ".."):
            raise ArgumentError(f"{url!r} ends without a name", "", [UseOption("out", "name the directory")])
        out = Path("bundles", name)
    out, listener = Path(out), listener or Listener()
    elsewhere = [UseOption("out", "write elsewhere")]
    with failed_writes(out, "the bundle cannot be written", "", elsewhere, DownloadError):
        if out.exists() and not (out / MANIFEST_NAME).exists() and not (out.is_dir() and not any(out.iterdir())):
            raise OutputExistsError("exists, and is not a bundle", "Choose another path", elsewhere, where=out)
        work = out.absolute().with_name(f".{out.name}.partial")
        work.mkdir(parents=True, exist_ok=True)
        check_own(work)
        with lock(work / "lock", on_wait=lambda holder: listener.say(f"{work} is in use; waiting for {holder}")):
            bundle = _Download(base, out, work, listener).run(digest)
            shutil.rmtree(work)
            return bundle


class _Download:
    def __init__(self, base: str, out: Path, work: Path, listener: Listener) -> None:
        self._base, self._out, self._listener = base, out, listener
        self._parts, self._staged = work / "parts", work / "bundle"
        self._session = new_session()

    def run(self, digest: str | None) -> Bundle:
        for directory in (self._parts, self._staged):
            directory.mkdir(exist_ok=True)
        for old in self._parts.glob(f"{MANIFEST_NAME}*"):  # the server may have a newer bundle by now
            old.unlink()
        text = self._fetch(MANIFEST_NAME).read_bytes()
        found, where = hashlib.sha256(text).hexdigest(), shown_url(self._base)
        if digest is not None and digest.lower() != found:
            problem = f"its manifest has the digest {found}, expected {digest}"
            raise ChecksumError(problem, "Ask its publisher which one is right", where=where)
        bundle = Bundle(self._staged, Manifest.from_json(text, where), found)
        if (self._out / MANIFEST_NAME).exists():
            here = Bundle.open(self._out)
            if here.digest != found:
                problem = f"is another bundle (digest {here.digest}) than the published one ({found})"
                use = [UseOption("out", "write elsewhere")]
                raise OutputExistsError(problem, "Remove it", use, where=self._out)
            return here
        for file in bundle.manifest.files:
            self._bring(bundle, file)
        write_durably(self._staged / MANIFEST_NAME, text)
        Bundle.open(self._staged)  # compares the genes, too
        move_durably(self._staged, self._out)
        return Bundle.open(self._out, check_files=False)

    def _bring(self, bundle: Bundle, file: BundleFile) -> None:
        """Download a file of the manifest, unless an earlier attempt brought it."""
        try:
            bundle.check_file(file)
        except BundleFileError:
            bundle.path(file).parent.mkdir(parents=True, exist_ok=True)
            move_durably(self._fetch(file.path), bundle.path(file))
            try:
                bundle.check_file(file)
            except BundleFileError as error:
                bundle.path(file).unlink()
                again = "If it was being replaced on the server, run the same command again"
                raise ChecksumError(error.problem, again, where=shown_url(self._base)) from error

    def _fetch(self, name: str) -> Path:
        part, url = self._parts / name.replace("/", "_"), f"{self._base}/{quote(name)}"
        try:
            refused = download(url, part, self._session, self._listener, f"{self._out.name}/{name}")
        except DownloadError as error:  # which would name the options of a download by name
            raise DownloadError(error.problem, error.remedy, where=error.where) from error
        if refused is not None:
            problem = f"{name} is not there or is refused (HTTP {refused})"
            raise DownloadError(problem, "See whether a browser can open the address", where=shown_url(url))
        return part


def _https_of(url: str) -> str:
    """Return what to write in place of an ``s3://`` address."""
    parts = urlsplit(url)
    if parts.scheme != "s3":
        return "Give one such as https://HOST/PATH"
    return f"Give the bucket's https address, such as https://{parts.netloc}.s3.amazonaws.com{parts.path}"
