"""ConvNN and its attention form equal the definition, in value and in gradient, for every choice of options."""

import random
from itertools import product

import pytest
import torch
from support import reference_layers as reference

from convnn.layers import ConvNN1d, ConvNN2d, ConvNNAttention1d, ConvNNAttention2d
from convnn.layers.attention import attention_definition
from convnn.layers.convnn import convnn_definition

SIDES = {1: (12,), 2: (4, 6)}
SAMPLINGS = (("all", -1, 0), ("random", 7, 0), ("spatial", 3, 0))
OPTIONS = [
    *product((1, 2), ("cosine", "euclidean"), SAMPLINGS, (0, 1), ("NA", "BA")),
    *product((1, 2), ("cosine",), SAMPLINGS[:1], (1,), ("B", "A")),
]
SHUFFLED = random.Random(0).sample(OPTIONS, len(OPTIONS))
HALVES = pytest.mark.parametrize("half", [0, pytest.param(1, marks=pytest.mark.torture)])


def options_of(half: int, *form: str) -> list[tuple]:
    """One half of the options, and the other one for a form with other coordinates; `make torture` takes the rest.

    So each option is tried with each similarity, and with attention, beside one aggregation or the other.
    """
    return SHUFFLED[(half + form.count("Loc_Col")) % 2 :: 2]


def make_layer(kind, dims: int, metric: str, sampling, padding: int, pattern: str, **options):
    layer = {("nn", 1): ConvNN1d, ("nn", 2): ConvNN2d, ("at", 1): ConvNNAttention1d, ("at", 2): ConvNNAttention2d}
    names = dict(zip(("sampling_type", "num_samples", "sample_padding"), sampling, strict=True))
    shuffled = {"shuffle_pattern": pattern, "shuffle_scale": 2 if pattern != "NA" else 0}
    torch.manual_seed(3)
    options = {"K": 3, "padding": padding, "magnitude_type": metric} | names | shuffled | options
    layer = layer[kind, dims](2, 2, **options).double().eval()
    return layer, torch.randn(2, 2, *SIDES[dims], dtype=torch.float64)


def random_candidates(layer, sides):
    """The fixed candidates of evaluation as positions of the padded map, None for other samplings."""
    sides = [side // 2 for side in sides] if "B" in layer.shuffle_pattern else sides
    pool = layer.pool(sides, torch.device("cpu"))
    if pool is None or layer.sampling.sampling_type != "random":
        return None
    outer = [side + 2 * layer.padding for side in sides]
    return list(zip(*(line.tolist() for line in torch.unravel_index(pool, outer)), strict=True))


def check(layer, x) -> None:
    names, parameters = zip(*layer.named_parameters(), strict=True)

    def outputs(images, *values):
        return torch.func.functional_call(layer, dict(zip(names, values, strict=True)), (images,))

    expected = reference.forward(layer, x, random_candidates(layer, x.shape[2:]))
    for count in (len(x), 1):  # one small image goes a way of its own
        images = x[:count].clone().requires_grad_()
        torch.testing.assert_close(layer(images), expected[:count])
        assert torch.autograd.gradcheck(outputs, (images, *parameters), fast_mode=True)


@pytest.mark.parametrize("similarity", ["Loc", "Col", "Loc_Col"])
@pytest.mark.parametrize("aggregation", ["Col", "Loc_Col"])
@HALVES
def test_convnn_equals_its_reference(similarity, aggregation, half):
    for dims, metric, sampling, padding, pattern in options_of(half, similarity, aggregation):
        if similarity == "Loc" and metric == "euclidean":
            continue  # locations are compared in one way
        pad_in_pool = padding and (sampling[0] != "spatial" or "B" in pattern)
        if similarity != "Loc" and aggregation == "Loc_Col" and pad_in_pool:
            continue  # pad ties with pad, and which of it is chosen shows in the coordinates
        options = {"similarity_type": similarity, "aggregation_type": aggregation, "lambda_param": 0.3}
        check(*make_layer("nn", dims, metric, sampling, padding, pattern, **options))


@pytest.mark.parametrize("aggregation", ["Col", "Loc_Col"])
@pytest.mark.parametrize("K", [1, 3])
@HALVES
def test_attention_equals_its_reference(aggregation, K, half):
    for dims, metric, sampling, padding, pattern in options_of(half, aggregation):
        if K == 1 and pattern != "NA":
            continue
        layer, x = make_layer("at", dims, metric, sampling, padding, pattern, K=K, aggregation_type=aggregation)
        layer.depthwise.bias.data.normal_()
        layer.depthwise.weight.data.normal_()
        check(layer, x)


@pytest.mark.parametrize("kind", ["nn", "at"])
@pytest.mark.parametrize("dims", [1, 2])
@pytest.mark.parametrize("padding", [0, 1])
def test_one_neighbor_and_all_of_them(kind, dims, padding):
    for aggregation, metric in product(("Col", "Loc_Col"), ("cosine", "euclidean")):
        total = 1
        for side in SIDES[dims]:
            total *= side + 2 * padding
        for K in (1, total):
            if K > 1 and padding and (aggregation == "Loc_Col" and kind == "nn"):
                continue  # pad ties with pad, and its coordinates show
            check(*make_layer(kind, dims, metric, SAMPLINGS[0], padding, "NA", K=K, aggregation_type=aggregation))


@pytest.mark.parametrize("kind", ["nn", "at"])
def test_a_layer_takes_maps_of_any_size(kind):
    layer, x = make_layer(kind, 2, "cosine", SAMPLINGS[0], 1, "NA", K=5)
    for sides in ((4, 6), (7, 3), (1, 1), (1, 5), (2, 2)):
        for images in (1, 2):
            x = torch.randn(images, 2, *sides, dtype=torch.float64)
            torch.testing.assert_close(layer(x), reference.forward(layer, x))


@pytest.mark.parametrize("metric", ["cosine", "euclidean"])
@pytest.mark.parametrize("similarity", ["Col", "Loc_Col"])
def test_the_chosen_score_as_well_as_the_best_where_scores_tie(metric, similarity):
    layer, _ = make_layer(
        "nn", 2, metric, SAMPLINGS[0], 1, "NA", K=6, similarity_type=similarity, aggregation_type="Loc_Col"
    )
    x = torch.randint(-1, 2, (3, 2, 4, 6)).double()
    x[2] = 1.0
    for image, index in zip(x, layer._neighbor_index(x, (4, 6)), strict=True):
        vectors = reference.compared_vectors(reference.pad_map(image, 1), [6, 8], similarity, layer.lambda_param)
        positions, queries = list(vectors), reference.queries_of((4, 6), 1)

        def score(a, b, vectors=vectors):
            return reference.similarity(metric, vectors[a], vectors[b])

        expected = reference.nearest(queries, positions, layer.K, score)
        for query, best, row in zip(queries, expected, index.tolist(), strict=True):
            neighbors = [positions[number] for number in row]
            assert neighbors[0] == query
            assert len(set(neighbors)) == layer.K
            scores = torch.tensor([[score(query, position) for position in row] for row in (neighbors, best)])
            torch.testing.assert_close(scores[0], scores[1])


@pytest.mark.parametrize("dims", [1, 2])
@pytest.mark.parametrize("padding", [0, 1])
def test_convnn_equals_its_definition_in_plain_torch(dims, padding):
    layer, x = make_layer("nn", dims, "cosine", SAMPLINGS[0], padding, "NA")
    torch.testing.assert_close(layer(x), convnn_definition(x, layer.weight, layer.bias, padding))


@pytest.mark.parametrize("dims", [1, 2])
def test_attention_equals_its_definition_in_plain_torch(dims):
    layer, x = make_layer("at", dims, "cosine", SAMPLINGS[0], 0, "NA")
    layer.depthwise.weight.data.normal_()
    torch.testing.assert_close(layer(x), attention_definition(layer, x))
