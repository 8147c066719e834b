"""Make `bundle.tar.xz`, the bundle that the tests of the runtime use: `python make_bundle.py`, with the extra `export`.

It is the export of one network of `oracle/`, with every graph. Make it again when what an export writes has changed on
purpose; `tests/export/test_small_bundle.py` compares it with what the export gives today.
"""

from __future__ import annotations

import io
import json
import tarfile
import tempfile
from pathlib import Path

from scgenept_export.bundle_export import export_bundle

DATA = Path(__file__).parent
VARIANT = "scgenept_go_c_gpt_concat"


def main() -> None:
    with tempfile.TemporaryDirectory() as temporary:
        directory = Path(temporary)
        with tarfile.open(DATA / "oracle" / "checkpoints.tar.xz") as archive:
            archive.extractall(directory, filter="data")
        checkpoints = json.loads((DATA / "oracle" / "checkpoints.json").read_text())
        bundle = export_bundle(
            directory / checkpoints[VARIANT]["path"],
            DATA / "oracle" / "data.h5ad",
            VARIANT,
            directory / "bundle",
            vocab=DATA / "oracle" / "vocab.json",
            dataset="norman",
            training_total=1e4,
            precisions=("fp32", "fp16"),
            portable=True,
            synthetic=True,
        )
        # Graphs of one precision hold the same weights: side by side, xz finds them again.
        with tarfile.open(DATA / "bundle.tar.xz", "w:xz", preset=9) as archive:
            for path in sorted(bundle.directory.iterdir()):
                entry = tarfile.TarInfo(path.name)
                entry.size = path.stat().st_size
                archive.addfile(entry, io.BytesIO(path.read_bytes()))


if __name__ == "__main__":
    main()
