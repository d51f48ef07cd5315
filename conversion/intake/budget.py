"""What the pickles of one file may take, and what is said of a file that takes more."""

from dataclasses import dataclass

from conversion.errors import CheckpointError

RESAVE = "Load it where it was written, and save the state dict alone: torch.save(model.state_dict(), ...)."
UNZIP = "If a checkpoint was zipped for transport, unpack it and give the file inside."


@dataclass(frozen=True)
class Budget:
    """What the pickles of one file may take.

    A tensor takes 32 opcodes; a ViT-g with teacher and Adam's state 133,000; 4,000 parameters under DeepSpeed with
    Adam's state 617,000, in 2 MB; 91,000 tensors 2.9 million, in 10 MB. Checkpoints name 3 to 100 globals, have a few
    whole numbers of more than 60 bits (of random generators), and take less than a step an opcode.

    Attributes:
        size: bytes of all pickles.
        records: of an archive. Each storage is one; all are listed before anything is read.
        argument: bytes of one text, name or number.
        opcodes: each takes torch's unpickler about a microsecond.
        globals: different ones. For each call, torch's unpickler goes through all of them.
        tuples: how deep they lie in each other. The interpreter counts no levels where it hashes them, and would crash.
        nesting: how deep dictionaries, lists and objects lie in each other.
        large: whole numbers of more than 60 bits, which can be made to have the same hash.
        steps: values visited where keys are hashed and functions of torch's are called. A tuple that is there once
            may be visited often: 60 tuples, each twice in the next, are 2 ** 60 values.
        seconds: of reading the opcodes; whatever else takes long.
    """

    size: int = 256 * 2**20
    records: int = 1_000_000
    argument: int = 64 * 2**20
    opcodes: int = 5_000_000
    globals: int = 1_000
    tuples: int = 100
    nesting: int = 200
    large: int = 1_000
    steps: int = 50_000_000
    seconds: float = 60.0


BUDGET = Budget()


def explain_excess(what: str, limit: float, found: str = "") -> CheckpointError:
    """What to say of a file that takes more than the budget."""
    headline = f"takes more than a checkpoint may: more than {limit:,} {what}."
    return CheckpointError(headline, [found] if found else [], RESAVE)
