"""Rollouts on the laptop: what the reconciler's ports are here, the process that reconciles, and what commands call."""
