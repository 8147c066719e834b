"""The bundle: a directory with a manifest, ONNX graphs and reference outputs.

`docs/bundle-format.md` describes the files. The export writes them through the same classes that read them here.
"""

from scgenept_rt.bundle.directory import DEMO_NAME, REFERENCE_WEIGHTS_NAME, Bundle, demo_bundle_path
from scgenept_rt.bundle.manifest import (
    FORMAT_VERSION,
    MANIFEST_NAME,
    BundleFile,
    Comparison,
    Dimensions,
    Manifest,
    Precision,
    SourceCheckpoint,
    Target,
    Tolerance,
)
from scgenept_rt.bundle.reference import REFERENCE_NAME, Reference, checksums_of_genes

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
