"""What libraries raise while they read a file becomes an error that names the file."""

from __future__ import annotations

import pytest

from scgenept_rt.errors import BundleError
from scgenept_rt.files.failures import failed_reads


@pytest.mark.parametrize(
    ("raised", "said"),
    [
        (FileNotFoundError(2, "No such file"), "x.json: there is no such file. Check the path."),
        (PermissionError(13, "Permission denied"), "x.json: it cannot be read (Permission denied). Check its"),
        (KeyError("no such key"), r"x.json: it cannot be read (no such key)."),
        (RecursionError(), "x.json: it cannot be read (RecursionError)."),
        (MemoryError("8 EiB\nand more"), "x.json: it cannot be read (8 EiB)."),
        (BundleError("its own words", where="y"), "y: its own words."),
    ],
)
def test_whatever_a_library_raises_names_the_file(raised, said):
    with pytest.raises(BundleError) as caught, failed_reads(BundleError, "x.json"):
        raise raised
    assert str(caught.value).startswith(said)
    assert raised in (caught.value, caught.value.__cause__)
