"""``python -m qrnn_deploy``: the command line."""

from .cli import main

main()
