"""All tests; a package, so that the conformance suite can be run as `python -m tests.conformance`."""
