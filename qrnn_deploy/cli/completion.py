"""``qrnn-deploy completion``: what a shell needs to complete commands and options."""

from __future__ import annotations

import click
from click.shell_completion import get_completion_class

SHELLS = ("bash", "zsh", "fish")


@click.command()
@click.argument("shell", type=click.Choice(SHELLS))
@click.pass_context
def completion(context: click.Context, shell: str) -> None:
    """Print the completion script for SHELL.

    \b
    bash:  qrnn-deploy completion bash > ~/.local/share/bash-completion/completions/qrnn-deploy
    zsh:   qrnn-deploy completion zsh > "${fpath[1]}/_qrnn-deploy"
    fish:  qrnn-deploy completion fish > ~/.config/fish/completions/qrnn-deploy.fish
    """
    root = context.find_root()
    completer = get_completion_class(shell)
    assert completer is not None, f"click knows no shell {shell!r}"
    click.echo(
        completer(root.command, {}, "qrnn-deploy", "_QRNN_DEPLOY_COMPLETE").source(), nl=False
    )
