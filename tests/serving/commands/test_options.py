import pytest
import typer

from serving.commands.options import Connection, composition_of, space_of, split


@pytest.mark.parametrize(
    ("written", "meant"),
    [
        ("127.0.0.1:8000", "http://127.0.0.1:8000"),
        ("https://chorus.example/", "https://chorus.example"),
        ("http://[::1]:80", "http://[::1]:80"),
    ],
)
def test_a_service_may_be_named_without_a_scheme(written, meant):
    with Connection(written, None).client() as client:
        assert client.url == meant


def test_the_flag_chooses_the_namespace():
    with Connection("localhost", "ck_x").client() as client:
        assert space_of(client, embedding=True) is client.token_embeddings
        assert space_of(client, embedding=False) is client.adapters


def test_a_composition_is_the_short_form_or_json():
    assert composition_of("lang+task@3~klingon") == "lang+task@3~klingon"
    assert composition_of(' {"parallel": ["a", "b"]}') == {"parallel": ["a", "b"]}
    assert composition_of('["a"]') == ["a"]
    with pytest.raises(typer.BadParameter, match="is not JSON") as caught:
        composition_of("[a]")
    assert caught.value.param_hint == "--adapters"


def test_a_list_is_written_with_commas():
    assert split("a, b") == ("a", "b")
    assert split("") is None
