"""What all pages share."""

from reports.page import breakable


def test_a_long_name_wraps_between_its_words_and_is_escaped() -> None:
    assert breakable("maestro2_3d_macula") == "maestro2_<wbr>3d_<wbr>macula"
    assert breakable("embedding+age <b>") == "embedding+<wbr>age &lt;b&gt;"
    assert breakable("healthy") == "healthy"
