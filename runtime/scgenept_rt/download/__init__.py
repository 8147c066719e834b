"""Downloads of the published checkpoints, vocabulary and data sets: by name, resumed, and checked from then on."""

from scgenept_rt.download.catalogue import DATASETS, Item, select
from scgenept_rt.download.directory import DownloadDirectory, Fetched, default_directory
from scgenept_rt.download.errors import (
    AskedToWaitError,
    CertificateError,
    ChecksumFileError,
    DownloadDirectoryError,
    DownloadError,
    DownloadSpaceError,
    LocalFileChangedError,
    MissingOfflineError,
    NoCheckpointError,
    NotTheFileError,
    RefusedError,
    SeveralCheckpointsError,
    UnknownDownloadError,
    UnreachableError,
    UpstreamChangedError,
    WebPageError,
)
from scgenept_rt.download.retrying import RetryPolicy

__all__ = [
    "DATASETS",
    "AskedToWaitError",
    "CertificateError",
    "ChecksumFileError",
    "DownloadDirectory",
    "DownloadDirectoryError",
    "DownloadError",
    "DownloadSpaceError",
    "Fetched",
    "Item",
    "LocalFileChangedError",
    "MissingOfflineError",
    "NoCheckpointError",
    "NotTheFileError",
    "RefusedError",
    "RetryPolicy",
    "SeveralCheckpointsError",
    "UnknownDownloadError",
    "UnreachableError",
    "UpstreamChangedError",
    "WebPageError",
    "default_directory",
    "select",
]
