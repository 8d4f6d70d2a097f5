"""Groups of the command line, one file each; `titrate/cli.py` puts them together."""
