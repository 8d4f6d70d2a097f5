"""Rules, receivers and tables generated from `slo.yaml`; `make observability` writes them, tests compare them."""
