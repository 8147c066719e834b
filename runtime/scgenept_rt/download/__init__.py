"""Downloads of the published checkpoints, vocabulary and data sets: by name, resumed, and checked from then on."""

from scgenept_rt.download.catalogue import DATASETS, Item, select
from scgenept_rt.download.directory import DownloadDirectory, Fetched, default_directory
from scgenept_rt.download.errors import DownloadError
from scgenept_rt.download.retrying import RetryPolicy

__all__ = [
    "DATASETS",
    "DownloadDirectory",
    "DownloadError",
    "Fetched",
    "Item",
    "RetryPolicy",
    "default_directory",
    "select",
]
