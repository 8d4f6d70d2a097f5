"""Contracts that every floor shares. Nothing in here starts an engine: no kfp, ray, kubernetes, mlflow or torch."""
