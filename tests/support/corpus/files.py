"""Files that are none, damaged ones, and such as would run code."""

import pickle
import zipfile
from functools import partial

import torch
from torch import nn

from tests.support.corpus.making import (
    PICKLED,
    RUN,
    BadInput,
    Calls,
    archive,
    calling,
    change_record,
    forbid_reading,
    half_of,
    legacy,
    make_huge,
    nest_tuples,
    records_of,
    safetensors_file,
    saved,
    write,
)
from tests.support.golden import tiny

NO_FILE: dict[str, BadInput] = {
    "an absent file": BadInput(lambda _: None, r"there is no such file"),
    "an absent file beside others": BadInput(
        lambda folder: write(PICKLED, folder, "good.pth"), r"Its folder holds good\.pth\."
    ),
    "a name that is too long": BadInput(lambda _: None, "cannot be looked at", "x" * 300),
    "a name with a null byte": BadInput(lambda _: None, "cannot be looked at", "x\0y"),
    "a file that may not be read": BadInput(
        forbid_reading, r"no permission.*\n.*\n.*chmod a\+rX \S+bad|cannot be looked at"
    ),
    "an empty folder": BadInput(lambda folder: (folder / "bad.pth").mkdir(), "a folder without a checkpoint in it"),
    "a folder with several checkpoints": BadInput(
        lambda folder: [write(PICKLED, folder, name) for name in ("a.pth", "b.pth")],
        r"a folder with several checkpoints in it.*\n.*a\.pth\n.*b\.pth",
        ".",
    ),
    "a pattern that nothing matches": BadInput(lambda _: None, "no file matches this pattern", "*.pth"),
    "a broken link": BadInput(lambda folder: (folder / "bad.pth").symlink_to("nowhere"), "no such file"),
}

DAMAGED: dict[str, BadInput] = {
    "zero bytes": BadInput(partial(write, b""), "the file is empty"),
    "one byte": BadInput(partial(write, b"P"), r"not a checkpoint.*\n.*begins with b'P'"),
    "random bytes": BadInput(partial(write, bytes(range(1, 256)) * 64), "not a checkpoint: neither"),
    "zeros": BadInput(partial(write, bytes(10_000)), "not a checkpoint: neither"),
    "a text file": BadInput(partial(write, b"<html>404 Not Found</html>"), r"begins with b'<html>404"),
    "a pointer of git-lfs": BadInput(
        partial(write, b"version https://git-lfs.github.com/spec/v1\noid sha256:00\n"),
        r"a pointer of git-lfs.*\n.*git lfs pull",
    ),
    "a truncated file": BadInput(partial(write, half_of(PICKLED)), r"truncated, damaged.*\n.*\n.*bytes; compare"),
    "a file without its beginning": BadInput(partial(write, PICKLED[100:]), "not a checkpoint: neither"),
    "a file without its end": BadInput(partial(write, PICKLED[:-10]), "truncated, damaged"),
    "a truncated file of the old format": BadInput(partial(write, legacy(tiny())[:-1000]), "truncated, damaged"),
    "an old format cut in its pickle": BadInput(partial(write, legacy(tiny())[:200]), "truncated, damaged"),
    "an old format without storages": BadInput(partial(write, legacy(tiny())[:4000]), "truncated, damaged"),
    "a zip archive of something else": BadInput(
        partial(write, archive({"hello.txt": b"hello"})), r"no data\.pkl.*\n.*hello\.txt\n.*unpack it"
    ),
    "a zipped checkpoint": BadInput(
        partial(write, archive({"model.pth": PICKLED}, zipfile.ZIP_DEFLATED)), r"no data\.pkl.*\n.*model\.pth\n.*unpack"
    ),
    "a compressed archive": BadInput(
        partial(write, archive(records_of(PICKLED), zipfile.ZIP_DEFLATED)), r"a compressed archive.*\n.*zip -0 -r"
    ),
    "a bomb of zeros": BadInput(
        partial(write, archive({"a/data.pkl": bytes(50_000_000)}, zipfile.ZIP_DEFLATED)), "a compressed archive"
    ),
    "an archive without its pickle": BadInput(change_record("data.pkl", lambda _: None), r"no data\.pkl"),
    "an archive without a storage": BadInput(change_record("data/3", lambda _: None), "truncated, damaged"),
    "an archive with an empty pickle": BadInput(change_record("data.pkl", lambda _: b""), "truncated, damaged"),
    "an archive with a shortened storage": BadInput(
        change_record("data/3", lambda content: content[:-4]), r"other sizes than it stores|truncated, damaged"
    ),
    "an archive with a lengthened storage": BadInput(
        change_record("data/3", lambda content: content + bytes(64)), "other sizes than it stores"
    ),
    "an archive with huge declared shapes": BadInput(change_record("data.pkl", make_huge), "truncated, damaged"),
    "a pickle that ends early": BadInput(change_record("data.pkl", half_of), "truncated, damaged"),
    "a TorchScript archive": BadInput(
        lambda folder: torch.jit.script(nn.Linear(2, 2)).save(str(folder / "bad.pth")), "a TorchScript archive"
    ),
    "tuples without an end": BadInput(
        change_record("data.pkl", lambda _: nest_tuples(200_000)), "tuples that lie more than 100 deep"
    ),
    "a plain pickle": BadInput(partial(write, pickle.dumps({"a": 1})), "not a checkpoint: neither"),
    "another protocol of pickle": BadInput(
        partial(write, saved(tiny(), pickle_protocol=4)), r"pickled with protocol 4; .*\n.*without pickle_protocol"
    ),
    "another protocol in the old format": BadInput(
        partial(write, legacy(tiny(), pickle_protocol=4)), r"pickled with protocol 4; .*\n.*without pickle_protocol"
    ),
}

SAFETENSORS: dict[str, BadInput] = {
    "safetensors of zero bytes": BadInput(partial(write, b""), "the file is empty"),
    "a header longer than the file": BadInput(partial(write, safetensors_file({}, length=2**60)), "truncated, damaged"),
    "a header that is no JSON": BadInput(partial(write, safetensors_file(b"{nothing at all}")), "truncated, damaged"),
    "huge declared shapes": BadInput(
        partial(write, safetensors_file({"a": {"dtype": "F32", "shape": [2**40], "data_offsets": [0, 2**42]}})),
        "truncated, damaged",
    ),
    "data that is not there": BadInput(
        partial(write, safetensors_file({"a": {"dtype": "F32", "shape": [4], "data_offsets": [0, 16]}}, bytes(8))),
        "truncated, damaged",
    ),
    "an unknown dtype": BadInput(
        partial(write, safetensors_file({"a": {"dtype": "Q3", "shape": [1], "data_offsets": [0, 4]}}, bytes(4))),
        "truncated, damaged",
    ),
    "no tensors at all": BadInput(partial(write, safetensors_file({})), "holds no state dict, but an empty mapping"),
}

CODE: dict[str, BadInput] = {
    "a pickle that calls os.system": BadInput(
        calling("os.system", *RUN), r"refers to callables that could run code.*\n.*posix\.system"
    ),
    "one of the old format": BadInput(
        lambda folder: write(legacy({"a": Calls("os.system", *RUN)}), folder),
        r"refers to callables that could run code.*\n.*posix\.system",
    ),
    "a pickle that evaluates": BadInput(calling("builtins.eval", "open('ran', 'w')"), r"code.*\n.*builtins\.eval"),
    "a pickle that executes": BadInput(calling("builtins.exec", "open('ran', 'w')"), r"code.*\n.*builtins\.exec"),
    "a pickle that imports": BadInput(calling("builtins.__import__", "os"), r"code.*\n.*builtins\.__import__"),
    "a pickle that opens a file": BadInput(calling("builtins.open", "ran", "w"), r"code.*\n.*io\.open"),
    "a pickle that starts a process": BadInput(
        calling("subprocess.check_call", ["touch", "ran"]), r"code.*\n.*subprocess"
    ),
    "a pickle that copies files": BadInput(
        calling("shutil.copy", "/etc/hostname", "ran"), r"code.*\n.*shutil\.copyfile|code.*\n.*shutil\.copy"
    ),
    "a pickle that loads another": BadInput(
        calling("torch.load", "other.pth"), r"code.*\n.*torch\.(serialization\.)?load"
    ),
    "a pickle that loads a library": BadInput(calling("ctypes.CDLL", "ran.so"), r"code.*\n.*ctypes\.CDLL"),
    "a pickle that runs a module": BadInput(calling("runpy.run_path", "ran.py"), r"code.*\n.*runpy\.run_path"),
}
