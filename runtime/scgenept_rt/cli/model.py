"""What commands that predict share: opening a model, and the perturbations that flags ask for."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, TypedDict

import typer

from scgenept_rt.cli.messages import note, say
from scgenept_rt.errors import PerturbationFileError
from scgenept_rt.options import EngineOptions, Option, ReadOptions
from scgenept_rt.wording import join_limited, pluralize

if TYPE_CHECKING:
    from scgenept_rt.genes import GenePanel
    from scgenept_rt.perturbation import PerturbationRequest
    from scgenept_rt.predictor import Predictor


@contextmanager
def open_model(
    bundle: Path, engine: EngineOptions, *, check: bool = True, ray: str | None = None, workers: int | None = None
) -> Iterator[Predictor]:
    """Open a bundle for prediction, print which provider was chosen, and compare its reference cells.

    `ray` is the address of a Ray cluster whose `workers` predict; empty for the one of this machine, None for none.
    """
    from scgenept_rt import cluster
    from scgenept_rt.predictor import load
    from scgenept_rt.verification import check_reference

    if ray is None:
        opened = load(bundle, on_notice=note, **engine)
    else:
        opened = cluster.load(bundle, address=ray or None, workers=workers, check=check, on_notice=note, **engine)
    with opened as model:
        say(f"provider: {model.choice_reason}, {model.precision}")
        if check and ray is None:
            check_reference(model.bundle, model.session).raise_if_missed()
        if model.bundle.manifest.synthetic:
            note("this bundle's weights are synthetic; its predictions mean nothing in biology.")
        yield model


class PerturbationOptions(TypedDict, total=False):
    """Which perturbations are predicted."""

    perturbation: Annotated[
        list[str] | None,
        Option(None, "Such as FOSB+ctrl or SAMD1+ZBTB1; may be repeated.", "LABEL", flag="-p,--perturbation"),
    ]
    perturbations: Annotated[
        Path | None,
        Option(
            None,
            "One label per line (.txt, or - for a pipe), or columns perturbation and optionally n_controls "
            "(.csv, .tsv).",
            "FILE",
        ),
    ]
    all_singles: Annotated[bool, Option(False, "Every gene of the model, one at a time.")]
    pairs_of: Annotated[Path | None, Option(None, "All pairs of the genes in a file.", "FILE")]
    all_measured: Annotated[bool, Option(False, "Every perturbation measured in CELLS whose genes the model has.")]


def requested(
    options: PerturbationOptions, cells: Path, read: ReadOptions
) -> Callable[[GenePanel], list[str | PerturbationRequest]]:
    """Read the files of perturbations and genes, and return a function that lists the labels for a model's genes."""
    if not any(options.values()):
        raise typer.BadParameter("give perturbations with -p, --perturbations, --all-singles or --pairs-of")
    from scgenept_rt.perturbation import files, labels

    perturbations, pairs_of = options.get("perturbations"), options.get("pairs_of")
    listed = files.read_perturbation_file(perturbations) if perturbations is not None else []
    genes = files.read_gene_list(pairs_of) if pairs_of is not None else []

    def pairs(panel: GenePanel) -> list[str]:
        if not genes:
            return []
        # What the model lacks is found before there are millions of pairs.
        parsed, _ = labels.parse_perturbations(genes, panel)
        several = [entry.label for entry in parsed if len(entry.target_genes) > 1]
        if several:
            problem = f"{join_limited(several)}: expected one gene per line, of which all pairs are predicted"
            raise PerturbationFileError(problem, "Give labels of pairs with --perturbations", where=str(pairs_of))
        return labels.pairs_of([entry.label for entry in parsed])

    return lambda panel: [
        *(options.get("perturbation") or []),
        *listed,
        *(labels.all_singles(panel) if options.get("all_singles") else []),
        *pairs(panel),
        *(_measured(cells, read, panel) if options.get("all_measured") else []),
    ]


def _measured(cells: Path, read: ReadOptions, panel: GenePanel) -> list[str]:
    """Return the labels of cells that the model can read, and print the others."""
    from scgenept_rt.expression.label_matching import measured_perturbations

    labels, others = measured_perturbations(cells, panel, read)
    if others:
        unread = pluralize(len(others), "label")
        note(f"{unread} of the cells cannot be read as genes of the model: {join_limited(others)}.")
    return labels
