"""`python -m oo_daemon` is `oo`, for where the script is not on the path."""

from oo_daemon.cli import main

main()
