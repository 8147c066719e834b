"""Downloads of published checkpoints, vocabulary, data sets and bundles: resumed, and checked by checksum."""

from scgenept_rt.download.bundle import download_bundle
from scgenept_rt.download.catalogue import DATASETS, Item, select
from scgenept_rt.download.directory import DownloadDirectory, Fetched, default_directory

__all__ = ["DATASETS", "DownloadDirectory", "Fetched", "Item", "default_directory", "download_bundle", "select"]
