import pytest
import torch

from tests.conformance.generated import same


@pytest.mark.parametrize(
    ("tokens", "wanted", "agree"),
    [
        ([4, 5, 6], [4, 5, 6], True),
        ([4, 5], [4, 5, 3, 3], True),
        ([4, 5, 3], [4, 5], True),
        ([4, 5], [4, 5, 6], False),
        ([4, 5, 6], [4, 7, 6], False),
        ([5, 4], [4, 5], False),
    ],
)
def test_rows_agree_up_to_padding_behind_their_ends(tokens, wanted, agree):
    assert same(torch.tensor(tokens), torch.tensor(wanted), pad=3) == agree
