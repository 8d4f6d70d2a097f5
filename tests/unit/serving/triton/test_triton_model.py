"""The model file of a release, outside Triton: the real network, a stand-in for the module that only the stub has."""

import io

import numpy as np
import pytest
from PIL import Image

from tests.colours import picture
from tests.unit.serving.triton.conftest import OUTPUTS as EVERYTHING

NEUTRAL = (124, 116, 104)
"""The mean that preprocessing subtracts: each label has a third, below the threshold of 0.5."""


def images(*contents):
    return np.array(contents, dtype=object)[:, None]


def pixels(*colours, size=32):
    return np.stack([np.full((size, size, 3), colour, np.uint8) for colour in colours])


def test_each_request_gets_its_own_rows_and_only_what_it_asks_for(model, ask):
    first = ask("image", images(picture("red"), picture("blue")), "label")
    second = ask("image", images(picture("lime")), *EVERYTHING)
    one, two = model.execute([first, second])
    assert one.values()["label"].tolist() == [[b"red"], [b"blue"]]
    assert set(one.values()) == {"label"}
    assert two.values()["label"].tolist() == [[b"green"]]
    assert two.values()["release"].tolist() == [[b"c0ffee"]]
    assert two.values()["error"].tolist() == [[b""]]
    assert set(two.values()) == set(EVERYTHING)


def test_probabilities_are_the_softmax_of_the_logits_best_first(model, ask):
    [answer] = model.execute([ask("image", images(picture((200, 100, 0))), *EVERYTHING)])
    found = answer.values()
    logits = found["embedding"][0] * 3.0  # the colour model: logits are three times the channel means
    expected = np.exp(logits) / np.exp(logits).sum()
    assert found["labels"].tolist() == [[b"red", b"green", b"blue"]]
    assert np.allclose(found["probabilities"][0], expected, atol=1e-6)
    assert np.allclose(found["probability"], found["probabilities"][:, :1])
    assert found["probabilities"].dtype == np.float32


@pytest.mark.parametrize("count", range(1, 9))
def test_a_batch_answers_as_its_items_alone(model, ask, count):
    """Whatever the batch is split into."""
    rng = np.random.default_rng(count)
    batch = rng.integers(0, 255, (count, 32, 32, 3), dtype=np.uint8)
    [together] = model.execute([ask("pixels", batch, "probabilities")])
    alone = model.execute([ask("pixels", batch[i : i + 1], "probabilities") for i in range(count)])
    rows = np.concatenate([answer.values()["probabilities"] for answer in alone])
    assert np.allclose(together.values()["probabilities"], rows, atol=1e-5)


def test_pixels_answer_as_the_encoded_image(model, ask):
    colour = (10, 200, 90)
    encoded, raw = model.execute(
        [
            ask("image", images(picture(colour, 48)), "embedding"),
            ask("pixels", pixels(colour, size=48), "embedding"),
        ]
    )
    assert np.allclose(encoded.values()["embedding"], raw.values()["embedding"], atol=1e-5)


def test_a_bad_image_fails_alone(model, ask):
    [answer] = model.execute([ask("image", images(picture("red"), b"junk", picture("blue")), *EVERYTHING)])
    found = answer.values()
    assert found["label"].tolist() == [[b"red"], [b""], [b"blue"]]
    assert found["probability"][1, 0] == 0.0
    assert found["embedding"][1].tolist() == [0.0, 0.0, 0.0]
    assert found["labels"][1].tolist() == [b"", b"", b""]
    assert found["abstain"].tolist() == [[False], [True], [False]]
    assert found["error"][1, 0].startswith(b"not_an_image: ")


def test_only_bad_images_are_answered_too(model, ask):
    [answer] = model.execute([ask("image", images(b"", b"junk"), "label", "error")])
    assert answer.values()["label"].tolist() == [[b""], [b""]]
    assert [error.split(b":")[0] for error in answer.values()["error"][:, 0]] == [b"empty", b"not_an_image"]


def test_a_request_that_cannot_see_its_failure_fails_as_a_whole(model, ask):
    [bad, good] = model.execute(
        [ask("image", images(picture("red"), b"junk"), "label"), ask("image", images(picture("red")), "label")]
    )
    assert bad.error.code == 3
    assert "not_an_image" in str(bad.error)
    assert good.error is None


def test_pixels_without_pixels_are_an_error(model, ask):
    [answer] = model.execute([ask("pixels", np.zeros((1, 0, 5, 3), np.uint8), "error")])
    assert answer.values()["error"][0, 0].startswith(b"empty: ")


@pytest.mark.parametrize("inputs", [0, 2])
def test_not_exactly_one_input_is_refused(model, ask, inputs):
    request = ask("image", images(picture("red")), "label")
    request.tensors *= inputs
    [answer] = model.execute([request])
    assert "one of the inputs" in str(answer.error)


def test_below_the_threshold_it_abstains(model, ask):
    [answer] = model.execute([ask("image", images(picture(NEUTRAL), picture("red")), "abstain")])
    assert answer.values()["abstain"].tolist() == [[True], [False]]


def test_what_was_answered_is_counted(model, ask, pb_utils):
    model.execute([ask("image", images(picture("red"), b"junk"), "error")])
    model.execute([ask("image", images(picture(NEUTRAL)), "error")])
    model.finalize()
    made = pb_utils.MetricFamily.made
    counts = {metric.labels["outcome"]: metric.value for metric in made["titrate_predictions_total"]}
    assert counts == {"ok": 2, "not_an_image": 1}
    assert [metric.value for metric in made["titrate_abstentions_total"]] == [1]
    bands = {metric.labels["band"]: metric.value for metric in made["titrate_confidence_total"]}
    assert sum(bands.values()) == 2
    assert bands["0.3"] == 1
    [execution] = made["titrate_execution_seconds"]
    assert len(execution.observed) == 2
    assert execution.labels["release"] == "c0ffee"
    assert execution.buckets[-3:] == [0.5, 1.0, 2.0]


def half_dark():
    """An image whose right half is dark: where the colour model looks."""
    image = np.full((1, 32, 32, 3), 255, np.uint8)
    image[:, :, 16:] = 0
    return image


def test_an_explanation_is_the_image_under_the_map_of_where_the_network_looked(model, ask):
    [answer] = model.execute([ask("pixels", half_dark(), "label", "explanation")])
    drawn = np.asarray(Image.open(io.BytesIO(answer.values()["explanation"][0, 0]))).astype(int)
    assert drawn.shape == (32, 32, 3)
    light, dark = drawn[:, :8].mean(axis=(0, 1)), drawn[:, 24:].mean(axis=(0, 1))
    assert light.min() > 150, "little evidence: the image shines through"
    assert dark[0] > dark[2] + 50, "much evidence: warm colours"


def test_an_explanation_belongs_to_its_own_item_and_is_drawn_for_no_other_request(model, ask):
    alone, other = (pixels((255, 255, 255)), pixels((0, 0, 0)))
    several = ask("image", images(picture("white"), b"junk", picture("black")), "explanation", "error")
    first, mixed, *_ = model.execute(
        [
            ask("pixels", alone, "explanation"),
            several,
            ask("pixels", other, *EVERYTHING),
        ]
    )
    drawn = mixed.values()["explanation"][:, 0]
    assert drawn[0] == first.values()["explanation"][0, 0]
    assert drawn[1] == b""
    assert drawn[2][:4] == b"\x89PNG"
    assert drawn[2] != drawn[0]


def test_who_names_no_outputs_gets_no_drawing(model, ask):
    """Triton shows such a request as one that names all."""
    [answer] = model.execute([ask("pixels", half_dark(), *EVERYTHING)])
    assert answer.values()["explanation"].tolist() == [[b""]]
