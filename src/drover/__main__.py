"""`python -m drover` is the command `drover`."""

from drover.cli.main import main

main()
