"""One HTTP request, with what can go wrong sorted into what may pass and what will not."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from importlib.metadata import version

import requests

from scgenept_rt.download.errors import CertificateError, NotTheFileError, RefusedError, shown_url
from scgenept_rt.download.retrying import TRANSIENT_STATUSES, TransientError, retry_after_seconds

_TIMEOUT = (15.0, 60.0)
"""Seconds to connect, and seconds without a byte."""


def new_session() -> requests.Session:
    """Return a session; proxies and certificates come from the environment, as `requests` reads them."""
    session = requests.Session()
    session.headers["User-Agent"] = f"scgenept-rt/{version('scgenept-rt')}"
    # A compressed transfer has no known length, and its ranges are those of another file.
    session.headers["Accept-Encoding"] = "identity"
    return session


@contextmanager
def request(
    session: requests.Session, method: str, url: str, headers: Mapping[str, str] | None = None
) -> Iterator[requests.Response]:
    """Send a request and yield the response with its body unread; any status is yielded except a transient one.

    Raises
    ------
    TransientError
        For failures that may pass, in the request and while the body is read.
    DownloadError
        For those that will not.
    """
    try:
        with session.request(
            method, url, headers=dict(headers or {}), stream=True, timeout=_TIMEOUT, allow_redirects=True
        ) as response:
            if response.status_code in TRANSIENT_STATUSES:
                raise TransientError(
                    f"HTTP {response.status_code} {response.reason}",
                    wait=retry_after_seconds(response.headers.get("Retry-After")),
                    status=response.status_code,
                )
            yield response
    except requests.exceptions.SSLError as error:
        raise CertificateError(url, _innermost(error)) from error
    except requests.exceptions.ProxyError as error:
        raise TransientError(f"the proxy cannot be reached or refuses ({_innermost(error)})") from error
    except requests.exceptions.Timeout as error:
        raise TransientError("the server does not answer in time") from error
    except (requests.exceptions.ConnectionError, requests.exceptions.ChunkedEncodingError) as error:
        raise TransientError(f"the connection failed ({_innermost(error)})") from error
    except requests.exceptions.TooManyRedirects as error:
        raise NotTheFileError(
            shown_url(url), "it redirects in a circle", "Open it in a browser, or see --offline"
        ) from error
    except requests.exceptions.RequestException as error:
        raise NotTheFileError(
            shown_url(url), f"the request failed ({_innermost(error)})", "Check the address given with --mirror"
        ) from error


def refusal(url: str, response: requests.Response) -> RefusedError:
    """Return the error for a status that is not that of a file."""
    return RefusedError(url, response.status_code, response.reason or "")


def _innermost(error: BaseException) -> str:
    """Say in few words what is below the layers of `requests` and `urllib3`."""
    while True:
        inner: object = getattr(error, "reason", None) or next(
            (argument for argument in reversed(error.args) if isinstance(argument, BaseException)), None
        )
        if not isinstance(inner, BaseException):
            break
        error = inner
    text = str(error).rpartition(": ")[2] if "object at 0x" in str(error) else str(error)
    return text or type(error).__name__
