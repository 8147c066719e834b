"""The bundle: a directory with a manifest, ONNX graphs and reference outputs.

`docs/bundle-format.md` describes the files. The export package writes the manifest through the same classes that
read it here, so that both sides agree by construction.
"""

from scgenept_rt.bundle.directory import DEMO_NAME, REFERENCE_WEIGHTS_NAME, Bundle, demo_bundle_path
from scgenept_rt.bundle.manifest import (
    FORMAT_VERSION,
    MANIFEST_NAME,
    BundleFile,
    Dimensions,
    Manifest,
    Precision,
    SourceCheckpoint,
    Target,
)
from scgenept_rt.bundle.reference import REFERENCE_NAME, Reference, checksums_of_genes
from scgenept_rt.bundle.tolerance import Comparison, Tolerance

__all__ = [
    "DEMO_NAME",
    "FORMAT_VERSION",
    "MANIFEST_NAME",
    "REFERENCE_NAME",
    "REFERENCE_WEIGHTS_NAME",
    "Bundle",
    "BundleFile",
    "Comparison",
    "Dimensions",
    "Manifest",
    "Precision",
    "Reference",
    "SourceCheckpoint",
    "Target",
    "Tolerance",
    "checksums_of_genes",
    "demo_bundle_path",
]
