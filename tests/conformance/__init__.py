"""Black-box conformance suite of the Open Inference Protocol V2, REST and gRPC: `python -m tests.conformance URL`."""
