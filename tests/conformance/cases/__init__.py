"""The cases, one module per part of the protocol."""
