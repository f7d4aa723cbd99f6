"""`python -m cubekit.cli`."""

from cubekit.cli import main

main()
