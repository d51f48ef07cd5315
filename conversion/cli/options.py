"""What the options of several commands have in common, and what becomes of errors."""

import glob
import inspect
import warnings
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Annotated, Any, NoReturn

import typer

import conversion
from conversion.errors import ConversionError, ConversionWarning
from conversion.families.settings import list_settings, option_of
from conversion.families.variants import VARIANTS
from conversion.report.text import fold
from conversion.suite.workflow_commands import annotate_error, is_listening

SHOWN = "num_attention_heads"
"""The setting whose option every help shows, since most checkpoints of one's own need it."""

SAME, NOT_THE_SAME, NOT_DONE = 0, 1, 2
"""Exit statuses: the same model; not the same; nothing was compared, since what was asked for cannot be done."""

Tolerance = Annotated[
    float | None, typer.Option(help="To judge the card's figures by, in place of the usual one.", hidden=True)
]
Named = Annotated[str | None, typer.Option("--variant", help="The official model that it is.")]
Like = Annotated[
    str | None,
    typer.Option("--like", help="The official model that tells shapes of FSDP's flat parameters.", hidden=True),
]


def _show_version(is_asked_for: bool) -> None:
    if is_asked_for:
        typer.echo(f"vision-parity {conversion.__version__}")
        raise typer.Exit


def _complete_checkpoint(begun: str) -> list[str]:
    """What a checkpoint's name may go on to, for the shell: official variants and files.

    A shell offers files of its own accord only where nothing else is offered.
    """
    paths = glob.glob(f"{glob.escape(begun)}*")  # noqa: PTH207 - Path drops "./", which was typed
    variants = [variant for variant in VARIANTS if variant.startswith(begun)]
    return variants + sorted(path + "/" * Path(path).is_dir() for path in paths)


CheckpointOrVariant = Annotated[
    str,
    typer.Argument(
        metavar="CHECKPOINT", help="A file, folder or official variant.", autocompletion=_complete_checkpoint
    ),
]
Version = Annotated[
    bool, typer.Option("--version", help="Show the version, and leave.", is_eager=True, callback=_show_version)
]
LinearHeadEntry = Annotated[
    str | None, typer.Option("--linear-head-entry", help="Of several in that file, one.", hidden=True)
]
DepthHead = Annotated[Path | None, typer.Option("--depth-head", help="DINOv2's depth head file.", hidden=True)]
Kind = Annotated[str | None, typer.Option("--as", help="Of DINOv2: model, or backbone for features.", hidden=True)]
Report = Annotated[Path | None, typer.Option("--report", help="A page about it, as report.html.")]
RareReport = Annotated[Path | None, typer.Option("--report", help="A page about it, as report.html.", hidden=True)]
SaveDtype = Annotated[str | None, typer.Option("--save-dtype", help="Round the original's weights.", hidden=True)]
Thorough = Annotated[bool, typer.Option("--thorough", help="Every attention on every input.", hidden=True)]
Machine = Annotated[bool, typer.Option("--json", help="Answer in JSON, for programs.")]


@contextmanager
def plain_errors() -> Iterator[None]:
    """Say what could not be done, once, without a traceback."""
    try:
        yield
    except ConversionError as error:
        _refuse(str(error))
    except OSError as error:
        _refuse(f"{error.filename or ''}: {error.strerror or error}".removeprefix(": "))


@contextmanager
def plain_warnings() -> Iterator[None]:
    """Say what a user should know as it is found, once, on the error stream, without a line of source code."""
    said = set[str]()
    with warnings.catch_warnings():
        warnings.simplefilter("always", ConversionWarning)
        show_others = warnings.showwarning

        def show(message: Warning | str, category: type[Warning], *where: Any, **options: Any) -> None:
            if not issubclass(category, ConversionWarning):
                show_others(message, category, *where, **options)
            elif str(message) not in said:
                said.add(str(message))
                typer.echo("\n".join(fold(f"warning: {message}")), err=True)

        warnings.showwarning = show
        yield


def _refuse(message: str) -> NoReturn:
    for line in (message, *annotate_error(message)):
        typer.echo(line, err=True)
    raise typer.Exit(NOT_DONE) from None


def leave(is_same: bool, unwritten: str) -> NoReturn:
    """End a command with its answer; say why what else was asked for is not there, if it is not."""
    if unwritten:
        _refuse(unwritten)
    raise typer.Exit(SAME if is_same else NOT_THE_SAME)


def tell_github(variant: str, cells: Iterable[Any], otherwise: Iterable[Any], message: str, **others: str) -> None:
    """Have GitHub Actions show an answer, where that runs the command.

    Annotations go to the error stream, since JSON goes to the other. The arguments are those of ``list_rows``.
    """
    if is_listening():
        from conversion.suite.github import report
        from conversion.suite.job_summary import list_rows

        for line in report(list_rows(variant, cells, otherwise, message, **others)):
            typer.echo(line, err=True)


def with_settings(command: Callable[..., None]) -> Callable[..., None]:
    """Give a command an option for each setting that a checkpoint cannot tell; they come as ``settings``."""
    helps = {name: setting.help for name, setting in list_settings().items() if setting.is_option}
    added = [
        _describe_option(
            name, str | None, None, typer.Option(option_of(name), help=_as_sentence(said), hidden=name != SHOWN)
        )
        for name, said in helps.items()
    ]

    def call(**arguments: Any) -> None:
        given = {name: arguments.pop(name) for name in helps}
        settings = {name: _parse(name, text) for name, text in given.items() if text is not None}
        command(**arguments, settings=settings)

    return _present(call, command, added, without="settings")


def with_help_all(command: Callable[..., None]) -> Callable[..., None]:
    """Give a command whose help does not show all of its options an option that does."""
    help_all = typer.Option(
        "--help-all", help="Show the rarer options, too.", is_eager=True, callback=_show_all_options
    )

    def call(**arguments: Any) -> None:
        del arguments["help_all"]
        command(**arguments)

    return _present(call, command, [_describe_option("help_all", bool, False, help_all)])


def _show_all_options(context: typer.Context, is_asked_for: bool) -> None:
    if is_asked_for:
        for parameter in context.command.params:
            parameter.hidden = False  # type: ignore[attr-defined]
        typer.echo(context.get_help())
        raise typer.Exit


def _as_sentence(said: str) -> str:
    return f"{said[0].upper()}{said[1:]}."


def _describe_option(name: str, kind: Any, default: Any, option: Any) -> inspect.Parameter:
    annotation = Annotated[kind, option]
    return inspect.Parameter(name, inspect.Parameter.KEYWORD_ONLY, default=default, annotation=annotation)


def _present(
    call: Callable[..., None], command: Callable[..., None], added: Iterable[inspect.Parameter], without: str = ""
) -> Callable[..., None]:
    """What is called in a command's place, with more parameters and without one."""
    parameters = inspect.signature(command).parameters.values()
    own = [each.replace(kind=inspect.Parameter.KEYWORD_ONLY) for each in parameters if each.name != without]
    call.__signature__ = inspect.Signature([*own, *added])  # type: ignore[attr-defined]
    call.__annotations__ = {parameter.name: parameter.annotation for parameter in (*own, *added)}
    call.__name__, call.__doc__ = command.__name__, command.__doc__
    return call


def parse_each(option: str, parse: Callable[[str], Any], texts: Iterable[str] | None) -> tuple[Any, ...]:
    """The values of an option that may be given several times, each once."""
    try:
        return tuple(dict.fromkeys(map(parse, texts or ())))
    except ValueError as error:
        raise typer.BadParameter(str(error), param_hint=option) from None


def _parse(name: str, text: str) -> object:
    try:
        return list_settings()[name].parse(text)
    except (ValueError, TypeError, ConversionError) as error:
        raise typer.BadParameter(str(error), param_hint=option_of(name)) from None
