import importlib.util

import numpy as np
import onnx
import onnxruntime
import pytest
import torch
from safetensors.torch import load_file, save_file

from components.export.choice import NETWORK
from components.export.export import REPORT, REPOSITORY, SPEC, ExportReport, export
from components.export.network import OUTPUTS, Runtime, write_onnx
from core import reference
from core.dataset import Dataset
from core.errors import PermanentError
from core.objects import Store
from core.reference import Reference
from core.release import ModelSpec
from workloads.contract import load
from workloads.pills import loader, preprocess


@pytest.fixture
def store(trained):
    return Store(str(trained / "objects"))


@pytest.fixture
def inputs(trained, config, store):
    """float32 [n, 3, 32, 32]: the test side as the server would see it."""
    dataset = Dataset.read(trained / "data")
    batches = loader.images(dataset.of("test"), config, dataset.info, store)
    return preprocess.normalise(np.concatenate(list(batches)))


def answers(trained, config, inputs):
    """What torch says: logits, embedding, activation."""
    info = Dataset.read(trained / "data").info
    network = load("pills").model.build(config, info)
    network.load_state_dict(load_file(trained / "trained" / "model.safetensors"))
    with torch.no_grad():
        return [output.numpy() for output in load("pills").export.served(network)(torch.from_numpy(inputs))]


def test_an_int8_network_that_agrees_is_what_serves(exported):
    report = ExportReport.from_file(exported / REPORT)
    assert report.precision.chosen == "int8"
    assert report.precision.agreement >= 0.995
    assert report.precision.rows == 48
    assert report.precision.int8_bytes < report.precision.fp32_bytes / 3
    assert report.precision.warning == ""
    assert report.torch_difference <= 1e-4
    kinds = {node.op_type for node in onnx.load(exported / NETWORK).graph.node}
    assert {"QuantizeLinear", "DequantizeLinear", "Conv"} <= kinds


def test_the_exported_network_answers_like_torch(exported, trained, config, inputs):
    expected, *_ = answers(trained, config, inputs)
    logits, embedding = Runtime(exported / NETWORK, 32)(inputs[:8])
    assert (logits.argmax(axis=1) == expected[:8].argmax(axis=1)).all()
    assert embedding.shape == (8, 512)


def test_the_file_says_nothing_of_the_machine_that_wrote_it(exported):
    content = (exported / NETWORK).read_bytes()
    assert b"site-packages" not in content
    assert b"workloads" not in content


def test_int8_that_disagrees_is_not_used_and_the_card_is_told(trained, config, store, tmp_path):
    """An untrained network has no margin between its labels, so int8 cannot agree with fp32."""
    torch.manual_seed(0)
    info = Dataset.read(trained / "data").info
    network = load("pills").model.build(config, info)
    (tmp_path / "random").mkdir()
    save_file({k: v.contiguous() for k, v in network.state_dict().items()}, tmp_path / "random" / "model.safetensors")
    report = export(trained / "data", tmp_path / "random", config, store, tmp_path / "out")
    assert report.precision.chosen == "fp32"
    assert report.precision.agreement < 0.995
    assert "int8 gave the label of fp32 on" in report.precision.warning
    assert ModelSpec.from_file(tmp_path / "out" / SPEC).precision == "fp32"
    expected = answers_of(network, trained, config, store)
    session = onnxruntime.InferenceSession(tmp_path / "out" / NETWORK, providers=["CPUExecutionProvider"])
    found = session.run(list(OUTPUTS), {"images": expected[0]})
    for one, other in zip(found, expected[1], strict=True):
        assert np.abs(one - other).max() <= 1e-4


def answers_of(network, trained, config, store):
    dataset = Dataset.read(trained / "data")
    batch = next(loader.images(dataset.of("test"), config, dataset.info, store))
    inputs = preprocess.normalise(batch[:5])
    with torch.no_grad():
        return inputs, [output.numpy() for output in load("pills").export.served(network)(torch.from_numpy(inputs))]


def test_a_network_that_onnx_changes_is_refused(tmp_path):
    class Drifting(torch.nn.Module):
        """Differs between the export and the comparison."""

        def __init__(self):
            super().__init__()
            self.calls = 0

        def forward(self, images):
            self.calls += 1
            mean = images.mean(dim=(2, 3)) + (0.0 if torch.compiler.is_compiling() else 0.01)
            return mean, mean, images.mean(dim=1)

    with pytest.raises(PermanentError, match=r"differs from torch by 0\.01"):
        write_onnx(Drifting().eval(), torch.randn(4, 3, 16, 16), 18, tmp_path / "n.onnx")


def test_the_release_preprocesses_exactly_as_training_did(exported, trained, config, store, tmp_path):
    path = exported / REPOSITORY / "pills" / "1" / "preprocess.py"
    spec = importlib.util.spec_from_file_location("of_the_release", path)
    released = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(released)
    dataset = Dataset.read(trained / "data")
    source = loader.open_source(dataset, config, store, tmp_path)
    selection, _ = loader.parts(dataset.of("validation"), config.export.calibration_share)
    served = [released.normalise(released.decode(store.blob(s.sha256), 32)[None]) for s in selection]
    learned = torch.cat([images for images, _ in source.selection(0, 1)])
    assert np.array_equal(learned.numpy(), np.concatenate(served))


def test_the_reference_is_the_calibration_part_and_can_be_made_again(exported, trained, config, store):
    dataset = Dataset.read(trained / "data")
    described = Reference.from_file(exported / "reference" / "reference.json")
    samples = {sample.id: sample for sample in dataset.of("validation")}
    _, calibration = loader.parts(samples.values(), config.export.calibration_share)
    assert sorted(described.samples) == sorted(s.id for s in calibration)
    assert described.dataset == dataset.info.digest
    images = np.concatenate(list(loader.images([samples[n] for n in described.samples], config, dataset.info, store)))
    logits, embeddings = Runtime(exported / NETWORK, 32).over(images, preprocess.normalise)
    folder = exported / "reference"
    assert np.array_equal(np.load(folder / reference.EMBEDDINGS, allow_pickle=False), embeddings)
    assert np.array_equal(np.load(folder / reference.PREDICTIONS, allow_pickle=False), logits.argmax(axis=1))
    statistics = np.stack([load("pills").features.statistics(image) for image in images])
    assert np.array_equal(np.load(folder / reference.STATISTICS, allow_pickle=False), statistics)
    assert len(described.statistics) == statistics.shape[1]


def test_a_synthetic_dataset_makes_a_synthetic_model(exported):
    spec = ModelSpec.from_file(exported / SPEC)
    assert (spec.synthetic, spec.image_size, spec.embedding_size) == (False, 32, 512)
    assert spec.labels == ["azure", "brick", "cobalt"]
    assert ModelSpec.from_file(exported / REPOSITORY / "pills" / "1" / "model.json") == spec


def test_weights_that_do_not_fit_are_refused(trained, config, store, tmp_path):
    other = config.model_copy(update={"model": config.model.model_copy(update={"stem_stride": 2})})
    with pytest.raises(PermanentError, match="does not fit its configuration"):
        export(trained / "data", trained / "trained", other, store, tmp_path / "out")
    assert not (tmp_path / "out").exists()
