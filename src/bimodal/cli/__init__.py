"""The command line: `bimodal`. Each command parses, calls the library and prints; what it does lives in the library."""

from __future__ import annotations

import signal
import sys
import traceback
from collections.abc import Callable
from typing import Any, cast

import msgspec
import typer

from bimodal import __version__
from bimodal.errors import BimodalError, MissingLibrary, TooManyRejects, UsageError, told
from bimodal.formats.library import library

HELP = """One trained model, predicted in batch or served in real time, with one answer.

\b
    bimodal demo                                        see both modes on a small model, nothing to prepare
    bimodal predict my_model.pkl batch_input.csv -o predicted_output.csv
    bimodal serve my_model.pkl --port 5000
    bimodal inspect my_model.pkl                        what it takes and gives
    bimodal pack my_model.pkl --sample batch_input.csv  the model with its proof, in one folder
    bimodal verify my_model.pkl --sample batch_input.csv
    bimodal compare old.pkl new.pkl labelled.csv        what changes when one takes the other's place
    bimodal advise my_model.pkl --sample batch_input.csv  which mode fits: real time, batch or both
    bimodal runs list                                   the batch runs so far
    bimodal up                                          the models and the jobs of a bimodal.toml, served and run
    bimodal jobs list                                   its jobs: when each is due, and how its latest run ended
    bimodal keys add shop                               an API key: the server then asks its callers for one
    bimodal init my_model.pkl                           a bimodal.toml for it; bimodal config verify checks one
"""

# Typer brings its own copy of click along, or uses the installed one: whichever it is, this is its base class.
CommandLineError: type[Any] = next(kind for kind in typer.BadParameter.__mro__ if kind.__name__ == "ClickException")
FAILED, USAGE, REJECTS, INTERRUPTED = 1, 2, 3, 130

COMMANDS = (
    "predict", "serve", "inspect", "pack", "verify", "compare", "advise", "runs", "jobs", "up", "config",
    "keys", "demo", "init",
)  # fmt: skip


def build(wanted: str | None) -> typer.Typer:
    """The application with the command that is wanted, or with all (for help): each brings its own libraries along."""
    app = typer.Typer(help=HELP, no_args_is_help=True, rich_markup_mode=None, pretty_exceptions_enable=False)
    for name, made in [(wanted, command(wanted))] if wanted in COMMANDS else [(each, shown(each)) for each in COMMANDS]:
        if isinstance(made, typer.Typer):  # a command that has commands of its own
            app.add_typer(made, name=name)
        else:
            app.command(name)(made)
    app.callback(invoke_without_command=True)(version)
    return app


Command = Callable[..., None] | typer.Typer


def command(name: str) -> Command:
    """The function of a command. Raises MissingLibrary where one that it needs is not installed."""
    return cast(Command, getattr(library(f"bimodal.cli.{name}"), name))


def shown(name: str) -> Command:
    """The same for the list of commands, where it also stands without its library."""
    try:
        return command(name)
    except MissingLibrary as error:
        absent: Callable[..., None] = lambda: None  # noqa: E731 - it is never called, only told of
        absent.__doc__ = f"{error}."
        return absent


def version(show: bool = typer.Option(False, "--version", help="Print the version and leave.")) -> None:
    """What stands before any command."""
    if show:
        print(__version__)
        raise typer.Exit


def main(arguments: list[str] | None = None) -> int:
    """Run a command; the result is the exit code: 0 done, 1 failed, 2 wrong usage, 3 too many rejects, 130
    interrupted.
    """
    given = list(sys.argv[1:] if arguments is None else arguments)
    debug = "--debug" in given
    given = [each for each in given if each != "--debug"]
    signal.signal(signal.SIGTERM, signal.default_int_handler)  # ends a command as Ctrl-C does: cleaned up
    try:
        code = build(given[0] if given else None)(given, prog_name="bimodal", standalone_mode=False)
    except CommandLineError as error:
        error.show()
        return USAGE
    except (KeyboardInterrupt, typer.Abort):
        return interrupted(given)
    except BimodalError as error:
        if debug:
            traceback.print_exc()
        if "--json" in given:
            print(msgspec.json.encode({"event": "error", **told(error)}).decode(), flush=True)
        print(f"error: {error}", file=sys.stderr)
        return exit_code(error)
    except BrokenPipeError:
        sys.stderr.close()  # the reader of our output left, as `head` does; there is nobody to tell
        return 0
    if code == INTERRUPTED:  # what Typer makes of Ctrl-C
        return interrupted(given)
    return code if isinstance(code, int) else 0


def interrupted(given: list[str]) -> int:
    """Ctrl-C or SIGTERM ended the command."""
    if "--json" in given:
        print(
            msgspec.json.encode({"event": "error", "code": "interrupted", "message": "interrupted"}).decode(),
            flush=True,
        )
    print("interrupted", file=sys.stderr)
    return INTERRUPTED


def exit_code(error: BimodalError) -> int:
    if isinstance(error, TooManyRejects):
        return REJECTS
    return USAGE if isinstance(error, UsageError) else FAILED
