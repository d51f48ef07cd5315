"""``vision-parity compare`` with a repository on the Hub: fetched, no more of it than is needed, and compared."""

import json
import shutil
import subprocess
import sys
from argparse import Namespace
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

import conversion
from conversion.artifact.weights import INDEX, WEIGHTS
from conversion.cli.app import main
from conversion.state_dicts.folder import CONFIG, PREPROCESSOR
from tests.support.fake_hub import use
from tests.support.fake_hub_state import READ_ONLY, STRANGER, Hub, Repository, name_commit
from tests.support.golden import list_options, read_golden

NAME = "us/tiny"
NOWHERE = "http://127.0.0.1:9"  # a port that nobody listens to
PICKLED = "pytorch_model.bin"
NEEDED = [CONFIG, WEIGHTS, PREPROCESSOR]

Compare = Callable[..., tuple[int, str]]


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A checkpoint, and what it becomes: in one file, in shards, and pickled."""
    golden, here = read_golden("dinov2_tiny"), tmp_path_factory.mktemp("made")
    torch.save(golden.recorded, here / "original.pth")
    out = conversion.convert(golden.state_dict, **golden.overrides)
    conversion.save_artifact(out, here / "target")
    conversion.save_artifact(out, here / "shards", max_shard_size="100KB")
    shutil.copytree(here / "target", here / "pickled")
    torch.save(load_file(here / "target" / WEIGHTS), here / "pickled" / PICKLED)
    (here / "pickled" / WEIGHTS).unlink()
    return here


@pytest.fixture
def files(made: Path) -> dict[str, bytes]:
    return read(made / "target")


@pytest.fixture
def compare(
    made: Path, hub: Hub, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> Compare:
    """Compare the checkpoint with something, from an empty folder."""
    assert hub.url
    monkeypatch.chdir(tmp_path)

    def compare(target: str = NAME, *options: str) -> tuple[int, str]:
        capsys.readouterr()  # what was written before
        status = main(["compare", str(made / "original.pth"), target, *options, *list_options("dinov2_tiny")])
        captured = capsys.readouterr()
        return status, captured.out if "--json" in options else " ".join((captured.out + captured.err).split())

    return compare


def read(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in folder.iterdir()}


def with_eps(files: dict[str, bytes]) -> dict[str, bytes]:
    """The files of another model."""
    return files | {CONFIG: json.dumps(json.loads(files[CONFIG]) | {"layer_norm_eps": 1e-5}).encode()}


def test_a_repository_that_is_the_checkpoint_is_the_same(compare: Compare, hub: Hub, files: dict[str, bytes]) -> None:
    others = {PICKLED: b"the same once more", "onnx/model.onnx": b"", "onnx/config.json": b"{}", "training.json": b"{}"}
    hub.repositories[NAME] = Repository(private=False, files=files | others)
    status, output = compare()
    assert status == 0, output
    commit = hub.repositories[NAME].sha[:12]
    assert output.startswith(f"us/tiny (commit {commit}) beside ")
    assert "The same model. This holds if num_attention_heads 2" in output
    assert hub.list_fetched() == NEEDED
    assert json.loads(compare(NAME, "--json")[1])["origin"] == f"commit {commit}"
    assert hub.list_fetched() == NEEDED, "what is in the cache is not fetched again"


def test_a_repository_that_is_another_model_is_not(compare: Compare, hub: Hub, files: dict[str, bytes]) -> None:
    hub.repositories[NAME] = Repository(private=False, files=with_eps(files))
    status, output = compare()
    assert status == 1
    assert "layer_norm_eps: 1e-05, expected 1e-06" in output
    assert output.endswith("Not the same.")


@pytest.mark.parametrize("kind", ["shards", "pickled"])
def test_weights_of_every_kind_are_compared(kind: str, compare: Compare, hub: Hub, made: Path) -> None:
    files = read(made / kind)
    others = {"pytorch_model-00001-of-00002.bin": b"", "model.unverified.safetensors.index.json": b""}
    hub.repositories[NAME] = Repository(private=False, files=files | others)
    status, output = compare()
    assert status == 0, output
    weights = [name for name in files if name.endswith((".safetensors", ".bin", INDEX))]
    assert hub.list_fetched() == sorted([CONFIG, PREPROCESSOR, *weights])
    assert compare(str(made / kind))[0] == 0, "nor does it matter in a folder"


def test_tensors_of_a_pickled_file_are_named(compare: Compare, hub: Hub, made: Path, tmp_path: Path) -> None:
    tensors = load_file(made / "target" / WEIGHTS)
    tensors["layernorm.bias"] = torch.zeros_like(tensors["layernorm.bias"])
    torch.save(tensors, tmp_path / PICKLED)
    files = read(made / "pickled") | {PICKLED: (tmp_path / PICKLED).read_bytes()}
    hub.repositories[NAME] = Repository(private=False, files=files)
    status, output = compare()
    assert status == 1
    assert "layernorm.bias, from norm.bias: off by up to" in output


class Runs:
    """What runs code where it is unpickled."""

    def __reduce__(self) -> tuple[object, tuple[str, str]]:
        return open, ("was run", "w")


@pytest.mark.parametrize(
    ("value", "said"),
    [
        (Runs(), "refers to callables that could run code; none was called"),
        (Namespace(lr=1), "not a state dict, 1 of 62 entries"),
    ],
    ids=["code", "foreign"],
)
def test_a_pickle_is_opened_without_running_code(
    value: object, said: str, compare: Compare, hub: Hub, made: Path, tmp_path: Path
) -> None:
    torch.save(torch.load(made / "pickled" / PICKLED) | {"more": value}, tmp_path / PICKLED)
    files = read(made / "pickled") | {PICKLED: (tmp_path / PICKLED).read_bytes()}
    hub.repositories[NAME] = Repository(private=False, files=files)
    status, output = compare()
    assert status == 2, output
    assert said in output
    assert not Path("was run").exists()


def test_a_revision_is_compared(compare: Compare, hub: Hub, files: dict[str, bytes], made: Path) -> None:
    """Its own kind of weights is fetched, too."""
    hub.repositories[NAME] = Repository(private=False, files=with_eps(files), tags={"v1": read(made / "pickled")})
    assert compare()[0] == 1
    commit = name_commit("v1")
    for revision in ("v1", commit):
        status, output = compare(NAME, "--revision", revision)
        assert status == 0, output
        assert f"us/tiny (commit {commit[:12]}) beside" in output
    status, output = compare(NAME, "--revision", "v2")
    assert (status, output) == (2, "us/tiny: has no revision 'v2'. Give a branch, a tag or a commit.")


@pytest.mark.parametrize("target", [NAME, "facebook/dinov2-small"])
def test_what_is_neither_folder_nor_repository_is_one_error(target: str, compare: Compare, hub: Hub) -> None:
    status, output = compare(target)
    assert status == 2
    assert output.startswith(
        f"{target}: there is no such folder here, and no such repository on the Hub. Check its name"
    )
    assert hub.list_fetched() == []


def test_what_is_no_name_of_a_repository_is_not_asked_for(compare: Compare, hub: Hub) -> None:
    for target in ("absent", "a/b/c", "us/a--b", "us/tiny.git", "./tiny"):
        assert compare(target) == (2, f"{target}: there is no such folder. Check its path.")
    assert hub.requests == []


def test_a_folder_goes_before_a_repository(compare: Compare, hub: Hub, files: dict[str, bytes], made: Path) -> None:
    hub.repositories[NAME] = Repository(private=False, files=with_eps(files))
    shutil.copytree(made / "target", NAME)  # in the present folder
    status, output = compare()
    assert status == 0, output
    assert output.startswith("us/tiny beside ")
    assert hub.requests == []
    assert compare(NAME, "--revision", "main") == (
        2,
        "--revision main is of a repository on the Hub; us/tiny lies here. Leave --revision out.",
    )


# who asks: what is said of a private repository, and of a gated one
NOT_THERE = "us/tiny: there is no such folder here, and no such repository on the Hub."
GATED = "us/tiny: is gated, and does not give its files to whoever asks here."
ASKING = {
    "": (NOT_THERE, GATED),
    STRANGER: (NOT_THERE, GATED),
    "hf_wrong": ("us/tiny: the Hub does not accept the token.",) * 2,
    READ_ONLY: ("", ""),
}


@pytest.mark.parametrize("token", ASKING)
@pytest.mark.parametrize("is_gated", [False, True], ids=["private", "gated"])
def test_who_may_not_see_a_repository_is_told(
    is_gated: bool, token: str, compare: Compare, hub: Hub, files: dict[str, bytes], monkeypatch: pytest.MonkeyPatch
) -> None:
    hub.repositories[NAME] = Repository(private=not is_gated, gated=is_gated, files=files)
    if token:
        monkeypatch.setenv("HF_TOKEN", token)
    status, output = compare()
    said = ASKING[token][is_gated]
    assert status == (2 if said else 0), output
    assert output.startswith(said)
    assert "hf auth login" in output or not said
    assert "hf_" not in output


def test_a_full_disk_is_not_the_hubs(compare: Compare, hub: Hub, monkeypatch: pytest.MonkeyPatch) -> None:
    def fill_the_disk(*_: object, **__: object) -> None:
        raise OSError(28, "No space left on device", "cache/blob")

    hub.repositories[NAME] = Repository(private=False)
    monkeypatch.setattr("huggingface_hub.snapshot_download", fill_the_disk)
    assert compare() == (2, "cache/blob: No space left on device")


@pytest.mark.parametrize("how", ["unreachable", "broken", "offline"])
def test_where_the_hub_cannot_be_reached_a_copy_is_compared(
    how: str, compare: Compare, hub: Hub, files: dict[str, bytes], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def lose() -> None:
        if how == "unreachable":
            use(NOWHERE, tmp_path / "huggingface", monkeypatch)
        elif how == "offline":
            monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
        hub.is_broken = True

    hub.repositories[NAME] = Repository(private=False, files=files | {PICKLED: b"the same once more"})
    commit = hub.repositories[NAME].sha
    assert compare()[0] == 0
    lose()
    status, output = compare()
    assert status == 0, output
    assert output.startswith(f"us/tiny (commit {commit[:12]}, the cache's copy: the Hub does not answer) beside ")
    copy = next((tmp_path / "huggingface").rglob(f"snapshots/{commit}"))
    (copy / WEIGHTS).unlink()
    status, output = compare()
    assert status == 2
    assert output.startswith("us/tiny: there is no such folder here, and it cannot be fetched from the Hub. - ")
    assert output.endswith("In huggingface_hub's cache there is no copy either.")


# what is in a repository: what is said
HELD: dict[str, tuple[dict[str, bytes], str]] = {
    "nothing": ({}, "not what from_pretrained reads: there is no config.json in it"),
    "another model": (
        {CONFIG: b'{"model_type": "bert"}'},
        "its config.json says model_type 'bert'; the types that are known here",
    ),
    "no weights": (
        {CONFIG: b'{"model_type": "dinov2"}'},
        "holds a config.json, and no weights that transformers reads",
    ),
    "other weights": (
        {CONFIG: b'{"model_type": "dinov2"}', "tf_model.h5": b""},
        "holds a config.json, and no weights that",
    ),
}


@pytest.mark.parametrize("what", HELD)
def test_a_repository_without_a_model_is_refused(what: str, compare: Compare, hub: Hub) -> None:
    held, said = HELD[what]
    hub.repositories[NAME] = Repository(private=False, files=held)
    status, output = compare()
    assert status == 2
    assert output.startswith(f"{NAME}: {said}")


def test_the_checkpoint_is_looked_at_before_anything_is_fetched(
    compare: Compare, hub: Hub, files: dict[str, bytes], made: Path, tmp_path: Path
) -> None:
    hub.repositories[NAME] = Repository(private=False, files=files)
    assert main(["compare", str(tmp_path / "absent.pth"), NAME]) == 2
    assert hub.requests == []
    assert compare is not None
    assert made.is_dir()


def test_the_address_of_the_hub_is_taken_from_the_environment(
    hub: Hub, files: dict[str, bytes], made: Path, tmp_path: Path
) -> None:
    """In a process of its own."""
    hub.repositories[NAME] = Repository(private=False, files=files)
    command = [sys.executable, "-m", "conversion", "compare", str(made / "original.pth"), NAME]
    done = subprocess.run(
        [*command, *list_options("dinov2_tiny")], cwd=tmp_path, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    assert "\nThe same model.\n" in done.stdout
    assert hub.list_fetched() == NEEDED
