import pytest

from backdoor.pruning.orders import check_order


def test_an_unknown_order_is_answered_with_the_choices():
    with pytest.raises(ValueError, match="expected one of asc, desc, got 'up'"):
        check_order("up")
