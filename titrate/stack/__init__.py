"""The laptop stack: Triton, Envoy and MLflow as supervised processes of one home."""
