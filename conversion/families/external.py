"""The authors' own code, from a clone of their repository, such that nothing of it stays behind.

Their modules have names as common as ``utils``; two clones, or a clone and an installed package, must not mix.
"""

import importlib
import subprocess
import sys
import warnings
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from inspect import signature
from pathlib import Path
from types import ModuleType
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torch.overrides import TorchFunctionMode

from conversion.errors import CheckpointError

BUNDLED, HUB, AUTO = "bundled", "hub", "auto"
"""In place of a path: the original that is written out here; the clone that torch.hub keeps; by who wrote the file."""


def find_clone(original: str, family: str, repository: str) -> Path | None:
    """Find where the code of the original is.

    Args:
        original: a clone's path, ``"hub"`` or ``"bundled"``.
        family: its name, for messages.
        repository: what torch.hub knows it by, ``owner/name``; empty if it does not.

    Returns:
        the clone's folder; None for the original that is bundled.

    Raises:
        CheckpointError: there is no such folder, or torch.hub does not give one.
    """
    if original == BUNDLED:
        return None
    if original == HUB:
        return _fetch_clone(family, repository)
    path = Path(original).expanduser()
    if not path.is_dir():
        raise CheckpointError(f"{path} is no folder.", hint=f'Give a clone\'s path, "{HUB}" or "{BUNDLED}".')
    return path


def refuse_clone(_spec: object, clone: Path) -> nn.Module:
    """Refuse the authors' code, of a family for which it is not supported.

    Raises:
        CheckpointError: always.
    """
    raise CheckpointError(f"{clone}: the authors' code is not supported for this family.", hint="Leave --original out.")


def import_class(root: Path, module: str, name: str) -> type[nn.Module]:
    """Import a model's class from a module of a clone; see :func:`import_isolated`.

    Raises:
        CheckpointError: the module cannot be imported, or has no such class.
    """
    found = getattr(import_isolated(root, module), name, None)
    if not isinstance(found, type) or not issubclass(found, nn.Module):
        raise CheckpointError(
            f"{root}: {module} has no class {name}.", hint="Check out the authors' main branch, unchanged."
        )
    return found


def import_isolated(root: Path, module: str) -> ModuleType:
    """Import a module from a clone, and undo all changes to ``sys.modules`` and ``sys.path``.

    Args:
        root: the folder that is to be on ``sys.path``.
        module: its dotted name from there.

    Raises:
        CheckpointError: it is not there, or its code raises an error, as where a package that it imports is missing.
    """
    path = module.replace(".", "/") + ".py"
    if not (root / path).is_file():
        raise CheckpointError(
            f"{root} has no {path}, so {module} cannot be imported.",
            hint=f"Give the folder that has {path}: a clone of the authors' repository.",
        )
    with isolated(root):
        try:
            return importlib.import_module(module)
        except Exception as error:
            raise CheckpointError(
                f"{root}: {module} cannot be imported.",
                [f"{type(error).__name__}: {error}"],
                hint=f"Install what is missing, or give a clone whose {path} runs with the packages installed here.",
            ) from error


@contextmanager
def isolated(root: Path) -> Iterator[None]:
    """Put a folder first on ``sys.path``, and remove from ``sys.modules`` afterwards what came from there.

    Modules that were there before under the folder's names are put aside meanwhile. No byte code is written, and
    warnings are not shown: they are the authors'.
    """
    root = root.resolve()
    modules, path, writes_nothing = dict(sys.modules), list(sys.path), sys.dont_write_bytecode
    names = _list_foreign(root, modules)
    aside = {name: module for name, module in modules.items() if name.partition(".")[0] in names}
    for name in aside:
        del sys.modules[name]
    sys.path.insert(0, str(root))
    sys.dont_write_bytecode = True
    importlib.invalidate_caches()
    try:
        with warnings.catch_warnings(action="ignore"):
            yield
    finally:
        sys.dont_write_bytecode = writes_nothing
        sys.path[:] = path
        for name, module in list(sys.modules.items()):
            if modules.get(name) is not module and _is_from(root, module):
                del sys.modules[name]
        sys.modules.update(aside)
        for entry in [entry for entry in sys.path_importer_cache if Path(entry).is_relative_to(root)]:
            if entry not in path:
                del sys.path_importer_cache[entry]


def construct(
    model_class: type[nn.Module], arguments: Mapping[str, object], neutral: Mapping[str, object], root: Path
) -> nn.Module:
    """Build a model of the authors' class.

    Args:
        arguments: of its constructor.
        neutral: those that a class need not know, older than they are, to the value that it goes by all the same.
        root: of the clone, for messages.

    Raises:
        CheckpointError: the class does not know an argument that is needed, or its constructor raises an error.
    """
    known = signature(model_class).parameters
    unknown = {name: value for name, value in arguments.items() if name not in known}
    needed = [f"{name}={value}" for name, value in unknown.items() if name not in neutral or neutral[name] != value]
    if needed:
        raise CheckpointError(
            f"{root}: its {model_class.__name__} does not know what this model needs.",
            needed,
            hint="Update the clone to the authors' main branch, or give --original bundled.",
        )
    try:
        with warnings.catch_warnings(action="ignore"), NumbersOnCpu():
            return model_class(**{name: value for name, value in arguments.items() if name in known})
    except Exception as error:
        raise CheckpointError(
            f"{root}: its {model_class.__name__} cannot be built.",
            [f"{type(error).__name__}: {error}"],
            hint="Check out the authors' main branch, or give --original bundled.",
        ) from error


class NumbersOnCpu(TorchFunctionMode):
    """Rates that grow with depth are read out of a ``linspace``; tensors on the meta device have nothing to read."""

    def __torch_function__(self, function: Any, _types: Any, args: Any = (), kwargs: Any = None) -> Any:
        kwargs = kwargs or {}
        return function(*args, **({"device": "cpu"} | kwargs if function is torch.linspace else kwargs))


class Weight(nn.Parameter):
    """The weight of a :class:`Projection`, by which whoever multiplies with it calls that module."""

    projection: "Projection"

    @classmethod
    def __torch_function__(cls, function: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        if function is F.linear:
            given = {**dict(zip(("input", "weight", "bias"), args, strict=False)), **(kwargs or {})}
            if isinstance(given["weight"], cls):
                return given["weight"].projection(given["input"], given.get("bias"))
        return super().__torch_function__(function, types, args, kwargs or {})  # type: ignore[no-untyped-call]


class Projection(nn.Module):
    """Query, key and value in one product, seen by hooks.

    The attention of BEiT's authors, and timm's, takes the weight out of its module and never calls that. Capture points
    and the casts of :mod:`conversion.parity.precision` hang on calls, so the weight that it takes brings one about; the
    product is the same.
    """

    def __init__(self, weight: nn.Parameter) -> None:
        super().__init__()
        self.register_parameter("weight", weight)

    def __getattr__(self, name: str) -> Any:
        value: Any = super().__getattr__(name)
        if name != "weight":
            return value
        weight = Weight(value, requires_grad=False)  # in the same memory
        weight.projection = self
        return weight

    def forward(self, tokens: Tensor, bias: Tensor | None = None) -> Tensor:
        """``(B, T, D)`` to ``(B, T, 3D)``."""
        return F.linear(tokens, self._parameters["weight"], bias)  # type: ignore[arg-type]


def _fetch_clone(family: str, repository: str) -> Path:
    if not repository:
        raise CheckpointError(
            f"The authors' code of {family} is not on torch.hub.", hint="Give the path of a clone of their repository."
        )
    clone = Path(torch.hub.get_dir()) / f"{repository.replace('/', '_')}_main"
    try:
        with isolated(clone):
            # what is there is not asked for: this fetches the code, once, and needs no other package for that
            torch.hub.list(f"{repository}:main", skip_validation=True, trust_repo=True, verbose=False)
    except Exception as error:  # the code that it imports to list what is there may lack packages: no matter
        if not clone.is_dir():
            raise CheckpointError(
                f"torch.hub could not fetch {repository}.",
                [f"{type(error).__name__}: {error}"],
                hint=f"With a network, clone https://github.com/{repository}, and give the clone's path.",
            ) from error
    return clone


def _list_foreign(root: Path, modules: Mapping[str, ModuleType]) -> set[str]:
    """List the folder's names that are not imported from it."""
    paths = [*root.glob("*.py"), *(path.parent for path in root.glob("*/__init__.py"))]
    return {path.stem for path in paths if not _is_from(root, modules.get(path.stem))}


def _is_from(root: Path, module: ModuleType | None) -> bool:
    # by the dictionary: some modules make up whatever attribute they are asked for
    places = getattr(module, "__dict__", {})
    places = [places.get("__file__"), *(places.get("__path__") or ())]
    return any(Path(place).resolve().is_relative_to(root) for place in places if isinstance(place, str))


def describe_original(clone: Path | None) -> str:
    """Describe whose code the original is, for a card: the clone's name and, if git knows it, its revision."""
    if clone is None:
        return BUNDLED
    asked = subprocess.run(["git", "-C", str(clone), "rev-parse", "HEAD"], capture_output=True, text=True, check=False)
    revision = f" at {asked.stdout.strip()}" if asked.returncode == 0 else ""
    return f"the authors', from the clone {clone.resolve().name}{revision}"
