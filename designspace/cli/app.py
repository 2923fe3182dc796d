"""The `designspace` command: its parts, and how errors become exit codes.

Everything heavy is imported inside the commands, so that `--help` answers at once.
"""

from __future__ import annotations

import signal
import sys
from collections.abc import Callable
from typing import Annotated, Any

import typer
from typer.core import TyperGroup

from designspace.cli import (
    calibrate_command,
    check_commands,
    doctor_commands,
    import_command,
    look_up_commands,
    measuring_commands,
    results_commands,
    status_command,
    study_commands,
    sweep_commands,
    trace_command,
    view_command,
)
from designspace.cli.examples import EXAMPLES
from designspace.cli.exit_codes import EXIT_ERROR, EXIT_INTERRUPTED, EXIT_MISMATCH, EXIT_USAGE
from designspace.cli.hidden_package import hidden_package
from designspace.errors import DesignspaceError, RegistrationMismatch, missing_extra
from designspace.version import __version__

# In the order in which `--help` lists them.
_COMMANDS: dict[str, Callable[..., None]] = {
    "run": sweep_commands.run,
    "plan": sweep_commands.plan,
    "status": status_command.status,
    "report": sweep_commands.report,
    "query": results_commands.query,
    "export": results_commands.export,
    "effects": sweep_commands.effects,
    "view": view_command.view,
    "trace": trace_command.trace,
    "doctor": doctor_commands.doctor,
    "list": look_up_commands.list_,
    "show": look_up_commands.show,
    "import": import_command.import_,
    "check": check_commands.check,
    "calibrate": calibrate_command.calibrate,
    "bench": measuring_commands.bench,
    "grade-cases": measuring_commands.grade_cases,
    "register": study_commands.register,
    "amend": study_commands.amend,
    "tune": study_commands.tune,
    "confirm": study_commands.confirm,
    "verify": study_commands.verify,
}


_GROUPS: dict[str, tuple[str, ...]] = {
    "Sweeps": ("plan", "run", "status"),
    "Results": ("report", "view", "trace", "query", "export", "effects", "doctor"),
    "Studies": ("register", "tune", "confirm", "verify", "amend"),
    "Models and mechanisms": ("list", "show", "import", "check", "calibrate", "bench", "grade-cases"),
}


_LONGEST_HELP = 300  # characters of the first sentence of a command's help; all of it, that is


class _Group(TyperGroup):
    """Lists the commands by what they are about, and turns errors raised on purpose into one message and an exit code.

    Any other error keeps its traceback.
    """

    def format_commands(self, ctx: Any, formatter: Any) -> None:
        """Write the commands group by group, each with the first sentence of its help."""
        width = max(map(len, self.commands))
        for title, names in _GROUPS.items():
            rows = [(name.ljust(width), self.commands[name].get_short_help_str(_LONGEST_HELP)) for name in names]
            with formatter.section(title):
                formatter.write_dl(rows)

    def invoke(self, ctx: Any) -> Any:
        try:
            return super().invoke(ctx)
        except RegistrationMismatch as error:
            typer.echo(f"error: {error}", err=True)
            ctx.exit(EXIT_MISMATCH)
        except DesignspaceError as error:
            typer.echo(f"error: {error}", err=True)
            ctx.exit(EXIT_USAGE if isinstance(error, ValueError) else EXIT_ERROR)
        except ModuleNotFoundError as error:
            missing = missing_extra(error) or hidden_package(error)
            if missing is None:
                raise
            typer.echo(f"error: {missing}", err=True)
            ctx.exit(EXIT_USAGE)
        except KeyboardInterrupt as error:
            typer.echo("stopped; what is committed stays, and the same command goes on from there", err=True)
            ctx.exit(getattr(error, "exit_code", EXIT_INTERRUPTED))


app = typer.Typer(
    name="designspace",
    cls=_Group,
    help="Which design choice of KV-cache compression matters at a small budget, and is the gain real?",
    epilog="Exit codes: 0 done, 1 could not be done, 2 wrong input, 3 not as registered, 4 incomplete, 130 Ctrl-C.",
    no_args_is_help=True,
    add_completion=True,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
)


def _print_version(wanted: bool) -> None:
    if wanted:
        typer.echo(__version__)
        raise typer.Exit


@app.callback()
def _options(
    version: Annotated[
        bool, typer.Option("--version", callback=_print_version, is_eager=True, help="Print the version.")
    ] = False,
) -> None:
    """Take the options that come before a command."""


for _name, _command in _COMMANDS.items():
    app.command(_name, epilog=f"Example: {EXAMPLES[_name]}")(_command)


def main() -> None:
    """Run the command line. Whoever presses Ctrl-C more than once gets the exit code of once."""
    try:
        sys.exit(app())
    except (KeyboardInterrupt, SystemExit) as end:
        code = getattr(end, "code", EXIT_INTERRUPTED)
        if code == EXIT_INTERRUPTED:
            # Nothing is left to stop, and a signal while the interpreter winds up would be a death by signal.
            signal.signal(signal.SIGINT, signal.SIG_IGN)
        sys.exit(code)
