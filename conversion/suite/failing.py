"""How a test fails of which a conversion is the subject."""

from collections.abc import Iterator
from contextlib import contextmanager

import pytest

from conversion.errors import ConversionError


@contextmanager
def fail_plainly() -> Iterator[None]:
    """Report an error of conversion by its message alone: it says all, a traceback would bury it."""
    try:
        yield
    except ConversionError as error:
        raise pytest.fail.Exception(str(error), pytrace=False) from None  # or pytest would print both
