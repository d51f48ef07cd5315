"""Read an artifact back, staged or published, and check that it is whole."""

from pathlib import Path
from typing import TYPE_CHECKING, Any

from conversion.artifact.weights import UNVERIFIED, is_published, list_keys
from conversion.errors import ArtifactError
from conversion.families.target import transformers_major
from conversion.state_dicts.convert import Conversion
from conversion.state_dicts.folder import PREPROCESSOR, describe_unreadable, read_config, read_settings
from conversion.state_dicts.restore import find_family, find_majors

if TYPE_CHECKING:
    from transformers import PretrainedConfig


def load_model(directory: Path, *, attention: str = "sdpa", dtype: str = "float32") -> Any:
    """Load an artifact, staged or published, with ``from_pretrained``, and check that the loading info is empty.

    Args:
        attention: ``"eager"``, ``"sdpa"``, or another implementation that transformers knows.
        dtype: name of the torch dtype.

    Raises:
        ArtifactError: it was written for another major version of transformers; or a key was missing, ignored, or of
            another shape, which transformers 5 only warns about.
    """
    config = read_config(directory)
    _check_readable(directory, config)
    variant = None if is_published(directory) else UNVERIFIED
    return _load(config, directory, attention, dtype, variant=variant, local_files_only=True)


def load_converted(conversion: Conversion, *, attention: str = "sdpa", dtype: str = "float32") -> Any:
    """Load a converted model as :func:`load_model` does, from memory in place of a directory.

    Raises:
        ArtifactError: as :func:`load_model`.
    """
    return _load(conversion.config, None, attention, dtype, state_dict=dict(conversion.state_dict))


def load_image_processor(directory: Path) -> Any:
    """The artifact's image processor, with the backend that computes what the original does: Pillow.

    Raises:
        CheckpointError: its settings are none that transformers reads.
    """
    import transformers

    try:
        found = transformers.AutoImageProcessor.from_pretrained(
            directory, local_files_only=True, trust_remote_code=False, **_choose_backend(directory)
        )
        if not isinstance(found, transformers.ImageProcessingMixin):  # it takes any class of the library
            raise TypeError(f"{type(found).__name__} is no image processor")
    except Exception as error:  # transformers raises nearly everything on values that it does not expect
        raise describe_unreadable(directory / PREPROCESSOR, error) from error
    return found


def _choose_backend(directory: Path) -> dict[str, object]:
    """Ask for Pillow's backend of an image processor; not of one that has torchvision's alone."""
    import transformers

    name = str(read_settings(directory / PREPROCESSOR).get("image_processor_type")).removesuffix("Fast")
    if transformers_major() < 5:
        return {"use_fast": hasattr(transformers, f"{name}Fast") and not hasattr(transformers, name)}
    has_none = hasattr(transformers, name) and not hasattr(transformers, f"{name}Pil")
    return {} if has_none else {"backend": "pil"}


def _load(config: "PretrainedConfig", directory: Path | None, attention: str, dtype: str, **source: Any) -> Any:
    import torch
    import transformers

    family = find_family(config)
    own = family.read_config(config).hf_class
    architecture = (config.architectures or [own])[0]  # a config need not name it
    if not architecture or not hasattr(transformers, architecture):
        headline = f"{directory}: transformers has no architecture {architecture!r}, which its config names."
        raise ArtifactError(headline, hint="Convert the original again, with the transformers that is installed here.")
    model, info = getattr(transformers, architecture).from_pretrained(
        directory,
        config=config,
        attn_implementation=family.tell_attention(attention),
        dtype=getattr(torch, dtype),
        output_loading_info=True,
        ignore_mismatched_sizes=True,  # reported below with their keys, in place of an error without them
        **source,
    )
    problems = [f"{kind.replace('_', ' ')}: {key}" for kind, keys in info.items() for key in keys]
    if problems:
        raise ArtifactError(f"{directory or architecture}: does not load back whole as {architecture}.", problems)
    return model.eval()


def _check_readable(directory: Path, config: "PretrainedConfig") -> None:
    """Refuse the layout of another major version of transformers, which would fill what it misses at random."""
    family = find_family(config)
    majors = find_majors(family, family.read_config(config), list_keys(directory))
    installed = transformers_major()
    if majors and installed not in majors:
        written_for = " and ".join(map(str, majors))
        raise ArtifactError(
            f"{directory}: written in the names of transformers {written_for}; {installed} is installed, and knows "
            "other names for some of its tensors.",
            hint=f"Load it with transformers {written_for}; or convert the original again, here "
            "(conversion.restore gives it back).",
        )
