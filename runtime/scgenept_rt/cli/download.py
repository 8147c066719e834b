"""`scgenept-rt download`: published checkpoints, vocabulary and data sets, by name."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import typer

from scgenept_rt.cli.messages import say, show
from scgenept_rt.cli.options import one_of
from scgenept_rt.cli.progress import show_progress
from scgenept_rt.wording import format_size, pluralize

if TYPE_CHECKING:
    from scgenept_rt.download import DownloadDirectory, Fetched, Item
    from scgenept_rt.download.transfer import Listener

_Dataset = Literal["norman", "adamson"]


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


def download(
    names: Annotated[
        list[str] | None,
        typer.Argument(
            metavar="NAME", help="Variants (scgenept_go_c), vocab, norman, adamson, or all.", show_default=False
        ),
    ] = None,
    dataset: Annotated[
        _Dataset,
        typer.Option(
            "--dataset",
            metavar="NAME",
            parser=one_of(_Dataset),
            help="Data that the variants were trained on: norman or adamson.",
        ),
    ] = "norman",
    directory: Annotated[
        Path | None,
        typer.Option(
            "--dir",
            metavar="DIR",
            help="Download directory. Default: $SCGENEPT_RT_DOWNLOADS, else scgenept-rt in your cache directory.",
        ),
    ] = None,
    mirror: MirrorOption = None,
    list_items: Annotated[bool, typer.Option("--list", help="Show what can be downloaded, and what is here.")] = False,
    offline: Annotated[
        bool,
        typer.Option(
            "--offline", help="Download nothing: check what is here, and print where to place each missing file."
        ),
    ] = False,
    accept_changed: Annotated[
        bool,
        typer.Option("--accept-changed", help="Accept files that differ from their recorded checksum, from now on."),
    ] = False,
    bundle: Annotated[
        str | None,
        typer.Option(
            "--bundle",
            metavar="URL",
            help="Download a published bundle instead: the http or https address of its directory (S3: the bucket's).",
        ),
    ] = None,
    out: Annotated[
        Path | None,
        typer.Option("--out", metavar="DIR", help="With --bundle: where it goes. Default: bundles/NAME."),
    ] = None,
    digest: Annotated[
        str | None,
        typer.Option("--digest", metavar="SHA256", help="With --bundle: refuse one whose manifest has another digest."),
    ] = None,
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
    if not names and not list_items:
        raise typer.BadParameter("name what to download, or show what there is with --list", param_hint="NAME...")
    from scgenept_rt.download import DownloadDirectory, default_directory, select
    from scgenept_rt.download.catalogue import catalogue
    from scgenept_rt.errors import OfflineError

    items = select(names, dataset) if names else catalogue(dataset)
    with download_progress() as listener:
        here = DownloadDirectory(
            directory or default_directory(),
            mirror=mirror,
            accept_changed=accept_changed,
            offline=offline,
            listener=listener,
        )
        if list_items:
            _print_list(here, items)
            return
        missing = []
        for item in items:
            try:
                print_fetched(item.name, here.fetch(item))
            except OfflineError as error:
                missing.append(error)
        if missing:
            raise OfflineError("\n\n".join(error.problem for error in missing), missing[0].remedy)


def _download_bundle(url: str, out: Path | None, digest: str | None) -> None:
    from scgenept_rt.download import download_bundle

    with download_progress() as listener:
        bundle = download_bundle(url, out, digest=digest, listener=listener)
    manifest, size = bundle.manifest, sum(file.size for file in bundle.manifest.files)
    show(f"{bundle.directory}: {manifest.variant}, trained on {manifest.training_data}, {format_size(size)}")
    typer.echo(f"  every file has its checksum; digest {bundle.digest}")
    if digest is None:
        typer.echo("  to accept this bundle only, pass that as --digest")


def print_fetched(name: str, fetched: Fetched) -> None:
    """Print where a file is, and how it came there."""
    words = {
        "downloaded": "downloaded, checksum recorded",
        "present": "already here, checksum right",
        "recorded": "found here, checksum recorded",
        "unpacked": "unpacked, checksum recorded",
    }
    typer.echo(f"{name}: {words[fetched.how]}")
    typer.echo(f"  {fetched.path}")
    typer.echo(f"  {pluralize(fetched.path.stat().st_size, 'byte')}, sha256 {fetched.sha256}")


def _print_list(here: DownloadDirectory, items: list[Item]) -> None:
    typer.echo(f"download directory: {here.path}")
    width = max(len(item.name) for item in items)
    for item in items:
        path = here.find(item)
        size = path.stat().st_size if path else (item.archive or item).size
        stated = format_size(size) if size is not None else "size not published"
        typer.echo(f"{item.name:<{width}}  {'here' if path else '-':<4}  {stated:>18}  {item.description}")
        if path:
            typer.echo(f"{'':<{width}}        {path}")


@contextmanager
def download_progress() -> Iterator[Listener]:
    """Yield a listener that shows downloads on standard error."""
    from scgenept_rt.download.transfer import Listener

    class Shown(Listener):
        label = ""

        def say(self, text: str) -> None:
            say(text)

        def update(self, label: str, done: int, total: int | None) -> None:
            if label != self.label:
                stack.close()
                say(label)
                self.label, self.show = label, stack.enter_context(show_progress("MB", scale=1e6))
            self.show(done, total)

    with ExitStack() as stack:
        yield Shown()
