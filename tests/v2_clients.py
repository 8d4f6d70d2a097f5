"""The clients that people have, each asking the same of one image: name of a client -> output -> values in order.

kserve and tritonclient.grpc register the same protocol files: kserve's client runs this module as its own process.
"""

import asyncio
import contextlib
import json
import subprocess
import sys
from pathlib import Path

import numpy as np

OUTPUTS = ("label", "probability", "labels", "probabilities", "abstain", "release")


def tensor_of(module, image):
    """The input `image` for tritonclient.http or tritonclient.grpc."""
    tensor = module.InferInput("image", [1, 1], "BYTES")
    tensor.set_data_from_numpy(np.array([[image]], dtype=object))
    return tensor


def of_tritonclient(module, address, image):
    """REST or gRPC, through whatever listens at `host:port`."""
    with contextlib.closing(module.InferenceServerClient(address)) as client:
        asked = [module.InferRequestedOutput(name) for name in OUTPUTS]
        answer = client.infer("pills", [tensor_of(module, image)], outputs=asked)
        return {name: _texts(answer.as_numpy(name)) for name in OUTPUTS}


def of_shared_memory(module, address, image):
    """Image and probability pass through system shared memory; Triton's own port alone takes such requests."""
    import tritonclient.utils.shared_memory as shm
    from tritonclient.utils import serialize_byte_tensor

    content = serialize_byte_tensor(np.array([[image]], dtype=object))
    size = len(content.item())
    given = shm.create_shared_memory_region("given", f"titrate-test-given-{id(content)}", size)
    taken = shm.create_shared_memory_region("taken", f"titrate-test-taken-{id(content)}", 4)
    with contextlib.closing(module.InferenceServerClient(address)) as client:
        try:
            shm.set_shared_memory_region(given, [content])
            client.register_system_shared_memory("given", given._shm_key, size)
            client.register_system_shared_memory("taken", taken._shm_key, 4)
            tensor = module.InferInput("image", [1, 1], "BYTES")
            tensor.set_shared_memory("given", size)
            probability = module.InferRequestedOutput("probability")
            probability.set_shared_memory("taken", 4)
            others = [module.InferRequestedOutput(name) for name in OUTPUTS if name != "probability"]
            answer = client.infer("pills", [tensor], outputs=[probability, *others])
            found = {name: _texts(answer.as_numpy(name)) for name in OUTPUTS if name != "probability"}
            return found | {"probability": shm.get_contents_as_numpy(taken, np.float32, [1]).tolist()}
        finally:
            client.unregister_system_shared_memory()
            shm.destroy_shared_memory_region(given)
            shm.destroy_shared_memory_region(taken)


def of_sdk(client, image):
    """The project's own client (either transport)."""
    answer = client.predict(image)
    labels, probabilities = zip(*answer.top, strict=True)
    return {
        "label": [answer.label],
        "probability": [answer.probability],
        "labels": list(labels),
        "probabilities": list(probabilities),
        "abstain": [answer.abstain],
        "release": [answer.release],
    }


def of_kserve(url, path):
    """kserve.InferenceRESTClient on the image file `path`."""
    line = [sys.executable, "-m", "tests.v2_clients", url, str(path)]
    done = subprocess.run(line, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout.splitlines()[-1])


def _texts(values):
    return [value.decode() if isinstance(value, bytes) else value for value in values.ravel().tolist()]


async def _kserve(url, path):
    from kserve import InferenceRESTClient, InferInput, InferRequest, RESTConfig

    tensor = InferInput("image", [1, 1], "BYTES")
    tensor.set_data_from_numpy(np.array([[Path(path).read_bytes()]], dtype=object))
    client = InferenceRESTClient(RESTConfig(protocol="v2"))
    answer = await client.infer(url, InferRequest("pills", [tensor]), model_name="pills")
    await client.close()
    return {output.name: _texts(output.as_numpy()) for output in answer.outputs if output.name in OUTPUTS}


if __name__ == "__main__":
    print(json.dumps(asyncio.run(_kserve(*sys.argv[1:]))))
