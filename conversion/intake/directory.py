"""The table of contents at the end of a zip archive, which two readers must find in the same place."""

import struct
from io import SEEK_END
from typing import IO

from conversion.errors import CheckpointError
from conversion.intake.budget import BUDGET, RESAVE, UNZIP, explain_excess

END, END64, LOCATOR64 = b"PK\x05\x06", b"PK\x06\x06", b"PK\x06\x07"
"""What the last record of an archive begins with; and the records before it in a large archive."""

LARGEST_END = 22 + 2**16
"""Bytes of an archive's end with the longest comment; torch writes none."""

NOT_TORCH = f"{RESAVE} {UNZIP}"


def check_directory(file: IO[bytes]) -> None:
    """Refuse an archive whose table of contents does not lie where its end says, or that lists too much.

    What is scanned is found by Python's ``zipfile``, what is read by torch's own reader. They take an archive with
    something before, between or after its parts for different files, so that another pickle would be read than scanned.

    Raises:
        CheckpointError: it is such an archive. One without an end is left to the reader to refuse.
    """
    size = file.seek(0, SEEK_END)
    file.seek(max(size - LARGEST_END, 0))
    tail = file.read()
    if tail[-22:-18] != END or tail[-2:] != b"\0\0":
        if tail.rfind(END, 0, -18) != -1:
            raise CheckpointError("a zip archive with something after its end.", hint=NOT_TORCH)
        return
    tail = tail[-98:]
    count, length, offset = struct.unpack("<HII", tail[-12:-2])
    end = size - 22
    if tail[-42:-38] == LOCATOR64:
        (place,) = struct.unpack("<Q", tail[-34:-26])
        end = size - 98
        if place != end or tail[:4] != END64:
            raise CheckpointError("a zip archive whose parts do not lie where its end says.", hint=NOT_TORCH)
        count, length, offset = struct.unpack("<QQQ", tail[32:56])
    if offset + length != end:
        raise CheckpointError("a zip archive whose parts do not lie where its end says.", hint=NOT_TORCH)
    if count > BUDGET.records:
        raise explain_excess("records", BUDGET.records, f"its table of contents lists {count:,}")
