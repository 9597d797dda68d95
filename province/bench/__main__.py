"""`python -m province.bench`."""

from province.bench.main import main

main()
