"""Writes the Triton repository of a release: what the server loads, and nothing else.

    <workload>/config.pbtxt
    <workload>/1/model.py  counts.py  events.py  explanation.py  preprocess.py  features.py  model.json  network.onnx

The first four are copies of the files beside this one; they run inside the server and import nothing else of this
project.
"""

import shutil
from collections.abc import Sequence
from pathlib import Path

from core.errors import UserError
from core.release import ModelSpec

MAX_BATCH = 8
"""Most images in one execution; measured best with no queue delay (a delay of 500 us cost 26 % at 8 clients)."""
TOP_K = 5
"""Labels in the output `labels`; fewer where the model has fewer."""
OWN_SOURCES = tuple(Path(__file__).with_name(f"{name}.py") for name in ("model", "counts", "events", "explanation"))
PREPROCESS = "preprocess.py"


def write(target: Path, spec: ModelSpec, network: Path, sources: Sequence[Path], instances: int = 2) -> None:
    """Write `<target>/<workload>/`.

    `network`: ONNX, input `images` float32 [n, 3, s, s], outputs `logits` [n, classes], `embedding` [n, d]
    and `activation` [n, h, w] in 0..1.
    `sources`: Python files that model.py imports: `preprocess.py`, and `features.py` for the image statistics of
    events. `instances`: processes of one inference
    thread each, best one a core. Raises UserError when there is no `preprocess.py`.
    """
    if PREPROCESS not in {source.name for source in sources}:
        raise UserError(f"a release needs a {PREPROCESS!r} among its sources; got {[s.name for s in sources]}")
    folder = target / spec.workload
    version = folder / "1"
    version.mkdir(parents=True)
    (folder / "config.pbtxt").write_text(configuration(spec, instances))
    (version / "model.json").write_text(spec.model_dump_json(indent=2) + "\n")
    shutil.copyfile(network, version / "network.onnx")
    for source in (*OWN_SOURCES, *sources):
        shutil.copyfile(source, version / source.name)


def configuration(spec: ModelSpec, instances: int) -> str:
    """The model's `config.pbtxt` (Triton's ModelConfig in protobuf text form).

    One of the inputs is given: `image` (jpg, png or webp) or `pixels` (RGB, of any size).
    """
    top = min(TOP_K, len(spec.labels))
    outputs = (
        ("label", "TYPE_STRING", 1),
        ("probability", "TYPE_FP32", 1),
        ("labels", "TYPE_STRING", top),
        ("probabilities", "TYPE_FP32", top),
        ("abstain", "TYPE_BOOL", 1),
        ("embedding", "TYPE_FP32", spec.embedding_size),
        ("release", "TYPE_STRING", 1),
        ("error", "TYPE_STRING", 1),
        ("explanation", "TYPE_STRING", 1),
    )
    listed = ",\n".join(f'  {{ name: "{name}" data_type: {kind} dims: [ {size} ] }}' for name, kind, size in outputs)
    return f"""name: "{spec.workload}"
backend: "python"
max_batch_size: {MAX_BATCH}
input [
  {{ name: "image" data_type: TYPE_STRING dims: [ 1 ] optional: true }},
  {{ name: "pixels" data_type: TYPE_UINT8 dims: [ -1, -1, 3 ] optional: true allow_ragged_batch: true }}
]
output [
{listed}
]
dynamic_batching {{ max_queue_delay_microseconds: 0 }}
instance_group [ {{ kind: KIND_CPU count: {instances} }} ]
"""
