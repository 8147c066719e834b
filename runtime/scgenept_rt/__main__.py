"""`python -m scgenept_rt` is the command `scgenept-rt`."""

from scgenept_rt.cli import main

main()
