import pytest

from backdoor.errors import UserError
from backdoor.pruning.orders import check_order


def test_an_unknown_order_is_answered_with_the_choices():
    with pytest.raises(UserError, match=r"expected one of asc, desc, .*, got 'up'"):
        check_order("up")
