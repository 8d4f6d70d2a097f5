"""Anytime-valid evidence: e-processes, confidence sequences and e-detectors. Pure: no clock, no file, no client.

Start with `bernoulli` (one likelihood ratio), then `two_sample` (its product over looks), then `judge` (many metrics).
"""
