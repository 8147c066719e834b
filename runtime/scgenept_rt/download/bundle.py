"""Published bundles: directories at any address of HTTP, such as that of a bucket, checked against their manifest."""

from __future__ import annotations

import hashlib
import shutil
from pathlib import Path, PurePosixPath
from urllib.parse import quote, unquote

from scgenept_rt.bundle import MANIFEST_NAME, Bundle, Manifest
from scgenept_rt.download.transfer import Progress, download, is_address, shown_url
from scgenept_rt.errors import ArgumentError, BundleError, ChecksumError, DownloadError, OutputExistsError, UseOption
from scgenept_rt.files.durable import check_own, move_durably
from scgenept_rt.files.failures import failed_writes
from scgenept_rt.files.locking import lock


def download_bundle(
    url: str, out: str | Path | None = None, *, digest: str | None = None, progress: Progress = lambda *_: None
) -> Bundle:
    """Download a bundle that was published as a directory, and check every file; continues an interrupted download.

    Parameters
    ----------
    url
        Address of the directory: http or https.
    out
        Directory of the bundle; one that is there is compared, not replaced. None: its name, below ``bundles``.
    digest
        SHA-256 of its manifest, which names the SHA-256 of every file. None: the manifest is taken as it comes.
    progress
        Called with what happens, the bytes that are here, and all bytes of the file, or None if that is not known.

    Raises
    ------
    ArgumentError
        If `url` is no such address, or has no name and `out` is None.
    DownloadError
        If there is no bundle, or it cannot be downloaded or written.
    ChecksumError
        If the manifest has another digest, or a file is not the one that it names.
    OutputExistsError
        If something else is at `out`.
    """
    base = url.rstrip("/").removesuffix(f"/{MANIFEST_NAME}")
    name, where = PurePosixPath(unquote(base.partition("//")[2].partition("/")[2])).name, shown_url(base)
    if not is_address(base) or not (out or name):
        example = "Give one such as https://HOST/NAME; that of a bucket of S3 is https://BUCKET.s3.amazonaws.com/NAME"
        raise ArgumentError(f"{url!r} is not the address of a directory, by http or https", example)
    out = Path(out or Path("bundles", name))
    work, elsewhere = out.absolute().with_name(f".{out.name}.partial"), [UseOption("out", "write elsewhere")]
    staged = work / "bundle"

    def fetch(name: str) -> None:
        refused = download(f"{base}/{quote(name)}", staged / name, f"{out.name}/{name}", progress)
        if refused is not None:
            problem = f"{name} is not there or is refused (HTTP {refused})"
            raise DownloadError(problem, "See whether a browser can open the address", where=where)

    with failed_writes(out, "the bundle cannot be written", "", elsewhere, DownloadError):
        check_own(work)
        with lock(work / "lock", on_wait=lambda holder: progress(f"waiting for {holder}", 0, None)):
            staged.mkdir(exist_ok=True)
            fetch(MANIFEST_NAME)
            text = (staged / MANIFEST_NAME).read_bytes()
            found = hashlib.sha256(text).hexdigest()
            if digest is not None and digest.lower() != found:
                problem = f"its manifest has the digest {found}, expected {digest}"
                raise ChecksumError(problem, "Ask its publisher which one is right", where=where)
            files = Manifest.from_json(text, where).files
            if out.exists() and not (out.is_dir() and not any(out.iterdir())):
                shutil.rmtree(work)
                if not (out / MANIFEST_NAME).is_file() or (out / MANIFEST_NAME).read_bytes() != text:
                    problem = f"exists, and is not the published bundle (digest {found})"
                    raise OutputExistsError(problem, "Remove it", elsewhere, where=out)
                return Bundle.open(out)
            for file in files:
                path = staged / file.path
                if not path.exists() or path.stat().st_size != file.size:
                    path.parent.mkdir(parents=True, exist_ok=True)
                    fetch(file.path)
            try:
                Bundle.open(staged)
            except BundleError as error:
                shutil.rmtree(work)
                again = "If it was being replaced on the server, run the same command again"
                raise ChecksumError(error.problem, again, where=where) from error
            move_durably(staged, out)
            shutil.rmtree(work)
            return Bundle.open(out, check_files=False)
