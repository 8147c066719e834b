"""Downloads of the published checkpoints, vocabulary and data sets: by name, resumed, and checked by checksum."""

from scgenept_rt.download.catalogue import DATASETS, Item, select
from scgenept_rt.download.directory import DownloadDirectory, Fetched, default_directory

__all__ = ["DATASETS", "DownloadDirectory", "Fetched", "Item", "default_directory", "select"]
