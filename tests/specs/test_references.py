"""References, addresses, layers, ranks and result paths."""

from __future__ import annotations

from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from specs.language.references import (
    Address,
    Reference,
    ResultPath,
    looks_like_address,
    parse_address,
    parse_rank,
    parse_reference,
    parse_result_path,
    resolve_layers,
)


@pytest.mark.parametrize(
    ("text", "address"),
    [
        ("L1.N11948", Address("mlp.neurons", 1, 11948)),
        ("gate:L1.N5", Address("mlp.gate", 1, 5)),
        ("mlp.gate:L1.N5", Address("mlp.gate", 1, 5)),
        ("attn.out:L0.N3", Address("attn.out", 0, 3)),
        ("L23.N8079@-1", Address("mlp.neurons", 23, 8079, -1)),
        ("path:model.layers.3.mlp:L3.N1", Address("path:model.layers.3.mlp", 3, 1)),
    ],
)
def test_an_address_is_site_layer_neuron_and_token(text: str, address: Address) -> None:
    assert parse_address(text) == address


@pytest.mark.parametrize("text", ["L1.11948", "l1.n5", "L1N5", "layer 3 neuron 7", "foo:L1.N5", "L1/N5"])
def test_what_was_meant_as_an_address_is_known_as_such(text: str) -> None:
    assert parse_address(text) is None
    assert looks_like_address(text)


@pytest.mark.parametrize("text", ["cell", "cell/ada", "L", "london", "l2norm", "4-9", "Layer"])
def test_a_name_is_not_taken_for_an_address(text: str) -> None:
    assert not looks_like_address(text)


sites = st.sampled_from(["mlp.neurons", "mlp.gate", "mlp.up", "mlp.out", "attn.heads", "attn.q", "resid"])
addresses = st.builds(Address, sites, st.integers(0, 200), st.integers(0, 10**6), st.none() | st.integers(-99, 99))


@given(addresses)
def test_an_address_written_and_read_is_itself(address: Address) -> None:
    assert parse_address(str(address)) == address


def test_a_reference_is_a_name_and_a_key() -> None:
    assert parse_reference("cell") == Reference("cell")
    assert parse_reference("cell/ada/surname") == Reference("cell", ("ada", "surname"))
    assert parse_reference("cell/Dr. John").group == "Dr. John"
    with pytest.raises(ValueError, match="write name or name/key"):
        parse_reference("cell//ada")


@pytest.mark.parametrize(
    ("places", "n_layers", "layers"),
    [
        (["4"], 12, (4,)),
        (["4-6", "5-7"], 12, (4, 5, 6, 7)),
        (["80%-100%"], 10, (8, 9)),
        (["80%-100%"], 28, (22, 23, 24, 25, 26, 27)),
        (["0%-100%"], 3, (0, 1, 2)),
        (["80%"], 28, (22,)),
        (["100%"], 28, (27,)),
    ],
)
def test_places_are_layers(places: list[str], n_layers: int, layers: tuple[int, ...]) -> None:
    assert resolve_layers(places, n_layers) == layers


def test_a_layer_out_of_range_is_refused_with_the_range() -> None:
    with pytest.raises(ValueError) as caught:
        resolve_layers(["22", "27"], 18, "gemma3-270m")
    assert str(caught.value) == (
        "layer 22 is out of range: gemma3-270m has layers 0-17. 80%-100% means the last fifth of any model"
    )
    with pytest.raises(ValueError, match="layer 27 is out of range"):
        resolve_layers(["4-27"], 18)


def test_a_share_too_narrow_for_a_layer_is_refused() -> None:
    with pytest.raises(ValueError, match="hold none of the 4 layers"):
        resolve_layers(["0%-5%"], 4)


@given(st.integers(1, 200), st.lists(st.integers(1, 99), unique=True, max_size=4))
def test_adjoining_shares_are_all_layers_once(n_layers: int, cuts: list[int]) -> None:
    bounds = [0, *sorted(cuts), 100]
    found: list[int] = []
    for low, high in pairwise(bounds):
        try:
            found.extend(resolve_layers([f"{low}%-{high}%"], n_layers))
        except ValueError as error:
            assert "hold none" in str(error)
    assert found == list(range(n_layers))


@given(st.integers(0, 50), st.integers(0, 50))
def test_a_range_holds_both_its_ends(first: int, length: int) -> None:
    last = first + length
    assert resolve_layers([f"{first}-{last}"], 101) == tuple(range(first, last + 1))


def test_ranks_begin_at_one() -> None:
    assert parse_rank("3") == (3, 3)
    assert parse_rank("11-50") == (11, 50)
    with pytest.raises(ValueError, match="the first rank is 1"):
        parse_rank("0")
    with pytest.raises(ValueError, match="write 1-5"):
        parse_rank("5-1")


@pytest.mark.parametrize(
    ("text", "path"),
    [
        ("cell/ada", ResultPath("cell", "ada")),
        ("cell/ada/korean", ResultPath("cell", "ada/korean")),
        ("verified/random_neurons/size", ResultPath("verified", None, "random_neurons", quantity="size")),
        (
            "silence/ada/others/pass@5/scale=-3",
            ResultPath("silence", "ada", None, "others", (("scale", "-3"),), "pass@5"),
        ),
        (
            "a/ada/clean/relation=town/times=5/answer_rank",
            ResultPath("a", "ada", "clean", None, (("relation", "town"), ("times", "5")), "answer_rank"),
        ),
        ("overlap/father/mother", ResultPath("overlap", "father/mother")),
    ],
)
def test_a_result_path_says_whose_number_it_is(text: str, path: ResultPath) -> None:
    assert parse_result_path(text) == path


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("silence//pass@5", "a part between / is empty"),
        ("silence/scale=", "is not an axis and its value"),
        ("silence/scale=1/scale=2/pass@5", "gives scale twice"),
        ("silence/clean/no_edit/pass@5", "names two conditions"),
        ("silence/target/others/pass@5", "names two roles"),
    ],
)
def test_a_broken_result_path_is_refused(text: str, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        parse_result_path(text)
