"""`python -m mtlbench` is `mtlbench`."""

from mtlbench.cli.main import main

main()
