"""`python -m vlmtools` is the command line."""

from vlmtools.cli import main

main()
