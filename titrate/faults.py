"""Releases that are broken on purpose, for the demo and for tests: failure is something to be watched, not believed.

A faulty release is another release: a copy whose model does one thing more, sealed and signed like any other. So there
is no switch in what serves, and nothing that could be left on.
"""

import json
import shutil
import tempfile
from pathlib import Path

from core.errors import UserError, nearest
from core.files import write_atomic
from core.objects import Store
from core.release import FILES, SIGNATURE, ModelSpec, seal

CHECKED = 100
"""Requests of one model process before its fault begins: more than the checks before the first traffic send."""
SLOWER_SECONDS = 0.3
FAILING_EVERY = 33
"""One request of so many gets a server error: 3 %."""
COUNTED = """
    count = 0

    def execute(self, requests):
        TritonPythonModel.count += len(requests)
"""
CODE = {
    "slow": f"""
        if TritonPythonModel.count > {CHECKED}:
            time.sleep({SLOWER_SECONDS})
        return super().execute(requests)
""",
    "failing": f"""
        answers = super().execute(requests)
        for number in range(len(requests)):
            at = TritonPythonModel.count - number
            if at > {CHECKED} and at % {FAILING_EVERY} == 0:
                error = pb_utils.TritonError("broken on purpose", pb_utils.TritonError.INTERNAL)
                answers[number] = pb_utils.InferenceResponse([], error)
        return answers
""",
    "crashing": f"""
        if TritonPythonModel.count > {CHECKED}:
            os._exit(1)
        return super().execute(requests)
""",
}
FAULTS = {
    "none": "the same model under another name",
    "wrong": "the answers for two classes are exchanged",
    "slow": f"every answer takes {SLOWER_SECONDS:g} s longer",
    "failing": f"one request of {FAILING_EVERY} gets a server error",
    "crashing": f"the model ends after {CHECKED} requests, again and again",
}


def require(fault: str) -> None:
    """Raise UserError for an unknown fault."""
    if fault not in FAULTS:
        raise UserError(f"no fault {fault!r}; {nearest(fault, FAULTS)}")


def faulty(release: Path, fault: str, store: Store, private_key: Path, note: str = "") -> str:
    """Publish a copy of a release with one of FAULTS; returns its digest. `note` makes copies differ.

    Raises UserError for an unknown fault.
    """
    require(fault)
    with tempfile.TemporaryDirectory() as scratch:
        folder = Path(scratch) / "release"
        shutil.copytree(release, folder, ignore=shutil.ignore_patterns(FILES, SIGNATURE))
        write_atomic(folder / "fault.json", json.dumps({"fault": fault, "is": FAULTS[fault], "note": note}))
        for model in folder.glob("*/1/model.py"):
            _break(model, fault)
        digest = seal(folder, private_key)
        store.publish(folder, f"releases/{digest}")
    return digest


def _break(model: Path, fault: str) -> None:
    if fault == "wrong":
        file = model.with_name("model.json")
        spec = ModelSpec.from_file(file)
        first, second, *rest = spec.labels
        write_atomic(file, spec.model_copy(update={"labels": [second, first, *rest]}).model_dump_json())
    elif fault in CODE:
        code = (COUNTED + CODE[fault]).replace("\n\n", "\n").strip("\n")
        model.write_text(f"{model.read_text()}\n\nclass TritonPythonModel(TritonPythonModel):\n{code}\n")
