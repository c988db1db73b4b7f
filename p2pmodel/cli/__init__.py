"""The command line: a file a command, each imported when it is used.

Results go to stdout, everything else to stderr. Commands ask the local daemon over HTTP (``local_daemon``) and so need
neither trio nor any room; ``outcome`` says which failure ends with which exit code. Only ``serve``, ``demo`` and a ``fetch``
without a daemon build the house in this process.
"""

from __future__ import annotations

from collections.abc import Sequence
from importlib import import_module

import click

from p2pmodel import __version__
from p2pmodel.cli import outcome

#: Told here, so that `--help` imports none of them.
_COMMANDS = {
    "serve": "Run the daemon in the foreground.",
    "fetch": "Bring a model or dataset here.",
    "list": "Show what is held here.",
    "info": "Show what is held of a repo, here and in the cluster.",
    "status": "Show this node, who can join, and its transfers.",
    "peers": "Show who is there.",
    "warm": "Have other nodes bring a model in.",
    "why": "Show where each chunk came from, and why a hub was asked.",
    "push": "Upload a folder to a hub, and share it.",
    "adopt": "Take existing caches of hub clients into the store.",
    "pin": "Keep a model when room is made.",
    "unpin": "Let a pinned model go when room is made.",
    "rm": "Remove a model from this node.",
    "gc": "Make room.",
    "verify": "Hash what is stored again, and mend it.",
    "doctor": "Check what this node needs, and say what to do.",
    "limits": "Show or change rate limits.",
    "plan": "Tell what a cluster will need, by simulation.",
    "cluster": "Make or join a closed cluster.",
    "env": 'Print settings for clients: eval "$(p2pmodel env)".',
    "config": "Show the settings in force.",
    "demo": "Show a whole cluster on this machine.",
}


class _Commands(click.Group):
    def list_commands(self, ctx: click.Context) -> list[str]:
        del ctx
        return [*_COMMANDS]  # `list` is a command here, once it has been imported

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        del ctx
        if cmd_name not in _COMMANDS:
            return None
        command: click.Command = import_module(f"p2pmodel.cli.{cmd_name}").command
        return command

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        del ctx
        with formatter.section("Commands"):
            formatter.write_dl([*_COMMANDS.items()])


@click.group(cls=_Commands, context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100})
@click.version_option(__version__, message="%(prog)s %(version)s")
def p2pmodel() -> None:
    """Brings models to every node of a LAN while the hub sends them once.

    Start a daemon with `p2pmodel serve` on each node; then `p2pmodel fetch org/model`, or point your programs at it:
    eval "$(p2pmodel env)".
    """


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one command; returns its exit code. Nothing but a bug that somebody debugs leaves as an exception."""
    try:
        code = p2pmodel.main(args=arguments, prog_name="p2pmodel", standalone_mode=False)
    except BaseException as error:  # noqa: BLE001  # the last door: whatever comes is told in one sentence
        return outcome.report(error)
    return code if isinstance(code, int) else outcome.DONE
