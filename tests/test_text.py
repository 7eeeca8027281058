"""NFKC by the short way: the same as Unicode's own for every text."""

import unicodedata

from hypothesis import example, given, settings
from hypothesis import strategies as st

from medtune.common.text import FULL_WIDTH, nfkc

SIGNS = st.sampled_from([*FULL_WIDTH, "\u0338", "\u0301", "e", "ａ", "㎎", "①", "头", "痛", "<"])


@settings(max_examples=500, deadline=None, derandomize=True, database=None)
@given(text=st.text(alphabet=SIGNS | st.characters(), max_size=30))
@example(text="".join(FULL_WIDTH) + "\u0338\u0301")
def test_short_way_is_nfkc(text: str) -> None:
    assert nfkc(text) == unicodedata.normalize("NFKC", text)
