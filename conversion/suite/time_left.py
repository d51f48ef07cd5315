"""How long the models of a run will still take, by the work that they are and by what verified ones took."""

import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field

from conversion.families.variants import VARIANTS
from conversion.suite.extent import choose_row
from conversion.suite.settings import Request
from conversion.suite.work import estimate_work

OVERHEAD = 120e9
"""What a cell of the matrix takes beside its multiplications, as if it were some: reading, writing, small operations.

With it, every model does between 43 and 105 thousand million multiplications a second (``docs/results.md``).
"""

OF_VARIANT = re.compile(r"test_(?P<test>parity|restore)\[(?P<variant>\w+)")
"""How the id of a test begins that verifies a variant."""


@dataclass
class Model:
    """A backbone with its classifier, which are verified side by side: by one worker, one test after the other.

    Attributes:
        work: that verifying it is estimated to be, in multiplications.
        waiting: its tests that have not ended.
        spent: seconds that those took which have ended.
        running: its test that is running, to when it began.
    """

    work: float = 0.0
    waiting: set[str] = field(default_factory=set)
    spent: float = 0.0
    running: dict[str, float] = field(default_factory=dict)


def group_tests(tests: Iterable[str], request: Request) -> dict[str, Model]:
    """The models of a run by name, each with its tests; other tests belong to none."""
    models: dict[str, Model] = {}
    for test in tests:
        if (name := find_model(test)) is None:
            continue
        model = models.setdefault(name, Model())
        model.waiting.add(test)
        model.work += estimate_test(test, request)
    return models


def find_model(test: str) -> str | None:
    """The model that a test verifies; None of any other test."""
    found = OF_VARIANT.search(test)
    row = VARIANTS.get(found["variant"]) if found else None
    return row.backbone if row else found and found["variant"]


def estimate_test(test: str, request: Request) -> float:
    """The work of a test. The way back takes next to nothing beside a cell of the matrix."""
    found = OF_VARIANT.search(test)
    if found is None or found["test"] == "restore":
        return 0.0
    return OVERHEAD + estimate_work(choose_row(found["variant"], request), is_thorough=request.is_thorough)


def estimate_left(models: Sequence[Model], workers: int, now: float) -> float | None:
    """Seconds that the models which are not verified yet will take; None until one is, and once all are.

    A second of a worker does as much work for each model as it did, on average, for those that are verified. A worker
    begins one model after the other, and none takes less than its own time.
    """
    verified = [model for model in models if not model.waiting and model.work]
    rest = [model for model in models if model.waiting and model.work]
    if not verified or not rest:
        return None
    pace = sum(model.spent for model in verified) / sum(model.work for model in verified)
    left = [max(0.0, model.work * pace - measure_spent(model, now)) for model in rest]
    return max(*left, sum(left) / workers)


def measure_spent(model: Model, now: float) -> float:
    """Seconds that a model has taken until now."""
    return model.spent + sum(now - began for began in model.running.values())
