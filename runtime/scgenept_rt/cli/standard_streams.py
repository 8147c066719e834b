"""Standard output and standard error made usable, however the command was started."""

from __future__ import annotations

import codecs
import io
import os
import sys
from pathlib import Path

_UNENCODABLE = "scgenept_rt.unencodable"


def prepare_standard_streams() -> None:
    """Open what the caller closed, and let no character that the terminal's encoding lacks be an error."""
    _open_what_is_closed()
    codecs.register_error(_UNENCODABLE, _as_given_or_escaped)
    for stream in (sys.stdout, sys.stderr):
        # A locale without UTF-8 is where this matters; elsewhere every name is printed as it is.
        if isinstance(stream, io.TextIOWrapper) and stream.errors != _UNENCODABLE:
            stream.reconfigure(errors=_UNENCODABLE)


def _open_what_is_closed() -> None:
    """Send to the null device what is printed to a stream that the caller closed (`2>&-`, as some daemons do).

    Python has None in its place then, on which `print` goes to standard output. And a file that is opened later, such
    as a table of predictions, must not get the number to which native libraries print.
    """
    for number, name in ((0, "stdin"), (1, "stdout"), (2, "stderr")):
        if getattr(sys, name) is not None:
            continue
        try:
            os.fstat(number)
        except OSError:
            null = os.open(os.devnull, os.O_RDWR)
            if null != number:
                os.dup2(null, number)
                os.close(null)
        if name != "stdin":
            null_stream = Path(os.devnull).open("w", encoding="utf-8")  # noqa: SIM115 - open until Python ends
            setattr(sys, name, null_stream)


def _as_given_or_escaped(error: UnicodeError) -> tuple[str | bytes, int]:
    """Encode the next character: a byte of a file's name as that byte, anything else as a Python escape."""
    if not isinstance(error, UnicodeEncodeError):
        raise error
    code = ord(error.object[error.start])
    if 0xDC80 <= code <= 0xDCFF:
        return bytes([code - 0xDC00]), error.start + 1
    escaped = error.object[error.start].encode("ascii", "backslashreplace").decode("ascii")
    return escaped, error.start + 1
