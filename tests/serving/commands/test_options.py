import pytest

from serving.commands.options import Connection, space_of


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
