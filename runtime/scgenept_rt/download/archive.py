"""Taking the data set out of the zip that GEARS publishes it in."""

from __future__ import annotations

import os
import shutil
import zipfile
import zlib
from pathlib import Path, PurePosixPath

from scgenept_rt.download.errors import DownloadSpaceError, NotTheFileError
from scgenept_rt.download.transfer import Listener

_BLOCK = 1 << 20


def extract_member(archive: Path, place: str, target: Path, listener: Listener) -> None:
    """Write the one member of a zip that has the name of `place` to `target`.

    No path in the zip is ever used as a path here, so that no member can be written anywhere else.

    Raises
    ------
    NotTheFileError
        If the zip is damaged, or does not hold exactly one such member.
    """
    name = PurePosixPath(place).name
    try:
        with zipfile.ZipFile(archive) as opened:
            fitting = [info for info in opened.infolist() if PurePosixPath(info.filename).name == name]
            exact = [info for info in fitting if info.filename == place]
            if len(exact or fitting) != 1:
                raise NotTheFileError(
                    str(archive),
                    f"it holds {len(fitting)} files called {name}, expected one",
                    "Remove it to download it again, or see --offline",
                )
            (member,) = exact or fitting
            free = shutil.disk_usage(target.parent).free
            if member.file_size > free:
                raise DownloadSpaceError(target, member.file_size, free)
            listener.begin(f"unpacking {name}")
            try:
                with opened.open(member) as packed, target.open("wb") as stream:
                    done = 0
                    while block := packed.read(_BLOCK):
                        stream.write(block)
                        done += len(block)
                        listener.update(done, member.file_size)
                    stream.flush()
                    os.fsync(stream.fileno())
            finally:
                listener.end()
    # NotImplementedError and RuntimeError are zipfile's own, for a compression or encryption that it does not know.
    except (zipfile.BadZipFile, zlib.error, EOFError, NotImplementedError, RuntimeError) as error:
        target.unlink(missing_ok=True)
        raise NotTheFileError(
            str(archive), f"it cannot be unpacked ({error})", "Remove it to download it again, or see --offline"
        ) from error
