import pytest
import torch
from safetensors.torch import save_file

from core.dataset import DatasetInfo
from core.errors import UserError
from workloads.pills import export, model
from workloads.pills.recipes import recipes

SIDE = {"resnet18": 32, "resnet50": 32, "mobilenet_v3": 32, "vit_b16": 32}
INFO = DatasetInfo(
    workload="pills", digest="0", rows=8, classes={"a": 4, "b": 4}, image_size=32, synthetic=True, source="s"
)


def small(name, **changes):
    config = recipes()[name]()
    network = config.model.model_copy(update=changes)
    return config.model_copy(update={"image_size": SIDE[name], "model": network})


@pytest.mark.parametrize("name", SIDE)
def test_every_architecture_answers_and_shows_where_it_looked(name):
    network = model.build(small(name), INFO).eval()
    images = torch.randn(3, 3, 32, 32)
    with torch.no_grad():
        logits, embedding, activation = export.served(network)(images)
        assert torch.equal(network(images), logits)
        assert logits.shape == (3, 2)
        assert torch.allclose(embedding @ network.head.weight.T + network.head.bias, logits, atol=1e-5)
        assert activation.shape[0] == 3
        assert activation.ndim == 3
        assert 0 <= activation.min() <= activation.max() <= 1


def test_the_activation_is_the_evidence_for_the_likeliest_label():
    torch.manual_seed(0)
    network = model.build(small("resnet18"), INFO).eval()
    images = torch.randn(2, 3, 96, 96)
    with torch.no_grad():
        network.head.weight.abs_()  # random weights may find no evidence at all
        maps = network.backbone(images)
        logits, _, activation = export.served(network)(images)
        for image in range(2):
            weights = network.head.weight[logits[image].argmax()]
            evidence = torch.einsum("d,dhw->hw", weights, maps[image]).relu()
            assert torch.allclose(activation[image], evidence / evidence.max(), atol=1e-5)


def test_equal_seeds_give_equal_weights():
    found = []
    for _ in range(2):
        torch.manual_seed(3)
        found.append(model.build(small("resnet18"), INFO).state_dict())
    assert all(torch.equal(found[0][name], found[1][name]) for name in found[0])


@pytest.mark.parametrize(("stride", "side"), [(4, 1), (2, 2), (1, 4)])
def test_a_finer_stem_keeps_more_of_a_small_image(stride, side):
    network = model.build(small("resnet18", stem_stride=stride), INFO).eval()
    assert network.backbone(torch.randn(1, 3, 32, 32)).shape == (1, 512, side, side)


def test_the_short_way_through_maps_of_one_pixel_changes_no_number():
    plain = torch.nn.Conv2d(8, 8, 3, padding=1, bias=False)
    short = model.OnePixel.of(plain)
    found = []
    for layer in (plain, short.train(), short.eval()):
        images = torch.randn(5, 8, 1, 1, generator=torch.Generator().manual_seed(0)).requires_grad_()
        plain.weight.grad = None
        answer = layer(images)
        answer.square().sum().backward()
        found.append((answer, images.grad, plain.weight.grad.clone()))
    for other in found[1:]:
        for one, two in zip(found[0], other, strict=True):
            torch.testing.assert_close(one, two)


@pytest.mark.parametrize(("side", "shorter"), [(32, 3), (33, 0)])
def test_only_maps_of_one_pixel_go_the_short_way(side, shorter):
    config = small("resnet18").model_copy(update={"image_size": side})
    network = model.build(config, INFO)
    assert sum(isinstance(layer, model.OnePixel) for layer in network.modules()) == shorter
    assert network(torch.randn(2, 3, side, side)).shape == (2, 2)


@pytest.mark.parametrize("name", ["resnet18", "vit_b16"])
def test_weights_of_an_earlier_training_are_put_in_but_the_head_is_new(name, tmp_path):
    earlier = model.build(small(name), INFO)
    save_file({key: value.contiguous() for key, value in earlier.state_dict().items()}, tmp_path / "w.safetensors")
    network = model.build(small(name, weights=str(tmp_path / "w.safetensors")), INFO)
    assert all(
        torch.equal(a, b) for a, b in zip(earlier.backbone.parameters(), network.backbone.parameters(), strict=True)
    )
    assert not torch.equal(earlier.head.weight, network.head.weight)


def test_published_weights_of_another_size_get_their_positions_interpolated(tmp_path):
    earlier = model.build(small("vit_b16").model_copy(update={"image_size": 48}), INFO)
    torch.save(earlier.backbone.state_dict(), tmp_path / "vit.pth")
    network = model.build(small("vit_b16", weights=str(tmp_path / "vit.pth")), INFO)
    assert network.backbone.encoder.pos_embedding.shape[1] == 2 * 2 + 1


def test_weights_of_another_architecture_are_refused(tmp_path):
    earlier = model.build(small("resnet18"), INFO)
    save_file({key: value.contiguous() for key, value in earlier.state_dict().items()}, tmp_path / "w.safetensors")
    with pytest.raises(UserError, match="tensors of resnet50 are not in it, or have another shape"):
        model.build(small("resnet50", weights=str(tmp_path / "w.safetensors")), INFO)


def test_a_pickle_that_runs_code_is_not_loaded(tmp_path):
    class Evil:
        def __reduce__(self):
            return (print, ("ran",))

    torch.save({"x": Evil()}, tmp_path / "evil.pth")
    with pytest.raises(UserError, match="holds more than tensors"):
        model.build(small("resnet18", weights=str(tmp_path / "evil.pth")), INFO)


def test_missing_weights_are_named(tmp_path):
    with pytest.raises(UserError, match="no such file; give a path, 'torchvision' or 'none'"):
        model.build(small("resnet18", weights=str(tmp_path / "none.safetensors")), INFO)


def test_without_a_network_the_way_out_is_named(tmp_path, monkeypatch):
    monkeypatch.setenv("https_proxy", "http://127.0.0.1:9")  # the discard port: nothing listens
    monkeypatch.setenv("TORCH_HOME", str(tmp_path))
    with pytest.raises(UserError, match=r"resnet18.*cannot be reached.*give its path as model\.weights"):
        model.build(small("resnet18", weights="torchvision"), INFO)


def test_vit_names_a_size_that_it_can_take():
    with pytest.raises(UserError, match="image_size = 40: vit_b16 needs a multiple of 16, for example 48"):
        model.build(small("vit_b16").model_copy(update={"image_size": 40}), INFO)


def test_smoothing_bounds_the_reward_for_certainty():
    config = small("resnet18")
    sure, surer = torch.tensor([[9.0, -9.0]]), torch.tensor([[99.0, -99.0]])
    target = torch.tensor([0])
    assert model.loss(surer, target, config) > model.loss(sure, target, config)
