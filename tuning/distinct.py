"""A search that never proposes values twice: a training with the same values and seed gives the same score again."""

from collections.abc import Iterable
from typing import Any

from ray.tune.search import Searcher

from core.config import canonical_json

ATTEMPTS = 100
"""In which nothing new was proposed: then all has been tried, as far as the search can tell."""


class Distinct(Searcher):  # type: ignore[misc] # ray has no annotations here
    """Hands through another search's proposals, and has it propose again where the values are known."""

    def __init__(self, search: Searcher, known: Iterable[dict[str, Any]]) -> None:
        super().__init__(metric=search.metric, mode=search.mode)
        self._search = search
        self._known = {canonical_json(values) for values in known}
        self._names: dict[str, str] = {}

    def set_search_properties(self, metric: Any, mode: Any, config: dict[str, Any], **spec: Any) -> bool:
        """The space is the other search's."""
        return not config

    def suggest(self, trial_id: str) -> Any:
        """New values, or that there are none."""
        for attempt in range(ATTEMPTS):
            name = f"{trial_id}-{attempt}"
            values = self._search.suggest(name)
            key = canonical_json(values)
            if key not in self._known:
                self._known.add(key)
                self._names[trial_id] = name
                return values
            self._search.on_trial_complete(name, error=True)
        return Searcher.FINISHED

    def on_trial_result(self, trial_id: str, result: dict[str, Any]) -> None:
        """Hand it through."""
        self._search.on_trial_result(self._names[trial_id], result)

    def on_trial_complete(self, trial_id: str, result: dict[str, Any] | None = None, error: bool = False) -> None:
        """Hand it through."""
        self._search.on_trial_complete(self._names[trial_id], result, error)

    def save(self, checkpoint_path: str) -> None:
        """Ray keeps it for a Tuner.restore that is not used here: nothing to keep."""

    def restore(self, checkpoint_path: str) -> None:
        """As `save`."""
