"""Where an item is on its server: the address of a key, and which of the possible names a checkpoint has."""

from __future__ import annotations

import re
from collections.abc import Callable
from urllib.parse import quote, urlencode
from xml.etree import ElementTree

import requests

from scgenept_rt.download.catalogue import Item
from scgenept_rt.download.errors import NoCheckpointError, SeveralCheckpointsError, shown_url
from scgenept_rt.download.requesting import request
from scgenept_rt.download.retrying import Retries, RetryPolicy, TransientError
from scgenept_rt.errors import pluralize

_CHECKPOINT_NAME = re.compile(r"best_model_[^/]*\.pt")
_LONGEST_LISTING = 1 << 20
_HEAD_UNKNOWN = {405, 501}


def url_of(item: Item, key: str, mirror: str | None) -> str:
    """Return the address of a key, on the mirror if there is one."""
    # `+` in a key must be %2B: S3 reads a plain one as a space
    return f"{(mirror or item.host).rstrip('/')}/{quote(key)}"


def find_checkpoint(
    item: Item, mirror: str | None, session: requests.Session, retry: RetryPolicy, say: Callable[[str], None]
) -> str:
    """Return the key of a checkpoint: the first documented name that the server has, else what its directory lists.

    Raises
    ------
    NoCheckpointError
        If it has none of them; lists what was tried.
    SeveralCheckpointsError
        If the directory lists several others.
    """
    tried = []
    for key in item.keys:
        url = url_of(item, key, mirror)
        status = _status(session, url, retry, say)
        if status == requests.codes.ok:
            return key
        tried.append(f"{shown_url(url)} (HTTP {status})")
    base = (mirror or item.host).rstrip("/")
    url = f"{base}/?{urlencode({'list-type': '2', 'prefix': item.prefix})}"
    names, answer = _listed(session, url, item.prefix, retry, say)
    if not names:
        raise NoCheckpointError(item.name, str(item.dataset), [*tried, f"{shown_url(url)} ({answer})"])
    seeds = [name for name in names if "seed_42" in name]
    if len(seeds or names) != 1:
        raise SeveralCheckpointsError(f"{base}/{item.prefix}", names)
    return item.prefix + (seeds or names)[0]


def _status(session: requests.Session, url: str, retry: RetryPolicy, say: Callable[[str], None]) -> int:
    retries = Retries(retry, url, say)
    method = "HEAD"
    while True:
        try:
            with request(session, method, url) as response:
                if method == "GET" or response.status_code not in _HEAD_UNKNOWN:
                    return response.status_code
            method = "GET"  # its body is not read
        except TransientError as failure:
            retries.wait_after(failure)


def _listed(
    session: requests.Session, url: str, prefix: str, retry: RetryPolicy, say: Callable[[str], None]
) -> tuple[list[str], str]:
    """Return the names of checkpoints below a prefix, and what the server answered."""
    retries = Retries(retry, url, say)
    while True:
        try:
            with request(session, "GET", url) as response:
                if response.status_code != requests.codes.ok:
                    return [], f"HTTP {response.status_code}"
                text = b"".join(_first_bytes(response))
            break
        except TransientError as failure:
            retries.wait_after(failure)
    if b"<!DOCTYPE" in text or b"<!ENTITY" in text:
        return [], "not a listing"
    try:
        root = ElementTree.fromstring(text)
    except ElementTree.ParseError:
        return [], "not a listing"
    keys = [element.text or "" for element in root.iter() if element.tag.rpartition("}")[2] == "Key"]
    names = [key.removeprefix(prefix) for key in keys if key.startswith(prefix)]
    checkpoints = sorted(name for name in names if _CHECKPOINT_NAME.fullmatch(name))
    return checkpoints, f"lists {pluralize(len(keys), 'file')}, no checkpoint"


def _first_bytes(response: requests.Response) -> list[bytes]:
    chunks, total = [], 0
    for chunk in response.iter_content(1 << 16):
        chunks.append(chunk)
        total += len(chunk)
        if total > _LONGEST_LISTING:  # no directory of the release is that long
            break
    return chunks
