"""No secret is in anything that comes out of a call, working or failing, through any door."""

from __future__ import annotations

import pytest
from hunt import DOORS, KEY, OUTCOMES, hunted

from allos import keys


@pytest.mark.fault("C4")
def test_a_hunt_through_all_that_comes_out_finds_no_secret():
    hunt = hunted()
    assert (hunt.doors, hunt.outcomes) == (len(DOORS) + 1, len(OUTCOMES))
    assert hunt.searched["the libraries' standard output"] > 100_000, "the calls were made"
    assert hunt.searched["their log at DEBUG and standard error"] > 100_000, "the log was on"
    assert hunt.searched["the file state.db"] > 0
    assert hunt.found == ()


def test_a_key_is_masked_also_where_an_address_quotes_it():
    from pydantic import SecretStr

    known = SecretStr(KEY)
    keys.remember(known)
    assert keys.masked("https://own.test/?key=marked.key%2Fof-no-known_form-7301") == "https://own.test/?key=***"
