"""`scgenept-rt download`: published checkpoints, vocabulary and data sets, by name."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import typer

from scgenept_rt.cli.messages import say, show, show_progress
from scgenept_rt.cli.options import with_options
from scgenept_rt.options import Option
from scgenept_rt.wording import format_size, pluralize

if TYPE_CHECKING:
    from scgenept_rt.download import DownloadDirectory, Item
    from scgenept_rt.download.transfer import Progress


def _parse_address(text: str) -> str:
    from scgenept_rt.download.transfer import is_address

    if not is_address(text):
        raise typer.BadParameter(f"{text!r} is not an address such as https://HOST/PATH")
    return text


MirrorOption = Annotated[
    str | None,
    typer.Option(
        "--mirror", metavar="URL", parser=_parse_address, help="Download from this address, not from the publishers."
    ),
]


@with_options()
def download(
    dataset: Annotated[
        Literal["norman", "adamson"],
        Option("norman", "Data that the variants were trained on: norman or adamson.", "NAME"),
    ],
    directory: Annotated[
        Path | None,
        Option(
            None,
            "Download directory. Default: $SCGENEPT_RT_DOWNLOADS, else scgenept-rt in your cache directory.",
            "DIR",
            flag="--dir",
        ),
    ],
    list_items: Annotated[bool, Option(False, "Show what can be downloaded, and what is here.", flag="--list")],
    offline: Annotated[
        bool, Option(False, "Download nothing: check what is here, and print where to place each missing file.")
    ],
    accept_changed: Annotated[
        bool, Option(False, "Accept files that differ from their recorded checksum, from now on.")
    ],
    bundle: Annotated[
        str | None,
        Option(
            None,
            "Download a published bundle instead: the http or https address of its directory (S3: the bucket's).",
            "URL",
        ),
    ],
    out: Annotated[Path | None, Option(None, "With --bundle: where it goes. Default: bundles/NAME.", "DIR")],
    digest: Annotated[
        str | None, Option(None, "With --bundle: refuse one whose manifest has another digest.", "SHA256")
    ],
    names: Annotated[
        list[str] | None,
        typer.Argument(
            metavar="NAME", help="Variants (scgenept_go_c), vocab, norman, adamson, or all.", show_default=False
        ),
    ] = None,
    mirror: MirrorOption = None,
) -> None:
    """Download trained checkpoints, the vocabulary and data sets, or a bundle.

    Files that are already here are checked, not downloaded again.
    """
    if bundle is not None:
        if names or list_items or offline or accept_changed or mirror or directory:
            raise typer.BadParameter("takes only --out and --digest with it", param_hint="--bundle")
        _download_bundle(bundle, out, digest)
        return
    if out is not None or digest is not None:
        raise typer.BadParameter("they need --bundle", param_hint="--out, --digest")
    names = names or []
    if not names and not list_items:
        raise typer.BadParameter("name what to download, or show what there is with --list", param_hint="NAME...")
    from scgenept_rt.download import DownloadDirectory, default_directory, select
    from scgenept_rt.download.catalogue import catalogue
    from scgenept_rt.errors import OfflineError

    with download_progress() as progress:
        here = DownloadDirectory(
            (directory or default_directory()).absolute(), mirror, accept_changed, offline, progress
        )
        if list_items:
            _print_list(here, select(names, dataset) if names else [*catalogue(dataset).values()])
            return
        missing = []
        for item in select(names, dataset):
            try:
                fetched = here.fetch(item)
            except OfflineError as error:
                missing.append(error)
                continue
            print(f"{item.name}: {_HOW[fetched.how]}\n  {fetched.path}")
            print(f"  {pluralize(fetched.path.stat().st_size, 'byte')}, sha256 {fetched.sha256}")
        if missing:
            raise OfflineError("\n\n".join(error.problem for error in missing), missing[0].remedy)


_HOW = {
    "downloaded": "downloaded, checksum recorded",
    "present": "already here, checksum right",
    "recorded": "found here, checksum recorded",
    "unpacked": "unpacked, checksum recorded",
}


def _download_bundle(url: str, out: Path | None, digest: str | None) -> None:
    from scgenept_rt.download import download_bundle

    with download_progress() as progress:
        bundle = download_bundle(url, out, digest=digest, progress=progress)
    manifest, size = bundle.manifest, sum(file.size for file in bundle.manifest.files)
    show(f"{bundle.directory}: {manifest.variant}, trained on {manifest.training_data}, {format_size(size)}")
    print(f"  every file has its checksum; digest {bundle.digest}")
    if digest is None:
        print("  to accept this bundle only, pass that as --digest")


def _print_list(here: DownloadDirectory, items: list[Item]) -> None:
    print(f"download directory: {here.directory}")
    width = max(len(item.name) for item in items)
    for item in items:
        path = here.find(item)
        size = format_size(path.stat().st_size) if path else ""
        print(f"{item.name:<{width}}  {'here' if path else '-':<4}  {size:>8}  {item.description}")
        if path:
            print(f"{'':<{width}}        {path}")


@contextmanager
def download_progress() -> Iterator[Progress]:
    """Yield a function that shows downloads on standard error."""
    shown = ""
    update: Callable[..., None] | None = None
    with ExitStack() as stack:

        def progress(text: str, done: int, total: int | None) -> None:
            nonlocal shown, update
            if text != shown or update is None:
                stack.close()
                say(text)
                shown, update = text, stack.enter_context(show_progress("MB", scale=1e6))
            update(done, total)

        yield progress
