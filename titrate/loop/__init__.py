"""The loop that closes itself on the laptop: watch what serves, decide, train again, hand over to a rollout."""
